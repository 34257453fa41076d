#include "app/commands/job_request.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

std::string payload_of(std::string_view payload, PayloadFrom from = PayloadFrom::guess) {
  auto const job = job_json({.type = "t"}, payload, from);
  if (!job) return describe(job.error());
  constexpr std::string_view kBefore = R"({"type":"t",)";
  EXPECT_TRUE(job->starts_with(kBefore)) << *job;
  return job->substr(kBefore.size(), job->size() - kBefore.size() - 1);
}

TEST(JobRequest, OnlyWhatWasGivenIsSent) {
  EXPECT_EQ(job_json({.type = "t"}, std::nullopt, PayloadFrom::guess), R"({"type":"t"})");
}

TEST(JobRequest, EveryOptionHasItsField) {
  JobOptions options{.type = "t"};
  options.queue = "q";
  options.id = "i";
  options.priority = 9;
  options.delay = "1s";
  options.run_at = "2026-11-22T09:00:00Z";
  options.expires_in = "1h";
  options.max_attempts = 3;
  options.backoff_first = "2s";
  options.backoff_factor = 1.5;
  options.backoff_cap = "1m";
  options.backoff_jitter = 0;
  options.lease = "30s";
  options.unique_key = "k\"";
  options.unique_while = "queued";
  options.unique_for = "1h";
  options.group = "g";
  options.tags = {"a", "b"};
  options.batch = "import-7";
  options.keep_result = "1d";
  options.meta = R"({"user": "u"})";

  EXPECT_EQ(job_json(options, std::nullopt, PayloadFrom::guess),
            R"({"type":"t","queue":"q","id":"i","priority":9,"delay":"1s","run_at":"2026-11-22T09:00:00Z",)"
            R"("expires_in":"1h","max_attempts":3,"backoff":{"first":"2s","factor":1.5,"cap":"1m","jitter":0},)"
            R"("lease":"30s","unique":{"key":"k\"","while":"queued","for":"1h"},"group":"g","tags":["a","b"],)"
            R"("batch":"import-7","keep_result":"1d","meta":{"user": "u"}})");
}

TEST(JobRequest, APayloadIsJsonWhereItIsJsonAndElseText) {
  EXPECT_EQ(payload_of(R"( {"a": 1} )"), R"("payload":{"a": 1})");
  EXPECT_EQ(payload_of("photo.jpg"), R"("payload":"photo.jpg")");
  EXPECT_EQ(payload_of("12"), R"("payload":12)");
  EXPECT_EQ(payload_of(""), R"("payload":"")");
}

TEST(JobRequest, WhatAPayloadIsCanBeSaid) {
  EXPECT_EQ(payload_of("12", PayloadFrom::text), R"("payload":"12")");
  EXPECT_EQ(payload_of("\xff\x01", PayloadFrom::bytes), R"("payload_base64":"/wE=")");
  EXPECT_EQ(payload_of("{", PayloadFrom::json), "malformed_json: the payload is not JSON");
  EXPECT_EQ(payload_of("\xff"),
            "malformed_json: the payload is neither JSON nor UTF-8 text: --bytes sends it as it is");
}

TEST(JobRequest, MetaIsAnObject) {
  EXPECT_FALSE(job_json({.type = "t", .meta = "[1]"}, std::nullopt, PayloadFrom::guess));
  EXPECT_FALSE(job_json({.type = "t", .meta = "{"}, std::nullopt, PayloadFrom::guess));
}

TEST(JobBatch, AnErrorInAJobIsAnErrorInItsLine) {
  JobBatch batch;
  batch.add(R"({"type":"a"})", 7);
  batch.add(R"({"type":"b"})", 9);  // Line 8 was empty.

  EXPECT_EQ(batch.take_body(), R"({"jobs":[{"type":"a"},{"type":"b"}]})");
  EXPECT_EQ(batch.line_of_field("jobs[1].priority"), 9u);
  EXPECT_EQ(batch.line_of_field("jobs[0]"), 7u);
  for (auto const* field : {"jobs[2]", "jobs", "jobs[", "jobs[x]", "jobs[1", "queue", ""}) {
    EXPECT_EQ(batch.line_of_field(field), std::nullopt) << field;
  }
}

TEST(JobBatch, ABatchIsFullByItsJobsOrByItsBytes) {
  JobBatch many;
  for (std::size_t i = 0; i < JobBatch::kJobsMax; ++i) {
    EXPECT_FALSE(many.is_full());
    many.add("{}", i);
  }
  EXPECT_TRUE(many.is_full());

  JobBatch large;
  large.add(std::string(JobBatch::kBytesMax, 'x'), 1);
  EXPECT_TRUE(large.is_full());
  large.clear();
  EXPECT_TRUE(large.empty());
}

}  // namespace
}  // namespace workmill::app
