#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "telemetry/trace.h"

// What one step of a request or a job took, in OpenTelemetry's terms. Values; any thread. Made for sampled traces only,
// so they may allocate.
namespace workmill::telemetry {

using SpanId = std::array<std::uint8_t, 8>;

// The numbers are OTLP's.
enum class SpanKind : std::uint8_t { internal = 1, server = 2, client = 3, producer = 4, consumer = 5 };
enum class SpanStatus : std::uint8_t { unset = 0, ok = 1, error = 2 };

struct SpanAttribute {
  using Value = std::variant<std::string, std::int64_t, bool>;

  std::string_view key;  // A constant.
  Value value;
  bool operator==(SpanAttribute const&) const = default;
};

struct Span {
  TraceContext context{};  // The trace, and as parent_id the span's own id: what its children have for a parent.
  std::optional<SpanId> parent{};  // None: it is the root.
  std::string tracestate{};
  std::string name{};
  SpanKind kind = SpanKind::internal;
  std::int64_t start_ns = 0;  // Since 1970.
  std::int64_t end_ns = 0;    // Not before start_ns.
  std::vector<SpanAttribute> attributes{};
  std::vector<TraceContext> links{};  // To spans, of this trace or another.
  SpanStatus status = SpanStatus::unset;
  std::string status_message{};  // Only with SpanStatus::error.

  void add(std::string_view key, std::string_view value) { attributes.push_back({key, std::string{value}}); }
  void add_number(std::string_view key, std::uint64_t value) {
    attributes.push_back({key, static_cast<std::int64_t>(value)});
  }
  void add_flag(std::string_view key, bool value) { attributes.push_back({key, value}); }
  // As the conventions want a failure: `error.type` and the status.
  void fail(std::string_view error_type) {
    add("error.type", error_type);
    status = SpanStatus::error;
    status_message = error_type;
  }
};

// Keys of the semantic conventions for messaging that several places use.
namespace attribute {
inline constexpr std::string_view kSystem = "messaging.system";
inline constexpr std::string_view kOperationName = "messaging.operation.name";
inline constexpr std::string_view kOperationType = "messaging.operation.type";
inline constexpr std::string_view kDestination = "messaging.destination.name";
inline constexpr std::string_view kMessageId = "messaging.message.id";
inline constexpr std::string_view kBodySize = "messaging.message.body.size";
inline constexpr std::string_view kBatchCount = "messaging.batch.message_count";
inline constexpr std::string_view kClientId = "messaging.client.id";
inline constexpr std::string_view kJobType = "workmill.job.type";
inline constexpr std::string_view kJobState = "workmill.job.state";
inline constexpr std::string_view kJobAttempt = "workmill.job.attempt";
inline constexpr std::string_view kJobMaxAttempts = "workmill.job.max_attempts";
inline constexpr std::string_view kOutcome = "workmill.job.outcome";
}  // namespace attribute

// Begins a span of the messaging conventions: "{name} {queue}", or the name alone where there is no one queue.
Span messaging_span(std::string_view operation_name, std::string_view operation_type, std::string_view queue,
                    SpanKind kind);

}  // namespace workmill::telemetry
