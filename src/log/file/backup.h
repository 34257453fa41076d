#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/time.h"

// A copy of a log in one file, taken while a server writes on, or none does; and the way back.
//
// The folder is read, the server is not asked: frames say for themselves where they stand, whose they are and whether
// they are whole, so that a copy of whole frames, from the oldest segment that was still needed up to some frame, is a
// log like any other (docs/adr/0008-backup.md). Everything that was acknowledged before the call is in it.
//
// A second backup into the same file adds what is new: segments only grow, and only the oldest go. The layout of the
// file is in docs/log-format.md. Until a backup is whole the file stands for the one before it.
namespace workmill::log {

using BackupProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;  // Bytes; may be empty.

struct BackupReport {
  std::uint32_t segments = 0;
  std::uint64_t bytes = 0;         // Of the log, as it is in the backup now.
  std::uint64_t copied_bytes = 0;  // Of these: copied by this call.
  std::uint64_t frames = 0;
  Instant last_at{};       // Time of the newest batch.
  bool rewritten = false;  // Made anew, since more than half of the file was no longer of use.
};

// log_corrupt, with file and offset, where something in the folder is damaged that should be whole, and where `file` is
// something else than a backup, or a damaged one; io_failed, disk_full.
Result<BackupReport> back_up(std::string const& folder, std::string const& file, BackupProgress const& on_progress);

struct RestoreReport {
  std::uint32_t segments = 0;
  std::uint64_t bytes = 0;
  std::uint64_t frames = 0;
  Instant last_at{};
};

// Into a folder that is empty, or made here. Every checksum is looked at, and what was written is read again. On an
// error (log_corrupt with the place in the backup, io_failed, disk_full) the folder is left empty.
Result<RestoreReport> restore(std::string const& file, std::string const& folder, BackupProgress const& on_progress);

}  // namespace workmill::log
