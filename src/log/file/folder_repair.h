#pragma once
#include <memory>
#include <string>

#include "base/error.h"
#include "log/file/fd.h"

// Puts a log that was rebuilt in the place of a damaged one. The damaged segments are moved into a folder beside it and
// nothing of them is changed, so that whoever does not like the result can take them back.
//
// May be cut short at any point: until the new log is in its place no server starts on the folder, and beginning again
// finishes it. One thread; holds the folder's lock.
namespace workmill::log {

class FolderRepair {
 public:
  // log_in_use, io_failed.
  static Result<FolderRepair> begin(std::string folder);

  // A repair was cut short when the new log was whole already: only finish() is left.
  bool is_half_done() const;
  // An empty folder on the same file system: for the new log, which must be closed before finish().
  Result<std::string> make_room();
  // Moves the segments of the damaged log into `aside` (a name, made in the folder) and the new ones in. The path of
  // the former.
  Result<std::string> finish(std::string const& aside);
  // Takes away what make_room() made.
  void give_up();

 private:
  FolderRepair(std::string folder, Fd folder_fd, Fd lock)
      : folder_(std::move(folder)), folder_fd_(std::move(folder_fd)), lock_(std::move(lock)) {}

  std::string folder_;
  Fd folder_fd_;
  Fd lock_;
};

// True where a repair of this folder was begun to be put in place and is not done.
bool has_unfinished_repair(int folder_fd);

}  // namespace workmill::log
