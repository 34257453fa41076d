#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/rng.h"

// W3C Trace Context: the `traceparent` header, by which a job belongs to the trace of whoever sent it. Values; any
// thread.
namespace workmill::telemetry {

inline constexpr std::size_t kTraceparentBytes = 55;
using Traceparent = std::array<char, kTraceparentBytes>;
using TraceIdText = std::array<char, 32>;
using SpanIdText = std::array<char, 16>;

struct TraceContext {
  static constexpr std::uint8_t kSampled = 0x01;
  static constexpr std::uint8_t kRandomTraceId = 0x02;

  std::array<std::uint8_t, 16> trace_id{};  // Not all zero.
  std::array<std::uint8_t, 8> parent_id{};  // Not all zero. The span that the carrier of this context belongs to.
  std::uint8_t flags = 0;                   // Of the two above; test bits, never the byte.

  bool is_sampled() const { return (flags & kSampled) != 0; }
  bool operator==(TraceContext const&) const = default;
};

// Nothing where the text is no valid traceparent: the caller then starts a trace of its own. Texts of versions still to
// come are understood as far as the standard foresees. Flags that version 00 does not know are dropped.
std::optional<TraceContext> parse_traceparent(std::string_view text);
// As version 00.
Traceparent format_traceparent(TraceContext const& context);
// The trace-id alone, as problem+json and log lines show it.
TraceIdText format_trace_id(TraceContext const& context);
// The parent-id alone: the id of the span that the context is of.
SpanIdText format_span_id(TraceContext const& context);

enum class Sampling : std::uint8_t { off, on };
// A new trace, its id random.
TraceContext start_trace(Rng& rng, Sampling sampling);
// A new span in the same trace, flags as received.
TraceContext continue_trace(TraceContext const& parent, Rng& rng);

}  // namespace workmill::telemetry
