#include "shard/attempt_traces.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <variant>
#include <vector>

#include "shard/shard_fixture_test.h"
#include "telemetry/job_trace.h"

namespace workmill::shard {
namespace {

using telemetry::Span;
using telemetry::SpanKind;
using telemetry::SpanStatus;

constexpr std::string_view kSampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr std::string_view kUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

Bytes traced_job(std::string_view traceparent) {
  JobSpecView spec;
  spec.type = "resize";
  spec.queue = "images";
  spec.payload_kind = PayloadKind::json;
  spec.payload = "{}";
  spec.traceparent = traceparent;
  spec.tracestate = "a=b";
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

Report failed(LeasedJob const& job, std::string_view code) {
  Failed outcome;
  outcome.code = Bytes(code);
  outcome.retry_in = Duration{0};
  return {.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = std::move(outcome)};
}

std::string text_of(Span const& span, std::string_view key) {
  auto const found = std::ranges::find(span.attributes, key, &telemetry::SpanAttribute::key);
  if (found == span.attributes.end()) return {};
  if (auto const* number = std::get_if<std::int64_t>(&found->value)) return std::to_string(*number);
  if (auto const* text = std::get_if<std::string>(&found->value)) return *text;
  return "bool";
}

class AttemptTracesTest : public ShardTest {
 protected:
  void SetUp() override {
    options_.tracer = &tracer_;
    ShardTest::SetUp();
  }

  LeasedJob lease_one() {
    auto reply = ask<LeaseReply>(lease("images"));
    EXPECT_EQ(reply.jobs.size(), 1u);
    return reply.jobs.empty() ? LeasedJob{} : reply.jobs.front();
  }
  void report(Report report) {
    auto const reply = ask<ReportsReply>(ReportBatch{.reports = {std::move(report)}});
    ASSERT_FALSE(reply.reports.at(0).error) << describe(*reply.reports[0].error);
  }
  std::vector<Span> spans() {
    std::vector<Span> taken;
    tracer_.spans().receive_batch(taken, 1'000);
    return taken;
  }

  telemetry::Tracer tracer_{clock_, 0};
};

TEST_F(AttemptTracesTest, AnAttemptIsASpanFromItsLeaseToItsReport) {
  ask<EnqueueReply>(enqueue({traced_job(kSampled)}));
  auto const start = tracer_.now_ns();
  LeasedJob const job = lease_one();
  EXPECT_TRUE(spans().empty());
  clock_.advance(Duration{250});

  report(completed(job));

  auto const told = spans();
  ASSERT_EQ(told.size(), 2u);
  auto const creation = telemetry::parse_traceparent(kSampled);
  Span const& process = told[0];
  EXPECT_EQ(process.name, "process images");
  EXPECT_EQ(process.kind, SpanKind::consumer);
  EXPECT_EQ(process.context, telemetry::attempt_context(*creation, job.token));
  EXPECT_EQ(process.parent, creation->parent_id);
  EXPECT_EQ(process.tracestate, "a=b");
  EXPECT_EQ(process.start_ns, start);
  EXPECT_EQ(process.end_ns, start + 250'000'000);
  EXPECT_EQ(process.status, SpanStatus::unset);
  EXPECT_EQ(text_of(process, "messaging.message.id").size(), 36u);
  EXPECT_EQ(text_of(process, "messaging.client.id"), "worker-1");
  EXPECT_EQ(text_of(process, "workmill.job.type"), "resize");
  EXPECT_EQ(text_of(process, "workmill.job.attempt"), "1");
  EXPECT_EQ(text_of(process, "workmill.job.outcome"), "completed");
  EXPECT_EQ(text_of(process, "workmill.job.state"), "completed");
  Span const& settle = told[1];
  EXPECT_EQ(settle.name, "complete images");
  EXPECT_EQ(settle.kind, SpanKind::client);
  EXPECT_EQ(text_of(settle, "messaging.operation.type"), "settle");
  EXPECT_EQ(settle.parent, process.context.parent_id);
}

TEST_F(AttemptTracesTest, EveryAttemptHasASpanAndFailuresSayWhy) {
  ask<EnqueueReply>(enqueue({traced_job(kSampled)}));

  report(failed(lease_one(), "exit_75"));
  report(failed(lease_one(), ""));
  report(completed(lease_one()));

  auto const told = spans();
  ASSERT_EQ(told.size(), 6u);
  EXPECT_EQ(text_of(told[0], "error.type"), "exit_75");
  EXPECT_EQ(told[0].status, SpanStatus::error);
  EXPECT_EQ(text_of(told[0], "workmill.job.outcome"), "failed");
  EXPECT_EQ(text_of(told[0], "workmill.job.state"), "ready");
  EXPECT_EQ(told[1].name, "fail images");
  EXPECT_EQ(text_of(told[2], "error.type"), "_OTHER");
  EXPECT_EQ(text_of(told[2], "workmill.job.attempt"), "2");
  EXPECT_EQ(text_of(told[4], "workmill.job.attempt"), "3");
  EXPECT_NE(told[0].context.parent_id, told[2].context.parent_id);
}

TEST_F(AttemptTracesTest, ALeaseThatRunsOutEndsItsSpanWithoutAReport) {
  ask<EnqueueReply>(enqueue({traced_job(kSampled)}));
  lease_one();

  clock_.advance(std::chrono::minutes{2});
  turn();

  auto const told = spans();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(text_of(told[0], "error.type"), "lease_expired");
  EXPECT_EQ(text_of(told[0], "workmill.job.outcome"), "lease_expired");
}

TEST_F(AttemptTracesTest, ALeaseGivenBackIsNoFailure) {
  ask<EnqueueReply>(enqueue({traced_job(kSampled)}));
  LeasedJob const job = lease_one();

  report({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Released{}});

  auto const told = spans();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(text_of(told[0], "workmill.job.outcome"), "released");
  EXPECT_EQ(told[0].status, SpanStatus::unset);
  EXPECT_EQ(told[1].name, "release images");
}

TEST_F(AttemptTracesTest, AWorkerThatWaitedIsNamedToo) {
  Cookie const waiting = submit(lease("images", 1, std::chrono::seconds{20}));
  turn();
  submit(enqueue({traced_job(kSampled)}));
  turn();
  auto const leased = take<LeaseReply>(waiting);
  ASSERT_EQ(leased.jobs.size(), 1u);

  report(completed(leased.jobs[0]));

  EXPECT_EQ(text_of(spans().at(0), "messaging.client.id"), "worker-1");
}

TEST_F(AttemptTracesTest, WhatIsNotSampledHasNoSpans) {
  ask<EnqueueReply>(enqueue({traced_job(kUnsampled), traced_job("")}));

  report(completed(lease_one()));
  report(completed(lease_one()));

  EXPECT_TRUE(spans().empty());
}

TEST_F(AttemptTracesTest, AnAttemptThatOutlivesTheServerBeginsWhereItsLeaseWasRecorded) {
  ask<EnqueueReply>(enqueue({traced_job(kSampled)}));
  auto const start = tracer_.now_ns();
  LeasedJob const job = lease_one();
  clock_.advance(Duration{700});
  restart();
  clock_.advance(Duration{300});

  report(completed(job));

  auto const told = spans();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].context, telemetry::attempt_context(*telemetry::parse_traceparent(kSampled), job.token));
  EXPECT_EQ(told[0].start_ns, start);
  EXPECT_EQ(told[0].end_ns, start + 1'000'000'000);
  EXPECT_EQ(text_of(told[0], "messaging.client.id"), "worker-1");
  EXPECT_EQ(text_of(told[0], "workmill.job.attempt"), "1");
}

TEST_F(AttemptTracesTest, AJobThatExpiresAfterItWasGivenBackHasNoFurtherAttemptWhateverWasRestarted) {
  Bytes const plain = traced_job(kSampled);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(plain, spec));
  spec.expires_in = std::chrono::minutes{5};
  Bytes expiring;
  encode_spec(spec, expiring);
  ask<EnqueueReply>(enqueue({expiring}));
  LeasedJob const job = lease_one();
  report({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Released{}});
  EXPECT_EQ(spans().size(), 2u);
  restart();

  clock_.advance(std::chrono::minutes{10});
  turn();
  turn();

  EXPECT_TRUE(ask<LeaseReply>(lease("images")).jobs.empty());
  EXPECT_TRUE(spans().empty());
}

}  // namespace
}  // namespace workmill::shard
