#include "telemetry/otlp_encoder.h"

#include <algorithm>
#include <variant>

#include "base/json_writer.h"

namespace workmill::telemetry {
namespace {

std::string_view cut(std::string_view text) {
  std::size_t end = std::min(text.size(), kOtlpTextBytesMax);
  // Not in the middle of a character.
  for (int i = 0; i < 3 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80; ++i) --end;
  return text.substr(0, end);
}

void write_text(std::string_view key, std::string_view text, JsonWriter& json) { json.member(key, cut(text)); }

void write_int64(std::string_view key, std::int64_t value, JsonWriter& json) {
  json.key(key).plain(std::to_string(value));
}

void write_attribute(std::string_view key, SpanAttribute::Value const& value, JsonWriter& json) {
  json.begin_object().member("key", key).key("value").begin_object();
  if (auto const* text = std::get_if<std::string>(&value)) write_text("stringValue", *text, json);
  if (auto const* number = std::get_if<std::int64_t>(&value)) write_int64("intValue", *number, json);
  if (auto const* flag = std::get_if<bool>(&value)) json.member("boolValue", *flag);
  json.end_object().end_object();
}

void write_ids(TraceContext const& context, JsonWriter& json) {
  auto const trace = format_trace_id(context);
  auto const span = format_span_id(context);
  json.key("traceId").plain({trace.data(), trace.size()}).key("spanId").plain({span.data(), span.size()});
}

void write_span(Span const& span, JsonWriter& json) {
  json.begin_object();
  write_ids(span.context, json);
  if (!span.tracestate.empty()) write_text("traceState", span.tracestate, json);
  if (span.parent) {
    TraceContext parent;
    parent.parent_id = *span.parent;
    auto const id = format_span_id(parent);
    json.key("parentSpanId").plain({id.data(), id.size()});
  }
  json.member("flags", span.context.flags);
  write_text("name", span.name, json);
  json.member("kind", static_cast<std::uint32_t>(span.kind));
  write_int64("startTimeUnixNano", span.start_ns, json);
  write_int64("endTimeUnixNano", span.end_ns, json);
  if (!span.attributes.empty()) {
    json.key("attributes").begin_array();
    for (SpanAttribute const& attribute : span.attributes) write_attribute(attribute.key, attribute.value, json);
    json.end_array();
  }
  if (!span.links.empty()) {
    json.key("links").begin_array();
    for (TraceContext const& link : span.links) {
      json.begin_object();
      write_ids(link, json);
      json.member("flags", link.flags).end_object();
    }
    json.end_array();
  }
  if (span.status != SpanStatus::unset) {
    json.key("status").begin_object();
    if (!span.status_message.empty()) write_text("message", span.status_message, json);
    json.member("code", static_cast<std::uint32_t>(span.status)).end_object();
  }
  json.end_object();
}

}  // namespace

void append_otlp(OtlpResource const& resource, std::span<Span const> spans, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("resourceSpans").begin_array().begin_object();
  json.key("resource").begin_object().key("attributes").begin_array();
  for (auto const& [key, value] : resource.attributes) write_attribute(key, value, json);
  json.end_array().end_object();
  json.key("scopeSpans").begin_array().begin_object();
  json.key("scope").begin_object().member("name", "workmill");
  json.member("version", resource.version).end_object();
  json.key("spans").begin_array();
  for (Span const& span : spans) write_span(span, json);
  json.end_array().end_object().end_array().end_object().end_array().end_object();
}

}  // namespace workmill::telemetry
