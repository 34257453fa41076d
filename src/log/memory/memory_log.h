#pragma once
#include <memory>

#include "log/memory/memory_disk.h"
#include "log/segment_log.h"

// The reference device: the log over a MemoryDisk. Destroying the log without more is a killed process; what the disk
// does then is up to the disk. No threads of its own, so flush() makes new segments and syncs itself.
namespace workmill::log {

// `disk` outlives the log.
Result<std::unique_ptr<Log>> open_memory_log(MemoryDisk& disk, SegmentLogOptions options = {});

}  // namespace workmill::log
