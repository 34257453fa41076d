#include "telemetry/otlp_encoder.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <array>
#include <limits>
#include <string>

namespace workmill::telemetry {
namespace {

OtlpResource const kResource{.attributes = {{"service.name", "workmill"}}, .version = "0.1.0"};

TraceContext context_of(std::uint8_t trace, std::uint8_t span) {
  TraceContext context;
  context.trace_id.fill(trace);
  context.parent_id.fill(span);
  context.flags = TraceContext::kSampled | TraceContext::kRandomTraceId;
  return context;
}

std::string encoded(Span const& span) {
  std::string out;
  append_otlp(kResource, {&span, 1}, out);
  return out;
}

// The bytes of the protocol's JSON form: ids in hex, 64-bit numbers as strings, enums as numbers.
TEST(OtlpEncoder, ASpanIsWrittenAsTheProtocolHasIt) {
  Span span = messaging_span("process", "process", "emails", SpanKind::consumer);
  span.context = context_of(0x5b, 0xee);
  span.parent = SpanId{0, 1, 2, 3, 4, 5, 6, 0xff};
  span.tracestate = "a=b";
  span.start_ns = 1'544'712'660'000'000'000;
  span.end_ns = 1'544'712'661'000'000'001;
  span.add_number("workmill.job.attempt", 2);
  span.add_flag("workmill.job.duplicate", true);
  span.links.push_back(context_of(0x01, 0x02));
  span.fail("exit_75");

  EXPECT_EQ(
      encoded(span),
      R"({"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"workmill"}}]},)"
      R"("scopeSpans":[{"scope":{"name":"workmill","version":"0.1.0"},"spans":[{)"
      R"("traceId":"5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b","spanId":"eeeeeeeeeeeeeeee","traceState":"a=b",)"
      R"("parentSpanId":"00010203040506ff","flags":3,"name":"process emails","kind":5,)"
      R"("startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000001","attributes":[)"
      R"({"key":"messaging.system","value":{"stringValue":"workmill"}},)"
      R"({"key":"messaging.operation.name","value":{"stringValue":"process"}},)"
      R"({"key":"messaging.operation.type","value":{"stringValue":"process"}},)"
      R"({"key":"messaging.destination.name","value":{"stringValue":"emails"}},)"
      R"({"key":"workmill.job.attempt","value":{"intValue":"2"}},)"
      R"({"key":"workmill.job.duplicate","value":{"boolValue":true}},)"
      R"({"key":"error.type","value":{"stringValue":"exit_75"}}],)"
      R"("links":[{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202","flags":3}],)"
      R"("status":{"message":"exit_75","code":2}}]}]}]})");
}

TEST(OtlpEncoder, WhatHasItsDefaultIsLeftOut) {
  Span span;
  span.context = context_of(1, 2);
  span.name = "GET /v1/queues";
  span.kind = SpanKind::server;

  EXPECT_EQ(
      encoded(span),
      R"({"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"workmill"}}]},)"
      R"("scopeSpans":[{"scope":{"name":"workmill","version":"0.1.0"},"spans":[{)"
      R"("traceId":"01010101010101010101010101010101","spanId":"0202020202020202","flags":3,)"
      R"("name":"GET /v1/queues","kind":2,"startTimeUnixNano":"0","endTimeUnixNano":"0"}]}]}]})");
}

TEST(OtlpEncoder, ALongTextIsCutBetweenCharacters) {
  Span span;
  span.name = std::string(kOtlpTextBytesMax - 1, 'x') + "\xc3\xa9 and more";

  std::string const json = encoded(span);

  EXPECT_NE(json.find("\"" + std::string(kOtlpTextBytesMax - 1, 'x') + "\""), std::string::npos);
}

// Read back by a parser that is not ours: whatever the texts are, it is JSON, and the numbers are what they were.
RC_GTEST_PROP(OtlpEncoder, AnythingIsJsonThatReadsBack,
              (std::string const& text, std::int64_t number, std::array<std::uint8_t, 24> const& ids)) {
  Span span;
  std::copy_n(ids.begin(), 16, span.context.trace_id.begin());
  std::copy_n(ids.begin() + 16, 8, span.context.parent_id.begin());
  span.name = text;
  span.start_ns = number;
  span.attributes.push_back({"text", text});
  span.attributes.push_back({"number", number});
  span.tracestate = text;

  std::string const json = encoded(span);
  simdjson::dom::parser parser;
  simdjson::dom::element document;

  RC_ASSERT(parser.parse(json).get(document) == simdjson::SUCCESS);
  auto const read = document.at_pointer("/resourceSpans/0/scopeSpans/0/spans/0");
  std::string_view found;
  RC_ASSERT(read["startTimeUnixNano"].get(found) == simdjson::SUCCESS);
  RC_ASSERT(found == std::to_string(number));
  RC_ASSERT(read.at_pointer("/attributes/1/value/intValue").get(found) == simdjson::SUCCESS);
  RC_ASSERT(found == std::to_string(number));
  RC_ASSERT(read["traceId"].get(found) == simdjson::SUCCESS);
  auto const trace_id = format_trace_id(span.context);
  RC_ASSERT(found == std::string_view(trace_id.data(), trace_id.size()));
}

}  // namespace
}  // namespace workmill::telemetry
