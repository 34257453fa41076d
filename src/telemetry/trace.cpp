#include "telemetry/trace.h"

#include <algorithm>
#include <span>

#include "base/digits.h"

namespace workmill::telemetry {
namespace {

// version 00 - trace-id - parent-id - flags
constexpr std::size_t kTraceIdAt = 3;
constexpr std::size_t kParentIdAt = 36;
constexpr std::size_t kFlagsAt = 53;
constexpr std::uint8_t kForbiddenVersion = 0xff;
constexpr std::uint8_t kKnownFlags = TraceContext::kSampled | TraceContext::kRandomTraceId;

// Lower case only, as the standard wants it.
bool read_hex(std::string_view text, std::span<std::uint8_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (char const c : {text[2 * i], text[2 * i + 1]}) {
      std::uint8_t const digit = hex_value(c);
      if (digit == kNotHex || (c >= 'A' && c <= 'F')) return false;
      out[i] = static_cast<std::uint8_t>(out[i] << 4 | digit);
    }
  }
  return true;
}

void write_hex(std::span<std::uint8_t const> bytes, char* out) {
  for (std::size_t i = 0; i < bytes.size(); ++i) put_hex_byte(out + 2 * i, bytes[i]);
}

bool is_zero(std::span<std::uint8_t const> bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

void fill_random(std::span<std::uint8_t> bytes, Rng& rng) {
  do {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (i % 8 == 0) word = rng.next();
      bytes[i] = static_cast<std::uint8_t>(word >> (8 * (i % 8)));
    }
  } while (is_zero(bytes));  // All zeros mean no id.
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view text) {
  if (text.size() < kTraceparentBytes) return std::nullopt;
  for (std::size_t const at : {kTraceIdAt - 1, kParentIdAt - 1, kFlagsAt - 1}) {
    if (text[at] != '-') return std::nullopt;
  }
  std::array<std::uint8_t, 1> version{};
  std::array<std::uint8_t, 1> flags{};
  TraceContext context;
  bool const is_hex = read_hex(text, version) && read_hex(text.substr(kTraceIdAt), context.trace_id) &&
                      read_hex(text.substr(kParentIdAt), context.parent_id) && read_hex(text.substr(kFlagsAt), flags);
  if (!is_hex || version[0] == kForbiddenVersion) return std::nullopt;
  if (text.size() > kTraceparentBytes && (version[0] == 0 || text[kTraceparentBytes] != '-')) return std::nullopt;
  if (is_zero(context.trace_id) || is_zero(context.parent_id)) return std::nullopt;
  context.flags = flags[0] & kKnownFlags;
  return context;
}

Traceparent format_traceparent(TraceContext const& context) {
  Traceparent text;
  text.fill('-');
  std::array<std::uint8_t, 1> const version{0};
  std::array<std::uint8_t, 1> const flags{context.flags};
  write_hex(version, text.data());
  write_hex(context.trace_id, text.data() + kTraceIdAt);
  write_hex(context.parent_id, text.data() + kParentIdAt);
  write_hex(flags, text.data() + kFlagsAt);
  return text;
}

TraceIdText format_trace_id(TraceContext const& context) {
  TraceIdText text;
  write_hex(context.trace_id, text.data());
  return text;
}

SpanIdText format_span_id(TraceContext const& context) {
  SpanIdText text;
  write_hex(context.parent_id, text.data());
  return text;
}

TraceContext start_trace(Rng& rng, Sampling sampling) {
  TraceContext context;
  fill_random(context.trace_id, rng);
  fill_random(context.parent_id, rng);
  context.flags = TraceContext::kRandomTraceId;
  if (sampling == Sampling::on) context.flags |= TraceContext::kSampled;
  return context;
}

TraceContext continue_trace(TraceContext const& parent, Rng& rng) {
  TraceContext child = parent;
  fill_random(child.parent_id, rng);
  return child;
}

}  // namespace workmill::telemetry
