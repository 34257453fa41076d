#include "app/load/job_text.h"

#include <gtest/gtest.h>

#include "app/json.h"

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

std::string_view body_of(std::string_view request) { return request.substr(request.find("\r\n\r\n") + 4); }

TEST(JobText, AJobCarriesTheTimeItWasSentAndHasTheSizeAskedFor) {
  JobTemplate job{"host", "", "bench-1", 100};

  auto const document = parse_json(body_of(job.request(nanoseconds{12345})));

  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().find("payload")->raw.size(), 100u);
  EXPECT_EQ(document->root().find("payload")->string_at("at"), "0000000000000012345");
}

TEST(JobText, APayloadIsNeverSmallerThanItsTime) {
  JobTemplate job{"host", "", "bench-1", 1};

  EXPECT_TRUE(parse_json(body_of(job.request(nanoseconds{1}))));
  EXPECT_LT(job.payload_bytes(), 50u);
}

TEST(JobText, JobsAreFoundInAnAnswerAndReportsAreNot) {
  std::vector<TakenJob> jobs;

  find_jobs(
      R"({"jobs":[{"id":"a","payload":{"at":"0000000000000000007","pad":"x"},"lease":"01","lease_expires_at":"t"},)"
      R"({"id":"b","payload":{"at":"0000000000000000008","pad":""},"lease":"02","lease_expires_at":"t"}],)"
      R"("reports":[{"id":"c","ok":true}]})",
      jobs);

  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id, "a");
  EXPECT_EQ(jobs[0].sent_at, nanoseconds{7});
  EXPECT_EQ(jobs[1].lease, "02");
}

TEST(JobText, ABatchIsOneCallAndEachOfItsJobsHasTheTime) {
  JobTemplate jobs{"host", "", "bench-1", 60, 3, R"(,"priority":9)"};

  auto const document = parse_json(body_of(jobs.request(nanoseconds{77})));

  ASSERT_TRUE(document);
  auto const* const list = document->root().find("jobs");
  ASSERT_TRUE(list);
  ASSERT_EQ(list->items.size(), 3u);
  for (auto const& job : list->items) {
    EXPECT_EQ(job.find("payload")->string_at("at"), "0000000000000000077");
    EXPECT_EQ(job.find("priority")->raw, "9");
  }
}

TEST(JobText, ResultsOfReportsAreCounted) {
  auto const good = count_reports(R"({"jobs":[],"reports":[{"id":"c","ok":true},{"id":"d","ok":true}]})");
  EXPECT_EQ(good.accepted, 2u);
  EXPECT_FALSE(good.is_any_refused);
  EXPECT_TRUE(count_reports(R"({"reports":[{"id":"c","ok":false,"error":{}}]})").is_any_refused);
  EXPECT_EQ(count_reports(R"({"jobs":[{"id":"c","payload":{"ok":true}}]})").accepted, 0u);
}

TEST(JobText, AnEmptyAnswerHasNoJobs) {
  std::vector<TakenJob> jobs(1);
  find_jobs(R"({"jobs":[],"reports":[{"id":"c","ok":true}]})", jobs);
  EXPECT_TRUE(jobs.empty());
}

}  // namespace
}  // namespace workmill::app
