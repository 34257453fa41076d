#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "base/error.h"
#include "base/guarded.h"
#include "base/time.h"
#include "log/log.h"

// Flushes the log on a thread of its own, so that a slow disk does not hold up the next turn. An interface, once a
// batch, since in the simulation a flush is over when the simulator says so.
//
// The shard asks for flushes and looks at what came of them; only flush() of the log is called over here. Asking while
// a flush runs is enough: the next one takes everything that was staged meanwhile, however many turns that was.
namespace workmill::shard {

class Flusher {
 public:
  struct Progress {
    std::uint64_t durable = 0;  // The newest batch that a finished flush has covered.
    std::uint64_t flushes = 0;
    std::chrono::nanoseconds last{};  // How long the last flush took.
    std::chrono::nanoseconds total{};
    std::optional<Error> error;  // A flush failed. There is no flush after it.
  };

  virtual ~Flusher() = default;
  // Everything staged up to batch number `batch` is to be flushed.
  virtual void request(std::uint64_t batch) = 0;
  virtual Progress progress() const = 0;
};

class FlushWriter final : public Flusher {
 public:
  // `wake` is called on the writer's thread after each flush; it must not block. What is lent outlives the writer.
  FlushWriter(log::Log& log, Clock const& clock, std::move_only_function<void()> wake);
  ~FlushWriter() override;  // Finishes the flush that is under way, and starts no other.
  FlushWriter(FlushWriter const&) = delete;
  FlushWriter& operator=(FlushWriter const&) = delete;

  void request(std::uint64_t batch) override;
  Progress progress() const override;

 private:
  void run();

  log::Log& log_;
  Clock const& clock_;
  std::move_only_function<void()> wake_;
  mutable Mutex mutex_;
  Condition asked_;
  std::uint64_t requested_ WM_GUARDED_BY(mutex_) = 0;
  bool stopping_ WM_GUARDED_BY(mutex_) = false;
  Progress progress_ WM_GUARDED_BY(mutex_);
  std::thread thread_;  // Last, so that all it uses is there before it starts.
};

}  // namespace workmill::shard
