#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/json.h"
#include "app/worker/child_process.h"
#include "base/error.h"
#include "base/time.h"

// What a worker is given, and what it says of it: the JSON of leases and reports. Pure functions.
namespace workmill::app {

inline constexpr std::size_t kOutputBytesMax = std::size_t{1} << 20;

// How a payload stands on a handler's standard input.
enum class PayloadAs : std::uint8_t {
  json,  // Its JSON text.
  text,  // A JSON string without its quotes and escapes; every other value as its JSON text.
};

struct LeasedJob {
  std::string id;
  std::string lease;
  std::string type;
  std::string queue;
  std::string traceparent, tracestate;
  std::string checkpoint;  // What an earlier attempt left, as JSON; empty: nothing.
  std::string input;       // For the handler. Bytes that were sent as payload_base64 are bytes again.
  std::uint64_t attempt = 0;
  std::uint64_t max_attempts = 0;
  Instant lease_expires_at{};
};
// protocol_error where `job` is no job of an answer to POST /v1/leases.
Result<LeasedJob> read_leased_job(JsonValue const& job, PayloadAs payload_as);

// Who a report is about.
struct LeaseName {
  std::string id;
  std::string lease;
};

// Each is one element of `reports`.
// `output` is what a handler wrote: JSON where it is JSON, other text without its last line break as a JSON string,
// bytes that are no text as result_base64, and where it is empty no result.
std::string completed_report(LeaseName const& job, std::string_view output);
std::string failed_report(LeaseName const& job, std::string_view error_class, std::string_view code,
                          std::string_view message);
std::string released_report(LeaseName const& job);
std::string extend_report(LeaseName const& job, Duration by);
// `data` is JSON.
std::string checkpoint_report(LeaseName const& job, std::string_view data);
std::string log_report(LeaseName const& job, std::vector<std::string> const& lines);

// What the end of a handler means: exit code 0 is completed, with standard output as the result; 65 a failure of class
// user; everything else retryable.
struct Outcome {
  bool completed = false;
  std::string report;
  std::string why;  // For people, where it failed.
};
Outcome outcome_of(LeaseName const& job, ChildProcess::End end, std::string_view output, bool output_is_cut,
                   std::string_view last_error_line);

}  // namespace workmill::app
