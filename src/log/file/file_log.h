#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/time.h"
#include "log/log.h"

// The default device: the log in a folder of files (docs/log-format.md).
//
// Owns a thread of its own, from own() on, which makes the next segment ahead, looks at the free space once a second,
// and syncs under Durability::interval. Destroying the log closes it in order; a process that dies without doing so
// loses nothing that was flushed.
namespace workmill::log {

struct FileLogOptions {
  std::string folder;  // Made where it is missing; its parent must exist.
  std::uint32_t segment_bytes = std::uint32_t{64} << 20;
  Durability durability = Durability::sync;
  Duration sync_interval{50};                       // Under Durability::interval; at least 1 ms.
  std::size_t recent_bytes = std::size_t{4} << 20;  // What was written last is read from memory: so much of it.
};

// log_in_use where another process has the folder; io_failed, disk_full, bad_configuration.
Result<std::unique_ptr<Log>> open_file_log(FileLogOptions const& options);

}  // namespace workmill::log
