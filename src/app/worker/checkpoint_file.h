#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace workmill::app {

// A folder of this process for the checkpoints of its commands, in TMPDIR or /tmp, gone with it. What is in it is ours
// alone to read.
class CheckpointFolder {
 public:
  // io_failed.
  static Result<CheckpointFolder> make();
  CheckpointFolder(CheckpointFolder&& other) noexcept;
  CheckpointFolder& operator=(CheckpointFolder&&) = delete;
  ~CheckpointFolder();
  std::string const& path() const { return path_; }

 private:
  explicit CheckpointFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;  // Empty: moved from.
};

// Where a command finds what an earlier attempt of its job left, and leaves what the next one is to get. The file is
// not there until somebody writes it; it goes with this.
//
// A command may write it in place: what is no whole JSON value is passed over until it is one. To be sure never to lose
// the one before, it writes another file and renames it.
class CheckpointFile {
 public:
  // `name`: a file of the folder, and nobody else's. `left`: JSON, or empty. io_failed.
  static Result<CheckpointFile> make(CheckpointFolder const& folder, std::string_view name, std::string_view left);
  CheckpointFile(CheckpointFile&& other) noexcept;
  CheckpointFile& operator=(CheckpointFile&&) = delete;
  ~CheckpointFile();
  std::string const& path() const { return path_; }

  // What stands there where it is another checkpoint than before: JSON of kCheckpointBytesMax bytes at most.
  std::optional<std::string> take_new();

 private:
  CheckpointFile(std::string path, std::string_view left) : path_(std::move(path)), seen_(left) {}
  std::string path_;
  std::string seen_;
};

}  // namespace workmill::app
