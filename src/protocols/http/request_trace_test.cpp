#include "protocols/http/request_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "protocols/http/server_harness_test.h"
#include "telemetry/job_trace.h"

namespace workmill::http {
namespace {

using telemetry::Span;
using telemetry::SpanKind;
using telemetry::SpanStatus;
using testing::HasSubstr;

constexpr std::string_view kSampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr std::string_view kUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

std::string traced(std::string_view traceparent) { return "traceparent: " + std::string{traceparent} + "\r\n"; }

std::string text_of(Span const& span, std::string_view key) {
  auto const found = std::ranges::find(span.attributes, key, &telemetry::SpanAttribute::key);
  if (found == span.attributes.end()) return {};
  if (auto const* number = std::get_if<std::int64_t>(&found->value)) return std::to_string(*number);
  if (auto const* text = std::get_if<std::string>(&found->value)) return *text;
  return "bool";
}

class RequestTraceTest : public ServerTest {
 protected:
  RequestTraceTest() {
    server.reset();
    server = std::make_unique<HttpServer>(loop, service, tokens, clock, HttpLimits{}, logger, metrics, Rng{7}, &tracer);
    auto const listening = server->listen("127.0.0.1:0");
    EXPECT_TRUE(listening);
    port = listening.value_or(0);
  }
  ~RequestTraceTest() override { server.reset(); }  // What is not answered by then is told to the tracer.
  std::vector<Span> spans() {
    std::vector<Span> taken;
    tracer.spans().receive_batch(taken, 1'000);
    return taken;
  }
  // The spec of the one job of the command that was asked.
  static JobSpecView spec_of(Command const& command) {
    JobSpecView spec;
    EXPECT_TRUE(decode_spec(std::get<Enqueue>(command).specs.at(0), spec));
    return spec;
  }

  telemetry::Tracer tracer{clock, 0};
};

TEST_F(RequestTraceTest, AnEnqueueIsARequestThatSends) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"resize","queue":"images","payload":[1]})", traced(kSampled)));
  ASSERT_TRUE(asked(1));
  std::string const stored{spec_of(service.asked[0].command).traceparent};
  service.answer_all([](Command const&) -> Reply { return enqueued("my-id"); });
  ASSERT_TRUE(received(client, "201"));

  auto const told = spans();
  ASSERT_EQ(told.size(), 2U);
  auto const parent = telemetry::parse_traceparent(kSampled);
  Span const& send = told[0];
  Span const& request = told[1];
  EXPECT_EQ(request.name, "POST /v1/jobs");
  EXPECT_EQ(request.kind, SpanKind::server);
  EXPECT_EQ(request.context.trace_id, parent->trace_id);
  EXPECT_EQ(request.parent, parent->parent_id);
  EXPECT_EQ(text_of(request, "http.request.method"), "POST");
  EXPECT_EQ(text_of(request, "http.route"), "/v1/jobs");
  EXPECT_EQ(text_of(request, "url.path"), "/v1/jobs");
  EXPECT_EQ(text_of(request, "http.response.status_code"), "201");
  EXPECT_EQ(send.name, "send images");
  EXPECT_EQ(send.kind, SpanKind::producer);
  EXPECT_EQ(send.parent, request.context.parent_id);
  EXPECT_EQ(text_of(send, "messaging.message.id"), "my-id");
  EXPECT_EQ(text_of(send, "messaging.message.body.size"), "3");
  EXPECT_EQ(text_of(send, "workmill.job.type"), "resize");
  auto const creation = telemetry::format_traceparent(send.context);
  EXPECT_EQ(stored, std::string(creation.data(), creation.size()));
}

// The job may be there all the same, and its attempts are children of this span.
TEST_F(RequestTraceTest, AnEnqueueWhoseClientGoesHasItsSpans) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"resize","queue":"images"})", traced(kSampled)));
  ASSERT_TRUE(asked(1));
  client.break_off();
  ASSERT_TRUE(until([&] { return server->connections() == 0; }));

  auto const told = spans();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].name, "send images");
  EXPECT_EQ(told[0].parent, told[1].context.parent_id);
  EXPECT_EQ(text_of(told[1], "error.type"), "client_gone");
  EXPECT_EQ(text_of(told[1], "http.response.status_code"), "");
}

TEST_F(RequestTraceTest, ManyJobsAreOneSend) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"jobs":[{"type":"a","queue":"x"},{"type":"b","queue":"y"}]})", traced(kSampled)));
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) -> Reply { return enqueued("my-id"); });
  ASSERT_TRUE(received(client, "201"));

  Span const send = spans().at(0);
  EXPECT_EQ(send.name, "send");
  EXPECT_EQ(text_of(send, "messaging.batch.message_count"), "2");
  EXPECT_EQ(text_of(send, "messaging.destination.name"), "");
}

TEST_F(RequestTraceTest, AnUnsampledTraceIsHandedOnAsItCame) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"resize"})", traced(kUnsampled)));
  ASSERT_TRUE(asked(1));

  EXPECT_EQ(spec_of(service.asked[0].command).traceparent, kUnsampled);
  service.answer_all([](Command const&) -> Reply { return enqueued("my-id"); });
  ASSERT_TRUE(received(client, "201"));
  EXPECT_TRUE(spans().empty());
}

TEST_F(RequestTraceTest, WithoutATraceOneIsBegunByRatio) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"resize"})"));
  ASSERT_TRUE(asked(1));
  EXPECT_EQ(spec_of(service.asked[0].command).traceparent, "");

  tracer.set_ratio(1);
  TestClient second{port};
  second.send(post("/v1/jobs", R"({"type":"resize"})", "tracestate: a=b\r\n"));
  ASSERT_TRUE(asked(2));
  auto const spec = spec_of(service.asked[1].command);
  EXPECT_TRUE(telemetry::parse_traceparent(spec.traceparent));
  EXPECT_EQ(spec.tracestate, "");
  service.answer_all([](Command const&) -> Reply { return enqueued("my-id"); });
  ASSERT_TRUE(received(second, "201"));
  EXPECT_EQ(spans().at(1).parent, std::nullopt);
}

TEST_F(RequestTraceTest, ALeaseIsARequestThatReceivesAndTheWorkerGetsTheAttempt) {
  JobSpecView spec;
  spec.type = "resize";
  spec.queue = "images";
  spec.traceparent = kSampled;
  LeasedJob job{.number = JobNumber{1}, .token = LeaseToken{9}, .attempt = 1, .max_attempts = 20};
  encode_spec(spec, job.spec);
  TestClient client{port};
  client.send(post("/v1/leases", R"({"queues":["images"],"worker":"w-1"})",
                   traced("00-11111111111111111111111111111111-2222222222222222-01")));
  ASSERT_TRUE(asked(1));
  service.answer_all([&](Command const&) -> Reply { return LeaseReply{.jobs = {job}, .reports = {}}; });
  ASSERT_TRUE(received(client, "lease_expires_at"));

  auto const attempt = telemetry::attempt_context(*telemetry::parse_traceparent(kSampled), LeaseToken{9});
  auto const text = telemetry::format_traceparent(attempt);
  EXPECT_THAT(client.received, HasSubstr(R"("traceparent":")" + std::string(text.data(), text.size())));
  auto const told = spans();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].name, "receive images");
  EXPECT_EQ(told[0].kind, SpanKind::client);
  EXPECT_EQ(text_of(told[0], "messaging.batch.message_count"), "1");
  EXPECT_EQ(text_of(told[0], "messaging.client.id"), "w-1");
  EXPECT_EQ(told[0].links, std::vector{attempt});
  EXPECT_EQ(told[1].name, "POST /v1/leases");
}

TEST_F(RequestTraceTest, WhatIsTheClientsFaultIsNoFailureOfTheServer) {
  auto const answer = ask(post("/v1/jobs", "{", traced(kSampled)));

  auto const told = spans();
  Span const& request = told.back();
  EXPECT_EQ(text_of(request, "error.type"), "malformed_json");
  EXPECT_EQ(request.status, SpanStatus::unset);
  auto const id = telemetry::format_span_id(request.context);
  ASSERT_FALSE(log_lines.empty());
  EXPECT_THAT(log_lines.back(), HasSubstr("span_id=" + std::string(id.data(), id.size())));
}

TEST_F(RequestTraceTest, WhatIsOurFaultIs) {
  TestClient client{port};
  client.send(post("/v1/jobs", R"({"type":"resize"})", traced(kSampled)));
  ASSERT_TRUE(asked(1));
  service.answer_all([](Command const&) -> Reply { return Error{.code = ErrorCode::overloaded, .message = "full"}; });
  ASSERT_TRUE(received(client, "503"));

  auto const told = spans();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].status, SpanStatus::error);
  EXPECT_EQ(told[1].status, SpanStatus::error);
  EXPECT_EQ(text_of(told[1], "error.type"), "overloaded");
}

TEST_F(RequestTraceTest, AnUnknownPathHasNoRoute) {
  ask(get("/nothing/here", traced(kSampled)));

  auto const told = spans();
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].name, "GET");
  EXPECT_EQ(text_of(told[0], "url.path"), "/nothing/here");
}

}  // namespace
}  // namespace workmill::http
