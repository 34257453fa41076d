#pragma once
#include <optional>

#include "base/error.h"
#include "engine/engine.h"
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

  // Is the segment still there, or was it dropped?
  bool is_kept(Position at) const;

  // As log::Log has it.
  std::move_only_function<void()> fetch(Position at, std::uint32_t bytes);

  // The spec in the record at `at`, as encode_spec wrote it.
  Result<Bytes> spec(Position at, std::uint32_t bytes);

  // What stands at `at`, a LeasedJob's or JobView's checkpoint_at; none where that is no position. log_corrupt.
  Result<JobCheckpoint> checkpoint(Position at);

  // Fills in `view.spec`, `view.history` (without log lines) and `view.checkpoint`.
  Result<> fill(JobView& view);
  // As fill(), over what is damaged on the disk: in place of the spec stands what `engine` knows of it, what became of
  // the job goes back as far as it can be read, and the checkpoint is lost. Then the newest error of the history says
  // so, as of `now`, and the answer is what was wrong. io_failed.
  Result<std::optional<Error>> fill_over_damage(JobView& view, engine::Engine const& engine, Instant now);
  // Puts that at the front of the errors, where it does not stand already.
  static void say_damaged(JobView& view, Instant now);
  // The newest lines that the job's workers logged, oldest first; kLogBytesKept in all, a line's end being a byte.
  Result<std::vector<Bytes>> log_lines(JobView const& view);

 private:
  Result<> fill_history(JobView& view);  // As far as it can be read.
  Result<> follow_events(JobView& view);
  Result<BytesView> bytes(Position at, std::size_t length);

  log::Log& log_;
  Position base_{};
  Bytes const* open_ = nullptr;
};

}  // namespace workmill::shard
