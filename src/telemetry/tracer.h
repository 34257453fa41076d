#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/channel.h"
#include "base/rng.h"
#include "base/time.h"
#include "telemetry/span.h"

// Decides which traces are recorded, and takes their spans off the hands of whoever has them.
//
// Made by the wiring where spans have somewhere to go (otlp_exporter.h), handed to the parts as a pointer that is null
// where they do not, and outliving them. Any thread. What is not sampled costs its caller a branch, and a draw of
// chance where the request came without a trace; a sampled span costs one try_send to a bounded channel, and is dropped
// and counted where that is full.
namespace workmill::telemetry {

struct TraceFigures {
  std::uint64_t sampled = 0;  // Spans that were recorded.
  std::uint64_t dropped = 0;  // Of these, found the channel full.
  std::size_t queued = 0;
  std::size_t queue_spans_max = 0;
};

class Tracer {
 public:
  // 2,048 is what other tracers have: a second of a busy server at one request in a hundred.
  static constexpr std::size_t kQueueSpansDefault = 2'048;

  // `ratio`, 0 to 1: of the requests that come without a trace, so many begin one.
  Tracer(Clock const& clock, double ratio, std::size_t queue_spans_max = kQueueSpansDefault);
  Tracer(Tracer const&) = delete;
  Tracer& operator=(Tracer const&) = delete;

  // The context of a request's own span, or nothing where it is not recorded. Parent-based: a request that belongs to a
  // trace does as that trace was decided; `ratio` is for those that come without one.
  std::optional<TraceContext> begin(std::optional<TraceContext> const& parent, Rng& chance) {
    if (parent ? !parent->is_sampled() : !draw(chance)) return std::nullopt;
    return parent ? continue_trace(*parent, chance) : start_trace(chance, Sampling::on);
  }
  void set_ratio(double ratio);

  // From the monotonic clock to what spans have: nanoseconds since 1970.
  std::int64_t unix_ns(std::chrono::nanoseconds monotonic) const {
    return wall_offset_ns_.load(std::memory_order_relaxed) + monotonic.count();
  }
  std::int64_t now_ns() const { return unix_ns(clock_.monotonic()); }
  // Follows a wall clock that was set. The exporter calls it before each batch.
  void adjust_clock();

  void emit(Span&& span);
  // For a span that there was no room to keep.
  void drop() {
    sampled_.fetch_add(1, std::memory_order_relaxed);
    dropped_.fetch_add(1, std::memory_order_relaxed);
  }
  // One receiver takes them.
  Channel<Span>& spans() { return spans_; }
  TraceFigures figures() const;

 private:
  bool draw(Rng& chance) const {
    std::uint64_t const threshold = threshold_.load(std::memory_order_relaxed);
    return threshold != 0 && chance.next() <= threshold;
  }
  std::int64_t measured_offset() const;

  Clock const& clock_;
  std::atomic<std::uint64_t> threshold_{0};  // Of 2^64; 0: none.
  std::atomic<std::int64_t> wall_offset_ns_;
  std::atomic<std::uint64_t> sampled_{0};
  std::atomic<std::uint64_t> dropped_{0};
  Channel<Span> spans_;
};

}  // namespace workmill::telemetry
