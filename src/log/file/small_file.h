#pragma once
#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

// A small file that is read whole and replaced whole, beside the log or elsewhere: a reader, and whoever comes after a
// power cut, finds the old one or the new one and nothing in between.
namespace workmill::log {

struct SmallFile {
  std::string bytes;
  mode_t mode = 0;  // Its permissions.
};

// Nothing where there is no such file. io_failed where it cannot be read, is no ordinary file, or is over `bytes_max`.
Result<std::optional<SmallFile>> read_small_file(std::string const& path, std::size_t bytes_max);

// What `change` makes of the file's bytes (nothing: there is none yet) takes its place, with these permissions whatever
// it had. Others who call this for the same folder wait meanwhile, also in other processes. Where `change` fails, so
// does this, and nothing has happened. A symbolic link is replaced, not followed.
using Change = std::move_only_function<Result<std::string>(std::optional<std::string> const&)>;
Result<> change_small_file(std::string const& path, mode_t mode, std::size_t bytes_max, Change change);

// `bytes` take its place, whatever it had. Waits for nobody but the disk: for a file that one process alone writes.
Result<> replace_small_file(std::string const& path, mode_t mode, std::string_view bytes);

}  // namespace workmill::log
