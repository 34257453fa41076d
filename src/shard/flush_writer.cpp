#include "shard/flush_writer.h"

#include <utility>

#include "base/thread_name.h"

namespace workmill::shard {
namespace {
// The writer wakes up by itself this often, for nothing: a bound on every wait.
constexpr std::chrono::seconds kIdleWait{10};
}  // namespace

FlushWriter::FlushWriter(log::Log& log, Clock const& clock, std::move_only_function<void()> wake)
    : log_(log), clock_(clock), wake_(std::move(wake)), thread_([this] { run(); }) {}

FlushWriter::~FlushWriter() {
  {
    Lock const lock{mutex_};
    stopping_ = true;
  }
  asked_.notify_one();
  thread_.join();
}

void FlushWriter::request(std::uint64_t batch) {
  {
    Lock const lock{mutex_};
    if (batch <= requested_) return;
    requested_ = batch;
  }
  asked_.notify_one();
}

FlushWriter::Progress FlushWriter::progress() const {
  Lock const lock{mutex_};
  return progress_;
}

void FlushWriter::run() {
  name_this_thread("wm-flush");
  for (;;) {
    std::uint64_t batch = 0;
    {
      Lock const lock{mutex_};
      while (!stopping_ && requested_ <= progress_.durable) {
        asked_.wait_for(mutex_, kIdleWait);
      }
      if (stopping_) return;
      batch = requested_;  // What is staged later may be flushed along; it is only known to be from its own request on.
    }
    auto const start = clock_.monotonic();
    auto flushed = log_.flush();
    auto const took = clock_.monotonic() - start;
    bool const is_durable = flushed.has_value();
    {
      Lock const lock{mutex_};
      progress_.last = took;
      progress_.total += took;
      progress_.flushes += 1;
      if (is_durable)
        progress_.durable = batch;
      else
        progress_.error = std::move(flushed).error();
    }
    wake_();
    if (!is_durable) return;
  }
}

}  // namespace workmill::shard
