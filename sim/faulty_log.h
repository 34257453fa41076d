#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/time.h"
#include "log/log.h"
#include "log/memory/memory_disk.h"
#include "log/segment_log.h"
#include "sim/figures.h"
#include "sim/mutation.h"

// What stands between the shard and its log in the simulation: it sees every batch that is staged, so that the model
// can be told of a turn that nobody was answered; it holds the log to its own promise (what was acknowledged comes
// back, whole, in order, once; what was not acknowledged comes back whole or not at all, and never later); and it is
// where the log is broken on purpose (mutation.h).
namespace workmill::sim {

class SimClock final : public Clock {
 public:
  Instant now() const override { return now_; }
  std::chrono::nanoseconds monotonic() const override { return monotonic_; }
  void advance(Duration by) {
    now_ += by;
    monotonic_ += by;
  }
  void set_back(Duration by) { now_ -= by; }

 private:
  Instant now_ = instant_from_ms(1'800'000'000'000);
  std::chrono::nanoseconds monotonic_{};
};

// What is known of a log from outside, over all its owners.
struct LogWatch {
  struct Batch {
    Position base;
    Instant at;
    std::uint64_t bytes = 0;  // Of the payload.
    std::uint64_t hash = 0;
    std::uint64_t serial = 0;
    bool acknowledged = false;  // It must come back.
    bool of_recovery = false;   // Staged by a start that has not come to its end yet.
  };
  std::deque<Batch> batches;      // Oldest first, until their segment is dropped.
  std::uint32_t oldest_kept = 1;  // Earlier segments may have gone.
  std::string complaint;

  bool staged = false;        // Since begin_turn().
  Bytes payload;              // Of the batch that was staged last.
  std::uint64_t serial = 0;   // Of the batch that was staged last,
  std::uint64_t flushed = 0;  // of the newest that a flush has covered,
  std::uint64_t synced = 0;   // of the newest that a power cut must leave,
  std::uint64_t proven = 0;   // and of the newest that a later frame says was durable: damage to it is no torn tail.
  bool is_recovering = false;
  bool is_copying = false;  // Survivors are on their way out of the oldest segment.
  bool is_owned = false;
  std::uint64_t largest_batch = 0;
  std::uint64_t dropped_segments = 0;
  std::uint64_t cut_tails = 0;

  void begin_turn() { staged = false; }
  // Of the newest batch of the life before the start under way: it and all before it are there.
  std::uint64_t survived() const;
  void flush_done(bool is_synced);
  void died(bool is_power_cut);
  Instant newest_at() const { return batches.empty() ? Instant{} : batches.back().at; }
  std::optional<Instant> newest_in_life_at() const;  // The same, starts that came to nothing aside.
  void recovered();
};

struct FaultyLogOptions {
  log::SegmentLogOptions segments;
  Duration slow_flush_max{};        // The clock goes on by up to so much in a flush.
  std::uint32_t slow_permille = 0;  // Of what is read back: the system does not have it in memory.
  Mutation mutation = Mutation::none;
};

class FaultyLog final : public log::Log {
 public:
  // `disk`, `watch`, `clock` and `figures` outlive the log.
  static Result<std::unique_ptr<FaultyLog>> open(log::MemoryDisk& disk, FaultyLogOptions const& options,
                                                 LogWatch& watch, SimClock& clock, Rng chance, Figures& figures);

  Result<Epoch> own() override;
  Result<log::ReplayReport> replay(std::function<Result<>(log::ReplayedBatch const&)> const& visit,
                                   std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) override;
  Position next_base() override { return log_->next_base(); }
  void stage(BytesView payload, Instant at) override;
  Result<> flush() override;
  Result<BytesView> read(Position position, std::size_t length) override { return log_->read(position, length); }
  std::move_only_function<void()> fetch(Position position, std::size_t length) override;
  Result<std::optional<log::ReplayedBatch>> next_batch(Position& cursor) override;
  Result<> skip_damaged(Position& cursor) override { return log_->skip_damaged(cursor); }
  Result<bool> trim_oldest() override;
  log::LogStatus status() const override { return log_->status(); }
  Result<> seal();
  // What the thread for it does under durability interval, and the operating system under os.
  Result<> sync();

 private:
  FaultyLog(log::MemoryDisk& memory, std::unique_ptr<log::Disk> disk, FaultyLogOptions const& options, LogWatch& watch,
            SimClock& clock, Rng chance, Figures& figures);
  Result<> check_replayed(log::ReplayedBatch const& batch, std::size_t& next);

  log::MemoryDisk& memory_;
  std::unique_ptr<log::Disk> disk_;
  FaultyLogOptions options_;
  std::unique_ptr<log::SegmentLog> log_;
  LogWatch& watch_;
  SimClock& clock_;
  Rng chance_;
  Figures& figures_;
  std::uint64_t flushes_ = 0;
};

}  // namespace workmill::sim
