#include "protocols/http/json/json_out.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <string>
#include <vector>

#include "base/variant.h"
#include "model/job.h"
#include "protocols/http/fixed_service_test.h"

namespace workmill::http {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr JobNumber number_at(std::int64_t ms) { return JobNumber{static_cast<std::uint64_t>(ms) << kCounterBits}; }

Bytes encoded(JobSpecView const& spec) {
  Bytes out;
  encode_spec(spec, out);
  return out;
}

class JsonOutTest : public testing::Test {
 protected:
  template <class... Args>
  static std::string written(void (*append)(Args...), auto const&... arguments) {
    std::string out;
    append(arguments..., out);
    return out;
  }
  std::string id(JobNumber number) const { return service_.id_of(number); }

  FixedService service_;
};

// --- POST /v1/jobs

TEST_F(JsonOutTest, AJobThatWasTakenHasItsIdAndState) {
  EnqueueReply const reply{.jobs = {{.number = number_at(1), .state = JobState::ready}}};

  EXPECT_EQ(written(&append_enqueue_reply, reply, false, service_),
            R"({"id":")" + id(number_at(1)) + R"(","state":"ready","duplicate":false})");
}

TEST_F(JsonOutTest, AListOfJobsIsAnsweredWithAListHoweverShort) {
  EnqueueReply const reply{
      .jobs = {{.number = number_at(1), .client_id = "mine", .state = JobState::scheduled, .duplicate = true}}};

  EXPECT_EQ(written(&append_enqueue_reply, reply, true, service_),
            R"({"jobs":[{"id":"mine","state":"scheduled","duplicate":true}]})");
}

// --- POST /v1/leases

TEST_F(JsonOutTest, ALeasedJobHasAllThatItsWorkerNeeds) {
  LeaseReply const reply{.jobs = {{.number = number_at(1'000),
                                   .token = LeaseToken{0xab},
                                   .lease_expires_at = instant_from_ms(61'000),
                                   .attempt = 2,
                                   .max_attempts = 20,
                                   .spec = encoded({.type = "t",
                                                    .queue = "q",
                                                    .payload_kind = PayloadKind::json,
                                                    .payload = R"({"any": 1})",
                                                    .priority = 7,
                                                    .group = "g",
                                                    .tags = {"a", "b"},
                                                    .meta = R"({"user":"me"})",
                                                    .traceparent = "00-aa-bb-01"}),
                                   .checkpoint = R"({"row": 7})"}}};

  EXPECT_EQ(written(&append_lease_reply, reply, std::span<ReportedJob const>{}, false, service_, std::string_view{},
                    AttemptContext::as_stored),
            R"({"jobs":[{"id":")" + id(number_at(1'000)) +
                R"(","type":"t","queue":"q","payload":{"any": 1},"attempt":2,"max_attempts":20,)"
                R"("lease":"00000000000000ab","lease_expires_at":"1970-01-01T00:01:01.000Z","priority":7,)"
                R"("created_at":"1970-01-01T00:00:01.000Z","traceparent":"00-aa-bb-01","meta":{"user":"me"},)"
                R"("group":"g","tags":["a","b"],"checkpoint":{"row": 7}}]})");
}

TEST_F(JsonOutTest, BytesAreLeasedAsBase64AndAnIdOfTheClientsOwnIsKept) {
  LeaseReply const reply{
      .jobs = {{.number = number_at(1),
                .spec = encoded({.type = "t", .id = "mine", .payload_kind = PayloadKind::raw, .payload = "\xff"})}}};
  std::string const json = written(&append_lease_reply, reply, std::span<ReportedJob const>{}, false, service_,
                                   std::string_view{}, AttemptContext::as_stored);

  EXPECT_TRUE(json.starts_with(R"({"jobs":[{"id":"mine","type":"t","queue":"default","payload_base64":"/w==",)"))
      << json;
}

TEST_F(JsonOutTest, NoJobAndNoReportIsAnEmptyList) {
  EXPECT_EQ(written(&append_lease_reply, LeaseReply{}, std::span<ReportedJob const>{}, false, service_,
                    std::string_view{}, AttemptContext::as_stored),
            R"({"jobs":[]})");
}

TEST_F(JsonOutTest, ReportsThatCameWithALeaseAreAnsweredWithIt) {
  LeaseReply const reply{.reports = {ReportResult{}}};
  std::vector<ReportedJob> const reported{{.job = {.text = "mine"}}};

  EXPECT_EQ(written(&append_lease_reply, reply, std::span<ReportedJob const>{reported}, true, service_,
                    std::string_view{}, AttemptContext::as_stored),
            R"({"jobs":[],"reports":[{"id":"mine","ok":true}]})");
}

// --- POST /v1/reports

TEST_F(JsonOutTest, AReportThatWantsToCacheIsNotHandedOverForACallerOfSomeQueues) {
  auto const make = [] {
    Completed completed;
    completed.cache.push_back({.key = "k", .set = {}});
    return std::vector<Report>{{.job = {.text = "a"}, .lease = LeaseToken{1}, .outcome = completed},
                               {.job = {.text = "b"}, .lease = LeaseToken{2}, .outcome = Completed{}}};
  };
  ReportsReply const reply{.reports = {{.error = Error{.code = ErrorCode::job_not_found, .message = "none"}}, {}}};
  auto of_all = make();
  auto of_some = make();

  auto const all = reported_jobs(of_all, {});
  auto const some = reported_jobs(of_some, {.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"q"})});

  EXPECT_FALSE(all[0].is_forbidden);
  EXPECT_EQ(of_all[0].job.text, "a");
  EXPECT_EQ(of_some[0].job.text, "");
  EXPECT_FALSE(holds<Completed>(of_some[0].outcome));
  EXPECT_EQ(of_some[1].job.text, "b");
  std::string const json =
      written(&append_reports_reply, reply, std::span<ReportedJob const>{some}, service_, std::string_view{"abc"});
  EXPECT_TRUE(json.starts_with(R"({"reports":[{"id":"a","ok":false,"error":{"type":"/errors/forbidden",)")) << json;
  EXPECT_TRUE(json.ends_with(R"("field":"cache"}},{"id":"b","ok":true}]})")) << json;
}

TEST_F(JsonOutTest, AReportWhoseValuesTheCacheCanNeverHoldSaysWhich) {
  ReportsReply const reply{.reports = {{.not_stored = {"a", "\"b"}}, {}}};
  std::vector<ReportedJob> const reported{{.job = {.text = "x"}}, {.job = {.text = "y"}}};

  EXPECT_EQ(written(&append_reports_reply, reply, std::span<ReportedJob const>{reported}, service_, std::string_view{}),
            R"({"reports":[{"id":"x","ok":true,"not_stored":["a","\"b"]},{"id":"y","ok":true}]})");
}

TEST_F(JsonOutTest, AReportIsNotHandedOverForACallerWhoseKeysAreNotAllOfThoseThatItSets) {
  Completed one;
  one.cache.push_back({.key = "mine:1", .set = {}});
  Completed both = one;
  both.cache.push_back({.key = "yours:1", .set = {}});
  std::vector<Report> reports{{.job = {.text = "a"}, .outcome = one}, {.job = {.text = "b"}, .outcome = both}};

  auto const reported = reported_jobs(
      reports, {.queues = {}, .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"mine:"})});

  EXPECT_FALSE(reported[0].is_forbidden);
  EXPECT_TRUE(reported[1].is_forbidden);
}

TEST_F(JsonOutTest, EveryReportIsAnsweredInOrder) {
  std::vector<Report> reports{{.job = {.number = number_at(5)}}, {.job = {.text = "a"}}, {.job = {.text = "b"}}};
  ReportsReply const reply{
      .reports = {{},
                  {.cancel_requested = true},
                  {.error = Error{.code = ErrorCode::lease_lost, .message = "the lease is over"}}}};
  auto const reported = reported_jobs(reports, {});

  std::string const json =
      written(&append_reports_reply, reply, std::span<ReportedJob const>{reported}, service_, std::string_view{"abc"});

  EXPECT_TRUE(json.starts_with(R"({"reports":[{"id":")" + id(number_at(5)) +
                               R"(","ok":true},)"
                               R"({"id":"a","ok":true,"cancel_requested":true},)"
                               R"({"id":"b","ok":false,"error":{"type":"/errors/lease_lost",)"))
      << json;
  EXPECT_TRUE(json.ends_with("}}]}")) << json;
  EXPECT_NE(json.find(R"("trace_id":"abc")"), std::string::npos);
}

// --- Jobs as read

TEST_F(JsonOutTest, AJobAsReadShowsTheDefaultsThatHoldForIt) {
  JobView const job{.number = number_at(1'000),
                    .state = JobState::ready,
                    .attempt = 0,
                    .max_attempts = 20,
                    .ready_at = instant_from_ms(1'000),
                    .spec = encoded({.type = "t"})};

  EXPECT_EQ(written(&append_job, job, service_),
            R"({"id":")" + id(number_at(1'000)) +
                R"(","state":"ready","type":"t","queue":"default","priority":5,)"
                R"("backoff":{"first":"15s","factor":2,"cap":"1h","jitter":0.2},"lease":"1m","keep_result":"1h",)"
                R"("attempt":0,"max_attempts":20,"created_at":"1970-01-01T00:00:01.000Z",)"
                R"("ready_at":"1970-01-01T00:00:01.000Z"})");
}

TEST_F(JsonOutTest, AJobAsReadShowsWhatWasSentAndWhatBecameOfIt) {
  JobView const job{
      .number = number_at(1'000),
      .client_id = "mine",
      .state = JobState::leased,
      .cancel_requested = true,
      .attempt = 2,
      .max_attempts = 3,
      .ready_at = instant_from_ms(1'000),
      .lease_expires_at = instant_from_ms(5'000),
      .progress = JobProgress{.percent = 50, .message = "half"},
      .spec = encoded({.type = "t",
                       .queue = "q",
                       .id = "mine",
                       .payload_kind = PayloadKind::raw,
                       .payload = "\xff",
                       .priority = 9,
                       .delay = seconds{1},
                       .expires_in = minutes{90},
                       .backoff = Backoff{.first = seconds{1}, .factor_permille = 1'500, .jitter_permille = 0},
                       .lease = seconds{90},
                       .unique_key = "k\"",
                       .unique_while = UniqueWhile::queued,
                       .unique_for = minutes{5},
                       .group = "g",
                       .tags = {"a"},
                       .keep_result = seconds{0},
                       .meta = "{}",
                       .traceparent = "tp",
                       .tracestate = "a=b"}),
      .history = {.started_at = instant_from_ms(2'000),
                  .finished_at = instant_from_ms(3'000),
                  .worker = "w",
                  .errors = {{.error_class = ErrorClass::user,
                              .code = "bad",
                              .message = "it\nbroke",
                              .detail = "[1]",
                              .attempt = 1,
                              .at = instant_from_ms(1'500)}},
                  .result_kind = PayloadKind::json,
                  .result = "7"},
      .checkpoint = {.data = "[9]"}};
  std::string const error =
      R"({"class":"user","code":"bad","message":"it\nbroke","detail":[1],"attempt":1,"at":"1970-01-01T00:00:01.500Z"})";

  EXPECT_EQ(written(&append_job, job, service_),
            R"({"id":"mine","state":"leased","cancel_requested":true,"type":"t","queue":"q","payload_base64":"/w==",)"
            R"("priority":9,"delay":"1s","expires_in":"1h30m",)"
            R"("backoff":{"first":"1s","factor":1.5,"cap":"1h","jitter":0},"lease":"1m30s","keep_result":"0s",)"
            R"("unique":{"key":"k\"","while":"queued","for":"5m"},"group":"g","tags":["a"],"meta":{},)"
            R"("traceparent":"tp","tracestate":"a=b","attempt":2,"max_attempts":3,)"
            R"("created_at":"1970-01-01T00:00:01.000Z","ready_at":"1970-01-01T00:00:01.000Z",)"
            R"("lease_expires_at":"1970-01-01T00:00:05.000Z","progress":{"percent":50,"message":"half"},)"
            R"("checkpoint":[9],)"
            R"("started_at":"1970-01-01T00:00:02.000Z","finished_at":"1970-01-01T00:00:03.000Z","worker":"w",)"
            R"("result":7,"error":)" +
                error + R"(,"errors":[)" + error + "]}");
}

TEST_F(JsonOutTest, APageHasACursorThatReadsBack) {
  JobsReply const reply{.jobs = {}, .next = number_at(77)};
  std::string const page = written(&append_jobs_page, reply, service_);
  std::string const start = R"({"items":[],"next":")";
  ASSERT_TRUE(page.starts_with(start)) << page;

  auto const number = parse_jobs_cursor(page.substr(start.size(), page.size() - start.size() - 2));

  EXPECT_EQ(number, number_at(77));
  EXPECT_EQ(written(&append_jobs_page, JobsReply{}, service_), R"({"items":[],"next":null})");
}

TEST_F(JsonOutTest, ACursorThatNobodyGaveIsRefused) {
  for (std::string_view const cursor : {"", "AAAA", "not base64", "AAAAAAAAAAAA", "AAAAAAAAAAB"}) {
    auto const number = parse_jobs_cursor(cursor);
    ASSERT_FALSE(number) << cursor;
    EXPECT_EQ(number.error().code, ErrorCode::invalid_field);
    EXPECT_EQ(number.error().field, "cursor");
  }
  EXPECT_FALSE(parse_queues_cursor(""));
  EXPECT_FALSE(parse_queues_cursor("_w"));
}

// --- The others

TEST_F(JsonOutTest, AQueueShowsItsFiguresAndSettings) {
  QueueView const queue{.name = "q",
                        .settings = {.paused = true, .max_depth = 100, .when_full = WhenFull::drop_oldest},
                        .depth = {1, 2, 3, 4, 5, 6},
                        .oldest_ready_at = instant_from_ms(1'000),
                        .counters = {.enqueued = 7, .leased = 8},
                        .enqueued_per_second = 1.23456,
                        .completed_per_second = 100};

  EXPECT_EQ(written(&append_queue, queue),
            R"({"name":"q","paused":true,)"
            R"("depth":{"scheduled":1,"ready":2,"leased":3,"completed":4,"dead":5,"cancelled":6},)"
            R"("oldest_ready_at":"1970-01-01T00:00:01.000Z",)"
            R"("rates":{"enqueued":1.23,"completed":100,"failed":0},)"
            R"("counters":{"enqueued":7,"duplicates":0,"leased":8,"completed":0,"failed":0,"died":0,"released":0,)"
            R"("lease_expired":0,"cancelled":0},)"
            R"("settings":{"paused":true,"max_depth":100,"when_full":"drop_oldest"}})");
}

TEST_F(JsonOutTest, ABatchShowsItsCountsAndThoseCallbacksThatItHas) {
  BatchView batch{.id = "import-7", .created_at = instant_from_ms(1'000)};
  batch.callbacks[0].state = CallbackState::waiting;

  EXPECT_EQ(written(&append_batch, batch, service_),
            R"({"id":"import-7","created_at":"1970-01-01T00:00:01.000Z","total":0,"pending":0,"completed":0,)"
            R"("dead":0,"cancelled":0,"deleted":0,"on_success":{"state":"waiting"}})");

  batch.closed_at = instant_from_ms(2'000);
  batch.jobs = {.total = 15, .pending = 1, .completed = 2, .dead = 3, .cancelled = 4, .deleted = 5};
  batch.callbacks[0].state = CallbackState::not_coming;
  batch.callbacks[1] = {.state = CallbackState::enqueued, .job = number_at(9)};
  batch.meta = R"({"who": "me"})";

  EXPECT_EQ(written(&append_batch, batch, service_),
            R"({"id":"import-7","created_at":"1970-01-01T00:00:01.000Z","closed_at":"1970-01-01T00:00:02.000Z",)"
            R"("total":15,"pending":1,"completed":2,"dead":3,"cancelled":4,"deleted":5,)"
            R"("on_success":{"state":"not_coming"},"on_finish":{"state":"enqueued","job":")" +
                id(number_at(9)) + R"("},"meta":{"who": "me"}})");
}

TEST_F(JsonOutTest, AJobShowsItsBatchToWhoReadsItAndToItsWorker) {
  Bytes const spec = encoded({.type = "t", .queue = "q", .batch = "import-7"});
  LeaseReply const leased{.jobs = {{.number = number_at(1), .spec = spec}}};

  EXPECT_NE(written(&append_job, JobView{.number = number_at(1), .spec = spec}, service_).find(R"("batch":"import-7")"),
            std::string::npos);
  EXPECT_NE(written(&append_lease_reply, leased, std::span<ReportedJob const>{}, false, service_, std::string_view{},
                    AttemptContext::as_stored)
                .find(R"("batch":"import-7")"),
            std::string::npos);
}

TEST_F(JsonOutTest, QueuesArePagedByName) {
  QueuesReply const reply{.queues = {QueueView{.name = "a"}}, .next = "a"};

  std::string const page = written(&append_queues_page, reply);

  EXPECT_NE(page.find(R"("oldest_ready_at":null)"), std::string::npos);
  EXPECT_NE(page.find(R"("max_depth":null)"), std::string::npos);
  EXPECT_TRUE(page.ends_with(R"(],"next":"YQ"})")) << page;
  EXPECT_EQ(parse_queues_cursor("YQ"), "a");
}

TEST_F(JsonOutTest, LinesAndCountsAreWritten) {
  EXPECT_EQ(written(&append_job_log, JobLogReply{.lines = {"a\"", "b"}}), R"({"lines":["a\"","b"]})");
  EXPECT_EQ(written(&append_count, CountReply{.count = 3}), R"({"count":3})");
  EXPECT_EQ(written(&append_done), "{}");
}

// Whatever workers said: bytes that are no UTF-8 too, as they may come over other protocols.
RC_GTEST_FIXTURE_PROP(JsonOutTest, IsAlwaysJson,
                      (std::string const& worker, std::string const& message, std::string const& line)) {
  JobView const job{.number = JobNumber{*rc::gen::arbitrary<std::uint64_t>()},
                    .state = JobState::dead,
                    .spec = encoded({.type = "t", .unique_key = message}),
                    .history = {.worker = worker, .errors = {{.code = "c", .message = message}}}};
  simdjson::dom::parser parser;

  RC_ASSERT(parser.parse(written(&append_job, job, service_)).error() == simdjson::SUCCESS);
  RC_ASSERT(parser.parse(written(&append_job_log, JobLogReply{.lines = {line}})).error() == simdjson::SUCCESS);
}

}  // namespace
}  // namespace workmill::http
