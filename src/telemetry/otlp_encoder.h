#pragma once
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "telemetry/span.h"

// Spans as OTLP's JSON: the body of a POST to /v1/traces.
//
// The form is that of the OpenTelemetry protocol's JSON encoding: names in lowerCamelCase, ids in lower-case hex, enums
// as numbers, 64-bit numbers as strings of digits; what has its default is left out. Values; any thread.
namespace workmill::telemetry {

// What all spans of this process come from: `service.name` and the like.
struct OtlpResource {
  std::vector<std::pair<std::string, std::string>> attributes;
  std::string version;  // Of the instrumentation, which is the program.
};

// Appends one ExportTraceServiceRequest. Texts are valid UTF-8 in it whatever they were; a text longer than
// kOtlpTextBytesMax is cut.
void append_otlp(OtlpResource const& resource, std::span<Span const> spans, std::string& out);

inline constexpr std::size_t kOtlpTextBytesMax = 1'024;

}  // namespace workmill::telemetry
