#include "protocols/http/calls/endpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "protocols/http/json/json_out.h"
#include "protocols/http/pages/metrics_page.h"
#include "protocols/http/server_harness_test.h"

// Every call, from its bytes to the command, and from the reply to its bytes.
namespace workmill::http {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

class EndpointsTest : public ServerTest {
 protected:
  // The command that a request becomes.
  template <class T>
  T command(std::string_view request) {
    TestClient client{port};
    client.send(request);
    if (!asked(1)) {
      client.read();
      ADD_FAILURE() << "no command, but: " << client.received;
      return {};
    }
    auto asked = std::exchange(service.asked, {});
    service.answer(asked.front().cookie, DoneReply{});
    T* const found = std::get_if<T>(&asked.front().command);
    EXPECT_NE(found, nullptr);
    return found == nullptr ? T{} : std::move(*found);
  }
  static std::string request(std::string_view method, std::string_view target, std::string_view body = "") {
    std::string text{method};
    text.append(" ").append(target).append(" HTTP/1.1\r\nHost: h\r\nContent-Length: ");
    return text.append(std::to_string(body.size())).append("\r\n\r\n").append(body);
  }
};

TEST_F(EndpointsTest, APostedJobBecomesASpecInACommand) {
  auto const enqueue = command<Enqueue>(post("/v1/jobs", R"({"type":"thumbnail","queue":"images","payload":{"a":1}})"));

  ASSERT_EQ(enqueue.specs.size(), 1U);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(enqueue.specs[0], spec));
  EXPECT_EQ(spec.type, "thumbnail");
  EXPECT_EQ(spec.queue, "images");
  EXPECT_EQ(spec.payload, R"({"a":1})");
  EXPECT_FALSE(enqueue.idempotency);
}

TEST_F(EndpointsTest, TheTraceOfTheRequestGoesWithItsJobs) {
  std::string const header = "traceparent: " + std::string{kTraceparent} + "\r\ntracestate: a=b\r\n";
  auto const enqueue = command<Enqueue>(post("/v1/jobs", R"({"type":"t"})", header));

  JobSpecView spec;
  ASSERT_TRUE(decode_spec(enqueue.specs.at(0), spec));
  EXPECT_EQ(spec.traceparent, kTraceparent);
  EXPECT_EQ(spec.tracestate, "a=b");
}

TEST_F(EndpointsTest, ABrokenTraceIsIgnored) {
  auto const enqueue =
      command<Enqueue>(post("/v1/jobs", R"({"type":"t"})", "traceparent: 00-xyz\r\ntracestate: a=b\r\n"));

  JobSpecView spec;
  ASSERT_TRUE(decode_spec(enqueue.specs.at(0), spec));
  EXPECT_EQ(spec.traceparent, "");
  EXPECT_EQ(spec.tracestate, "");
}

TEST_F(EndpointsTest, AnIdempotencyKeyIsTheSameQuotedOrBare) {
  auto const quoted = command<Enqueue>(post("/v1/jobs", R"({"type":"t"})", "Idempotency-Key: \"key \\\"1\\\"\"\r\n"));
  auto const bare = command<Enqueue>(post("/v1/jobs", R"({"type":"t"})", "Idempotency-Key: key \"1\"\r\n"));

  ASSERT_TRUE(quoted.idempotency && bare.idempotency);
  EXPECT_EQ(quoted.idempotency->key, bare.idempotency->key);
  EXPECT_EQ(quoted.idempotency->fingerprint, bare.idempotency->fingerprint);
}

TEST_F(EndpointsTest, AnotherBodyHasAnotherFingerprint) {
  std::string const header = "Idempotency-Key: k\r\n";
  auto const one = command<Enqueue>(post("/v1/jobs", R"({"type":"some-type-1"})", header));
  auto const two = command<Enqueue>(post("/v1/jobs", R"({"type":"some-type-2"})", header));

  EXPECT_NE(one.idempotency->fingerprint, two.idempotency->fingerprint);
}

TEST_F(EndpointsTest, ABadIdempotencyKeyIsRefused) {
  for (std::string const key : {"\"open", "\"a\"b\"", "\"\"", "\"a\\b\"", ""}) {
    auto const answer = ask(post("/v1/jobs", R"({"type":"t"})", "Idempotency-Key: " + key + "\r\n"));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 ")) << key;
    EXPECT_THAT(answer, HasSubstr(R"("field":"Idempotency-Key")")) << key;
  }
}

TEST_F(EndpointsTest, AFirstAnswerGivenAgainSaysSo) {
  EnqueueReply reply = enqueued("id");
  reply.replayed = true;

  auto const answer = ask(post("/v1/jobs", R"({"type":"t"})"), reply);

  EXPECT_THAT(answer, HasSubstr("201 Created"));
  EXPECT_THAT(answer, HasSubstr("Idempotent-Replayed: true\r\n"));
}

TEST_F(EndpointsTest, ManyJobsAreAnsweredAsMany) {
  auto const answer = ask(post("/v1/jobs", R"({"jobs":[{"type":"t"}]})"), enqueued("id"));

  EXPECT_THAT(answer, HasSubstr(R"({"jobs":[{"id":"id","state":"ready","duplicate":false}]})"));
}

TEST_F(EndpointsTest, AnUnknownFieldIsRefusedByItsName) {
  auto const answer = ask(post("/v1/jobs", R"({"type":"t","prioritty":1})"));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("code":"unknown_field","class":"user")"));
  EXPECT_THAT(answer, HasSubstr(R"("field":"prioritty")"));
}

TEST_F(EndpointsTest, AProblemBelongsToTheTraceOfItsRequest) {
  auto const answer = ask(post("/v1/jobs", "{", "traceparent: " + std::string{kTraceparent} + "\r\n"));

  EXPECT_THAT(answer, HasSubstr(R"("trace_id":"4bf92f3577b34da6a3ce929d0e0e4736")"));
  ASSERT_EQ(log_lines.size(), 1U);
  EXPECT_THAT(log_lines[0], HasSubstr("4bf92f3577b34da6a3ce929d0e0e4736"));
}

TEST_F(EndpointsTest, ABodyIsJsonWhateverItsTypeSays) {
  for (std::string const type : {"", "Content-Type: application/x-www-form-urlencoded\r\n",
                                 "Content-Type: text/plain\r\n", "Content-Type: Application/JSON; charset=utf-8\r\n"}) {
    std::string const head = "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n" + type;
    EXPECT_THAT(ask(head + "\r\n{\"type\":\"t\"}", enqueued("id")), HasSubstr("201")) << type;
  }
}

TEST_F(EndpointsTest, AWebPageCannotMakeABrowserSendJobs) {
  std::string const head = "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\n";
  std::string const body = "\r\n{\"type\":\"t\"}";
  std::string const plain = "Content-Type: text/plain\r\n";
  std::string const json = "Content-Type: application/json\r\n";

  EXPECT_THAT(ask(head + "Origin: http://evil.example\r\n" + body), StartsWith("HTTP/1.1 415 "));
  EXPECT_THAT(ask(head + plain + "Origin: null\r\n" + body), StartsWith("HTTP/1.1 415 "));
  EXPECT_THAT(ask(head + plain + "Sec-Fetch-Site: cross-site\r\n" + body), StartsWith("HTTP/1.1 415 "));
  EXPECT_THAT(ask(head + plain + "Sec-Fetch-Site: same-origin\r\n" + body, enqueued("id")), HasSubstr("201"));
  EXPECT_THAT(ask(head + json + "Origin: http://h\r\n" + body, enqueued("id")), HasSubstr("201"));
}

TEST_F(EndpointsTest, CompressedBodiesAreRefused) {
  std::string const zipped =
      "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab";
  EXPECT_THAT(ask(zipped), StartsWith("HTTP/1.1 415 "));
}

TEST_F(EndpointsTest, ALeaseRequestBecomesALeaseWithItsReports) {
  std::string const id{service.ids().encode(JobNumber{77}).data(), 36};
  auto const lease = command<Lease>(post(
      "/v1/leases", R"({"queues":["a",{"name":"b","weight":2}],"max":10,"wait":"20s","lease":"60s","worker":"host-1",)"
                    R"("reports":[{"id":")" +
                        id + R"(","lease":"00000000000000ff","outcome":"completed","result":1}]})"));

  ASSERT_EQ(lease.queues.size(), 2U);
  EXPECT_EQ(lease.max, 10U);
  EXPECT_EQ(lease.wait, std::chrono::seconds{20});
  EXPECT_EQ(lease.worker, "host-1");
  ASSERT_EQ(lease.reports.size(), 1U);
  EXPECT_EQ(lease.reports[0].job.number, JobNumber{77});
}

TEST_F(EndpointsTest, ReportsAreAnsweredInOrderByTheirIds) {
  ReportsReply reply;
  reply.reports.emplace_back();
  reply.reports.push_back({.error = Error{.code = ErrorCode::lease_lost, .message = "the lease is over"}});

  auto const answer =
      ask(post("/v1/reports", R"({"reports":[{"id":"a","lease":"0000000000000001","outcome":"released"},)"
                              R"({"id":"b","lease":"0000000000000001","outcome":"released"}]})"),
          reply);

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"({"reports":[{"id":"a","ok":true},{"id":"b","ok":false,"error":{)"));
  EXPECT_THAT(answer, HasSubstr(R"("status":409)"));
}

TEST_F(EndpointsTest, ReportsAreCountedByWhatCameOfThem) {
  std::string const three = R"({"id":"a","lease":"0000000000000001","outcome":"released"},)"
                            R"({"id":"b","lease":"0000000000000001","outcome":"released"},)"
                            R"({"id":"c","lease":"0000000000000001","outcome":"released"})";
  ReportsReply reported;
  reported.reports.emplace_back();
  reported.reports.push_back({.error = Error{.code = ErrorCode::lease_lost, .message = "the lease is over"}});
  reported.reports.push_back({.error = Error{.code = ErrorCode::job_not_found, .message = "none"}});
  LeaseReply leased;
  leased.reports.resize(3);

  ask(post("/v1/reports", R"({"reports":[)" + three + "]}"), reported);
  ask(post("/v1/leases", R"({"queues":["q"],"reports":[)" + three + "]}"), leased);

  auto const text = metrics.render({});
  EXPECT_THAT(text, HasSubstr("workmill_reports_total{protocol=\"http\",result=\"ok\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("workmill_reports_total{protocol=\"http\",result=\"lease_lost\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("workmill_reports_total{protocol=\"http\",result=\"refused\"} 1\n"));
}

TEST_F(EndpointsTest, ALeaseWithReportsIsAnsweredWithBoth) {
  LeaseReply reply;
  reply.reports.emplace_back();

  auto const answer = ask(
      post("/v1/leases", R"({"queues":["q"],"reports":[{"id":"a","lease":"0000000000000001","outcome":"released"}]})"),
      reply);

  EXPECT_THAT(answer, HasSubstr(R"({"jobs":[],"reports":[{"id":"a","ok":true}]})"));
}

TEST_F(EndpointsTest, AJobIsAskedForByNumberWhereTheIdIsOurs) {
  std::string const id{service.ids().encode(JobNumber{77}).data(), 36};

  EXPECT_EQ(command<GetJob>(get("/v1/jobs/" + id)).job.number, JobNumber{77});
  auto const named = command<GetJob>(get("/v1/jobs/my%3Aid?wait=30s"));
  EXPECT_FALSE(named.job.number);
  EXPECT_EQ(named.job.text, "my:id");
  EXPECT_EQ(named.wait, std::chrono::seconds{30});
}

TEST_F(EndpointsTest, AnIdThatNoJobCanHaveIsNotFound) {
  EXPECT_THAT(ask(get("/v1/jobs/a%20b")), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask(get("/v1/jobs/" + std::string(129, 'x'))), HasSubstr("job_not_found"));
}

TEST_F(EndpointsTest, ListsAreFilteredAndPaged) {
  std::string page;
  append_jobs_page({.jobs = {}, .next = JobNumber{1234}}, service, page);
  std::string const cursor = page.substr(page.find("next\":\"") + 7, 11);

  auto const list =
      command<ListJobs>(get("/v1/jobs?state=dead&queue=q&type=t&tag=n&group=g&q=a+b&limit=7&cursor=" + cursor));

  EXPECT_EQ(list.filter.state, JobState::dead);
  EXPECT_EQ(list.filter.queue, "q");
  EXPECT_EQ(list.filter.text, "a b");
  EXPECT_EQ(list.limit, 7U);
  EXPECT_EQ(list.before, JobNumber{1234});
}

TEST_F(EndpointsTest, BadQueriesAreRefusedByName) {
  EXPECT_THAT(ask(get("/v1/jobs?limit=0")), HasSubstr(R"("field":"limit")"));
  EXPECT_THAT(ask(get("/v1/jobs?limit=1001")), HasSubstr(R"("field":"limit")"));
  EXPECT_THAT(ask(get("/v1/jobs?state=asleep")), HasSubstr(R"("field":"state")"));
  EXPECT_THAT(ask(get("/v1/jobs?cursor=x")), HasSubstr(R"("field":"cursor")"));
  EXPECT_THAT(ask(get("/v1/jobs?stat=ready")), HasSubstr(R"("code":"unknown_field")"));
  EXPECT_THAT(ask(get("/v1/jobs/x?wait=forever")), HasSubstr(R"("field":"wait")"));
  EXPECT_THAT(ask(get("/v1/jobs/x?wait=6m")), HasSubstr(R"("field":"wait")"));
}

TEST_F(EndpointsTest, TheOtherCallsOnJobsBecomeTheirCommands) {
  EXPECT_EQ(command<CancelJob>(request("POST", "/v1/jobs/a/cancel")).job.text, "a");
  EXPECT_EQ(command<RetryJob>(request("POST", "/v1/jobs/a/retry")).job.text, "a");
  EXPECT_EQ(command<DeleteJob>(request("DELETE", "/v1/jobs/a")).job.text, "a");
  EXPECT_EQ(command<GetJobLog>(get("/v1/jobs/a/log")).job.text, "a");
  auto const patch = command<PatchJob>(request("PATCH", "/v1/jobs/a", R"({"priority":9})"));
  EXPECT_EQ(patch.job.text, "a");
  EXPECT_EQ(patch.changes.priority, 9);
  auto const bulk = command<BulkJobs>(post("/v1/jobs/bulk", R"({"action":"retry","where":{"state":"dead"}})"));
  EXPECT_EQ(bulk.action, BulkAction::retry);
}

TEST_F(EndpointsTest, TheCallsOnQueuesBecomeTheirCommands) {
  EXPECT_EQ(command<ListQueues>(get("/v1/queues?limit=3")).limit, 3U);
  EXPECT_EQ(command<GetQueue>(get("/v1/queues/q")).name, "q");
  auto const patch = command<PatchQueue>(request("PATCH", "/v1/queues/q", R"({"paused":true,"max_depth":null})"));
  EXPECT_EQ(patch.name, "q");
  EXPECT_EQ(patch.paused, true);
  EXPECT_TRUE(patch.max_depth.has_value() && !patch.max_depth->has_value());
  EXPECT_EQ(command<PurgeQueue>(request("DELETE", "/v1/queues/q/jobs?state=dead")).state, JobState::dead);
  EXPECT_THAT(ask(get("/v1/queues/no%2Fname")), HasSubstr(R"("field":"queue")"));
}

TEST_F(EndpointsTest, TheCallsOnBatchesBecomeTheirCommands) {
  std::string const header = "traceparent: " + std::string{kTraceparent} + "\r\ntracestate: a=b\r\n";
  auto const make = command<MakeBatch>(post("/v1/batches", R"({"id":"b","on_finish":{"type":"t"}})", header));

  EXPECT_EQ(make.id, "b");
  EXPECT_EQ(make.traceparent, kTraceparent);
  EXPECT_EQ(make.tracestate, "a=b");
  EXPECT_FALSE(make.idempotency);
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(make.on_finish, spec));
  EXPECT_EQ(spec.traceparent, "") << "it is no part of what was asked for";
  EXPECT_EQ(command<GetBatch>(request("GET", "/v1/batches/b%2D1")).id, "b-1");
  EXPECT_EQ(command<CloseBatch>(request("POST", "/v1/batches/b/close")).id, "b");
  EXPECT_EQ(command<ForgetBatch>(request("DELETE", "/v1/batches/b")).id, "b");
  EXPECT_EQ(command<ListJobs>(request("GET", "/v1/jobs?batch=b")).filter.batch, "b");
  EXPECT_EQ(command<ListBatches>(request("GET", "/v1/batches")).state, std::nullopt);
  auto const list = command<ListBatches>(request("GET", "/v1/batches?state=over&limit=7"));
  EXPECT_EQ(list.state, BatchState::over);
  EXPECT_EQ(list.limit, 7U);
}

TEST_F(EndpointsTest, AnIdThatNoBatchCanHaveIsNotFound) {
  for (std::string const target : {"/v1/batches/a%20b", "/v1/batches/%zz"}) {
    EXPECT_THAT(ask(request("GET", target)), HasSubstr(R"("code":"batch_not_found")")) << target;
  }
}

TEST_F(EndpointsTest, AnIdempotencyKeyOfABatchIsNoneOfAJob) {
  std::string const header = "Idempotency-Key: k\r\n";
  auto const batch = command<MakeBatch>(post("/v1/batches", R"({"on_finish":{"type":"t"}})", header));
  auto const job = command<Enqueue>(post("/v1/jobs", R"({"type":"t"})", header));

  ASSERT_TRUE(batch.idempotency && job.idempotency);
  EXPECT_NE(batch.idempotency->key, job.idempotency->key);
}

TEST_F(EndpointsTest, ABatchIsCreatedOrWasThereOrIsAnsweredAgain) {
  std::string const make = post("/v1/batches", R"({"on_finish":{"type":"t"}})");

  EXPECT_THAT(ask(make, BatchReply{.batch = {.id = "b"}, .created = true}), StartsWith("HTTP/1.1 201 "));
  auto const there = ask(make, BatchReply{.batch = {.id = "b"}});
  EXPECT_THAT(there, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(there, HasSubstr(R"({"id":"b",)"));
  EXPECT_THAT(there, Not(HasSubstr("Idempotent-Replayed")));
  auto const again = ask(make, BatchReply{.batch = {.id = "b"}, .replayed = true});
  EXPECT_THAT(again, StartsWith("HTTP/1.1 201 "));
  EXPECT_THAT(again, HasSubstr("Idempotent-Replayed: true\r\n"));
}

TEST_F(EndpointsTest, HealthSaysWhetherTheServerLivesAndWhetherItServes) {
  EXPECT_THAT(ask(get("/healthz")), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(ask(get("/readyz")), StartsWith("HTTP/1.1 200 OK\r\n"));

  service.hindered.disk_full = true;

  EXPECT_THAT(ask(get("/healthz")), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(ask(get("/livez")), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(ask(get("/readyz")), StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  auto const verbose = ask(get("/readyz?verbose"));
  EXPECT_THAT(verbose, HasSubstr("[+]recovered ok\n"));
  EXPECT_THAT(verbose, HasSubstr("[-]disk failed\n"));
  EXPECT_THAT(ask(get("/readyz?exclude=serving")), StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(ask(get("/readyz?exclude=disk")), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(ask(get("/readyz?exclude=recovered,disk")), StartsWith("HTTP/1.1 200 OK\r\n"));
  for (std::string const unknown : {"", "disc", "disk,", ",disk"}) {
    EXPECT_THAT(ask(get("/readyz?exclude=" + unknown)), HasSubstr(R"("field":"exclude")")) << unknown;
  }
  auto const json = ask(get("/readyz", "Accept: application/health+json\r\n"));
  EXPECT_THAT(json, HasSubstr("Content-Type: application/health+json\r\n"));
  EXPECT_THAT(json, HasSubstr(R"({"status":"fail","version":)"));
}

TEST_F(EndpointsTest, EachCheckOfReadinessStandsForItself) {
  service.hindered = {.disk_full = true, .draining = true};

  EXPECT_THAT(ask(get("/readyz")), EndsWith("\r\n\r\ndraining\n"));
  auto const verbose = ask(get("/readyz?verbose"));
  EXPECT_THAT(verbose, HasSubstr("[+]recovered ok\n"));
  EXPECT_THAT(verbose, HasSubstr("[-]disk failed\n"));
  EXPECT_THAT(verbose, HasSubstr("[-]serving failed\n"));
  auto const without_serving = ask(get("/readyz?exclude=serving"));
  EXPECT_THAT(without_serving, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(without_serving, EndsWith("\r\n\r\ndisk_full\n"));
  EXPECT_THAT(ask(get("/readyz?exclude=disk")), EndsWith("\r\n\r\ndraining\n"));
  EXPECT_THAT(ask(get("/readyz?exclude=serving,disk")), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(EndpointsTest, StatusShowsTheShardAndTheFrontEnd) {
  StatusReply reply;
  reply.jobs = 12;
  reply.bounds.push_back({.name = "inbox", .used = 1, .limit = 2});

  auto const answer = ask(get("/v1/status"), reply);

  EXPECT_THAT(answer, HasSubstr(R"("readiness":"ready")"));
  EXPECT_THAT(answer, HasSubstr(R"("uptime":"1m30s")"));
  EXPECT_THAT(answer, HasSubstr(R"("jobs":{"total":12,)"));
  EXPECT_THAT(answer, HasSubstr(R"({"name":"inbox","used":1,"limit":2})"));
  EXPECT_THAT(answer, HasSubstr(R"({"name":"http_connections",)"));
}

TEST_F(EndpointsTest, StatusShowsTheLifeOfJobsAndTheirTypes) {
  StatusReply reply;
  reply.job_stages.resize(kJobStages);
  reply.job_stages.back().observe(std::chrono::seconds{5});
  reply.types = {{.type = kOtherTypes}, {.type = "mail", .enqueued = 3, .completed = 2, .failed = 1}};

  auto const answer = ask(get("/v1/status"), reply);

  EXPECT_THAT(answer, HasSubstr(R"("leased_to_done":{"count":1,"seconds_total":5,)"));
  EXPECT_THAT(answer,
              HasSubstr(R"("types":[{"type":"mail","enqueued_total":3,"completed_total":2,"failed_total":1}])"));
  EXPECT_THAT(answer, HasSubstr(R"("http":{"connections_total":1,"requests_total":0,"refused_total":0})"));
}

TEST_F(EndpointsTest, TheStagesOfARequestAreTimedWhereSomebodyWantsThem) {
  telemetry::StageTimes const stages{metrics};
  server->set_stage_times(stages);

  ask(post("/v1/jobs", R"({"type":"a"})"), enqueued(1));

  EXPECT_EQ(stages[telemetry::Stage::parse].snapshot().count(), 1U);
  EXPECT_EQ(stages[telemetry::Stage::reply].snapshot().count(), 1U);
  server.reset();
}

TEST_F(EndpointsTest, AProfileNeedsAProfilerAndALengthThatIsAllowed) {
  EXPECT_THAT(ask(get("/v1/debug/cpu-profile")), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  EXPECT_THAT(ask(get("/v1/debug/cpu-profile?seconds=61")), StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_THAT(ask(get("/v1/debug/cpu-profile?seconds=1x")), HasSubstr(R"("field":"seconds")"));
}

TEST_F(EndpointsTest, TheHeapIsShownByPart) {
  StatusReply reply;
  reply.engine_memory_bytes = 77;
  reply.log_bytes = 1 << 20;

  auto const answer = ask(get("/v1/debug/heap"), reply);

  EXPECT_THAT(answer, HasSubstr(R"({"name":"engine","bytes":77})"));
  EXPECT_THAT(answer, HasSubstr(R"({"name":"log_checksums","bytes":64})"));
  EXPECT_THAT(answer, HasSubstr(R"({"name":"cache_values","bytes":)"));
  EXPECT_THAT(answer, HasSubstr(R"({"name":"cache_values_lost","bytes":)"));
}

TEST_F(EndpointsTest, MetricsArePackedForThoseWhoAsk) {
  auto const answer = ask(get("/metrics", "Accept-Encoding: gzip\r\n"), StatusReply{});

  EXPECT_THAT(answer, HasSubstr("Content-Encoding: gzip\r\n"));
  EXPECT_THAT(answer, HasSubstr("Vary: Accept, Accept-Encoding\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n\x1f\x8b"));
  EXPECT_THAT(ask(get("/v1/status", "Accept-Encoding: gzip\r\n"), StatusReply{}), Not(HasSubstr("Content-Encoding")));
}

TEST_F(EndpointsTest, QueuesBeyondSomeAreSummedUp) {
  StatusReply reply;
  for (std::size_t i = 0; i < kQueuesShownMax + 3; ++i) {
    QueueView& queue = reply.queues.emplace_back();
    queue.name = "q" + std::to_string(1'000 + i);
    queue.depth[1] = 2;
    queue.counters.enqueued = 5;
  }

  auto const text = ask(get("/metrics"), reply);

  EXPECT_THAT(text, HasSubstr("workmill_jobs{queue=\"(other)\",state=\"ready\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("workmill_jobs_enqueued_total{queue=\"(other)\"} 15\n"));
  EXPECT_THAT(text, HasSubstr("workmill_queues_folded 3\n"));
}

TEST_F(EndpointsTest, MetricsAreTextOrOpenMetricsAsAskedFor) {
  StatusReply reply;
  reply.queues.emplace_back();
  reply.queues[0].name = "q";
  reply.queues[0].depth[1] = 5;

  auto const text = ask(get("/metrics"), reply);
  EXPECT_THAT(text, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(text, HasSubstr("workmill_jobs{queue=\"q\",state=\"ready\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("workmill_bound_limit{bound=\"http_connections\"} 20000\n"));

  auto const open = ask(get("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n"), reply);
  EXPECT_THAT(open, HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
  EXPECT_TRUE(open.ends_with("# EOF\n"));
  EXPECT_EQ(open.find("# EOF"), open.rfind("# EOF"));
}

TEST_F(EndpointsTest, EveryFamilyOfMetricsIsInOnePiece) {
  StatusReply reply;
  reply.queues.resize(2);
  reply.queues[0].name = "a";
  reply.queues[1].name = "b";

  auto const text = ask(get("/metrics"), reply);

  std::set<std::string> families;
  for (auto at = text.find("# TYPE "); at != std::string::npos; at = text.find("# TYPE ", at + 1)) {
    std::string const name = text.substr(at + 7, text.find(' ', at + 7) - at - 7);
    EXPECT_TRUE(families.insert(name).second) << name;
  }
  EXPECT_GT(families.size(), 20U);
}

TEST_F(EndpointsTest, TheDocumentAndTheHomePageAreServed) {
  EXPECT_THAT(ask(get("/openapi.json")), HasSubstr("\"openapi\": \"3.1.0\""));
  EXPECT_THAT(ask(get("/")), HasSubstr("POST /v1/jobs"));
}

TEST_F(EndpointsTest, HeadIsGetWithoutItsBody) {
  auto const answer = ask("HEAD /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n");

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, testing::EndsWith("\r\n\r\n"));
  EXPECT_THAT(answer, testing::ContainsRegex("Content-Length: +[1-9][0-9]{4,5}\r\n"));
}

TEST_F(EndpointsTest, OptionsSaysWhatAPathCanBeAsked) {
  auto const answer = ask("OPTIONS /v1/jobs HTTP/1.1\r\nHost: h\r\n\r\n");

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(answer, HasSubstr("Allow: POST, GET, HEAD, OPTIONS\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Length")));
  EXPECT_THAT(ask("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 204 "));
  EXPECT_THAT(ask("OPTIONS /nothing HTTP/1.1\r\nHost: h\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(EndpointsTest, AWrongMethodIsToldTheRightOnes) {
  auto const answer = ask(request("PUT", "/v1/jobs", "{}"));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_THAT(answer, HasSubstr("Allow: POST, GET, HEAD, OPTIONS\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("code":"method_not_allowed")"));
}

TEST_F(EndpointsTest, AnUnknownPathIsAProblemToo) {
  auto const answer = ask(get("/v2/jobs"));

  EXPECT_THAT(answer, StartsWith("HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("type":"/errors/not_found","title":"Not found","status":404)"));
}

TEST_F(EndpointsTest, ErrorsOfTheShardBecomeProblemsOfTheirStatus) {
  EXPECT_THAT(ask(get("/v1/jobs/x"), Error{.code = ErrorCode::job_not_found, .message = "no such job"}),
              StartsWith("HTTP/1.1 404 "));
  auto const full = ask(post("/v1/jobs", R"({"type":"t"})"), Error{.code = ErrorCode::queue_full, .message = "full"});
  EXPECT_THAT(full, StartsWith("HTTP/1.1 429 Too Many Requests\r\n"));
  EXPECT_THAT(full, HasSubstr("Retry-After: "));
  EXPECT_THAT(ask(request("DELETE", "/v1/jobs/x"), Error{.code = ErrorCode::job_leased, .message = "leased"}),
              StartsWith("HTTP/1.1 409 "));
}

TEST_F(EndpointsTest, OnlyErrorsOfOursAreLoggedAsErrors) {
  ask(get("/nothing"));
  ask(get("/v1/jobs/x"), Error{.code = ErrorCode::internal, .message = "a spec that does not decode"});

  ASSERT_EQ(log_lines.size(), 2U);
  EXPECT_THAT(log_lines[0], HasSubstr("DEBUG"));
  EXPECT_THAT(log_lines[1], HasSubstr("ERROR"));
}

}  // namespace
}  // namespace workmill::http
