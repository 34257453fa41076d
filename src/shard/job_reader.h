#pragma once
#include "base/error.h"
#include "log/log.h"
#include "model/reply.h"

// Reads back from the log what the engine does not keep in memory: specs, and what became of jobs.
//
// On the shard's thread. Records may be durable, staged, or still in the batch that is being filled: `open_batch` lends
// that one, so that a turn can read what it has just written.
namespace workmill::shard {

class JobReader {
 public:
  explicit JobReader(log::Log& log) : log_(log) {}

  // The batch that is being filled: its bytes live in `payload` and will stand at `base`. Null: none is.
  void set_open_batch(Position base, Bytes const* payload) {
    base_ = base;
    open_ = payload;
  }

  // One whole record of known length, or one whose length stands in its header. Lent until the next read of the log.
  Result<BytesView> record(Position at, std::uint32_t bytes);
  Result<BytesView> record(Position at);

  // The spec in the record at `at`, as encode_spec wrote it.
  Result<Bytes> spec(Position at, std::uint32_t bytes);

  // Fills in `view.spec` and `view.history` (without log lines).
  Result<> fill(JobView& view);
  // The newest lines that the job's workers logged, oldest first; kLogBytesKept in all.
  Result<std::vector<Bytes>> log_lines(JobView const& view);

 private:
  Result<BytesView> bytes(Position at, std::size_t length);

  log::Log& log_;
  Position base_{};
  Bytes const* open_ = nullptr;
};

}  // namespace workmill::shard
