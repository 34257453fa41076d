#include "protocols/http/json/json_in.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

#include "base/variant.h"
#include "protocols/http/fixed_service_test.h"
#include "protocols/http/json/json_out.h"

namespace workmill::http {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using namespace std::string_literals;
using namespace std::string_view_literals;

class JsonInTest : public testing::Test {
 protected:
  // The only job of a body. Its views are good until the next one.
  JobSpecView job(std::string_view body, TraceContext const& trace = {}) {
    auto request = json_.parse_enqueue(body, trace);
    EXPECT_TRUE(request) << (request ? "" : describe(request.error()));
    if (!request || request->command.specs.size() != 1) return {};
    EXPECT_FALSE(request->bulk);
    bytes_ = std::move(request->command.specs.front());
    JobSpecView view;
    EXPECT_TRUE(decode_spec(bytes_, view));
    return view;
  }
  Report report(std::string_view body) {
    auto batch = json_.parse_reports(R"({"reports":[)" + std::string{body} + "]}");
    EXPECT_TRUE(batch) << (batch ? "" : describe(batch.error()));
    return batch ? batch->reports.at(0) : Report{};
  }
  // "code field" of the error, or "accepted".
  template <class T>
  static std::string fault(Result<T> const& result) {
    return result ? "accepted" : std::string{to_string(result.error().code)} + " " + result.error().field;
  }
  std::string job_fault(std::string_view body) { return fault(json_.parse_enqueue(body)); }
  std::string field_fault(std::string_view member) { return job_fault(R"({"type":"t",)" + std::string{member} + "}"); }
  std::string lease_fault(std::string_view body) { return fault(json_.parse_lease(body)); }
  std::string report_fault(std::string_view members) {
    return fault(
        json_.parse_reports(R"({"reports":[{"id":"j","lease":"0000000000000001",)" + std::string{members} + "}]}"));
  }

  FixedService service_;
  JsonIn json_{service_};
  Bytes bytes_;
};

// --- POST /v1/jobs

TEST_F(JsonInTest, AJobNeedsItsTypeOnly) {
  EXPECT_EQ(job(R"({"type":"thumbnail"})"), JobSpecView{.type = "thumbnail"});
}

TEST_F(JsonInTest, EveryFieldOfAJobIsTaken) {
  JobSpecView const spec = job(R"({"type": "thumbnail", "queue": "q", "payload": {"any": "json"}, "id": "my-1",
    "priority": 7, "delay": "30s", "expires_in": "1h", "max_attempts": 3,
    "backoff": {"first": "1s", "factor": 1.5, "cap": "2h", "jitter": 0.25}, "lease": "90s",
    "unique": {"key": "invoice-42", "while": "queued", "for": "1h"}, "group": "tenant-7", "tags": ["nightly", "b"],
    "batch": "import-7", "keep_result": "5m", "meta": {"user": "me"}})",
                               {.traceparent = "00-aa-bb-01", .tracestate = "x=y"});

  EXPECT_EQ(spec, (JobSpecView{.type = "thumbnail",
                               .queue = "q",
                               .id = "my-1",
                               .payload_kind = PayloadKind::json,
                               .payload = R"({"any": "json"})",
                               .priority = 7,
                               .delay = seconds{30},
                               .expires_in = hours{1},
                               .max_attempts = 3,
                               .backoff = Backoff{seconds{1}, 1'500, hours{2}, 250},
                               .lease = seconds{90},
                               .unique_key = "invoice-42",
                               .unique_while = UniqueWhile::queued,
                               .unique_for = hours{1},
                               .group = "tenant-7",
                               .tags = {"nightly", "b"},
                               .keep_result = seconds{300},
                               .meta = R"({"user": "me"})",
                               .traceparent = "00-aa-bb-01",
                               .tracestate = "x=y",
                               .batch = "import-7"}));
  EXPECT_EQ(job(R"({"type":"t","run_at":"1970-01-01T01:00:00.5+01:00"})").run_at, instant_from_ms(500));
}

TEST_F(JsonInTest, APayloadIsKeptAsItWasSent) {
  EXPECT_EQ(job("{\"type\":\"t\",\"payload\" :  [ 1.0, 12345678901234567890123 ] \n}").payload,
            "[ 1.0, 12345678901234567890123 ]");
  EXPECT_EQ(job(R"({"payload":null,"type":"t"})").payload, "null");
  EXPECT_EQ(job(R"({"payload":"gr\u00fc\u00df","type":"t"})").payload, R"("gr\u00fc\u00df")");
}

TEST_F(JsonInTest, APayloadOfBytesIsDecoded) {
  JobSpecView const spec = job(R"({"type":"t","payload_base64":"AP8="})");

  EXPECT_EQ(spec.payload_kind, PayloadKind::raw);
  EXPECT_EQ(spec.payload, "\x00\xff"s);
}

TEST_F(JsonInTest, NamesMayBeWrittenWithEscapes) {
  EXPECT_EQ(job(R"({"\u0074ype":"\u0061b"})"), JobSpecView{.type = "ab"});
}

TEST_F(JsonInTest, AFirstWaitAboveTheDefaultCapRaisesTheCap) {
  EXPECT_EQ(job(R"({"type":"t","backoff":{"first":"2h"}})").backoff->cap, hours{2});
  EXPECT_EQ(job(R"({"type":"t","backoff":{}})").backoff, Backoff{});
}

TEST_F(JsonInTest, ManyJobsKeepTheirOrder) {
  auto const request = json_.parse_enqueue(R"({"jobs":[{"type":"a"},{"type":"b","tags":["x"]},{"type":"c"}]})");

  ASSERT_TRUE(request);
  EXPECT_TRUE(request->bulk);
  std::vector<JobSpecView> views(3);
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(decode_spec(request->command.specs.at(i), views[i]));
  EXPECT_EQ(views[0], JobSpecView{.type = "a"});
  EXPECT_EQ(views[1], (JobSpecView{.type = "b", .tags = {"x"}}));
  EXPECT_EQ(views[2], JobSpecView{.type = "c"});
}

TEST_F(JsonInTest, EveryJobOfARequestHasItsTrace) {
  auto const request = json_.parse_enqueue(R"({"jobs":[{"type":"a"},{"type":"b"}]})", {.traceparent = "tp"});
  JobSpecView view;

  ASSERT_TRUE(decode_spec(request->command.specs.at(1), view));

  EXPECT_EQ(view.traceparent, "tp");
}

TEST_F(JsonInTest, OneJobAtFaultRefusesThemAllByItsPlace) {
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"},{"type":"b","priority":10}]})"), "invalid_field jobs[1].priority");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a","backoff":{"furst":"1s"}}]})"), "unknown_field jobs[0].backoff.furst");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"},{"type":"a","tags":["x","y z"]}]})"), "invalid_field jobs[1].tags[1]");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"},{}]})"), "missing_field jobs[1].type");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"},{"type":"a","lease":"1ms"}]})"), "invalid_field jobs[1].lease");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"},7]})"), "invalid_field jobs[1]");
}

TEST_F(JsonInTest, AListOfJobsStandsAlone) {
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a"}],"type":"b"})"), "invalid_field type");
  EXPECT_EQ(job_fault(R"({"type":"b","jobs":[{"type":"a"}]})"), "invalid_field jobs");
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a","jobs":[]}]})"), "unknown_field jobs[0].jobs");
  EXPECT_EQ(job_fault(R"({"jobs":[]})"), "invalid_field jobs");
  EXPECT_EQ(job_fault(R"({"jobs":{}})"), "invalid_field jobs");
}

TEST_F(JsonInTest, TenThousandJobsAreTheMost) {
  auto const body = [](std::size_t count) {
    std::string text = R"({"jobs":[{"type":"t"})";
    for (std::size_t i = 1; i < count; ++i) text += R"(,{"type":"t"})";
    return text + "]}";
  };

  EXPECT_EQ(job_fault(body(10'000)), "accepted");
  EXPECT_EQ(job_fault(body(10'001)), "invalid_field jobs");
}

TEST_F(JsonInTest, FieldsThatAreUnknownMissingOrDoubleAreNamed) {
  EXPECT_EQ(job_fault("{}"), "missing_field type");
  EXPECT_EQ(job_fault(R"({"queue":"q"})"), "missing_field type");
  EXPECT_EQ(field_fault(R"("colour":"red")"), "unknown_field colour");
  EXPECT_EQ(field_fault(R"("":1)"), "unknown_field ");
  EXPECT_EQ(field_fault(R"("typ":"x")"), "unknown_field typ");
  EXPECT_EQ(field_fault(R"("type":"x")"), "invalid_field type");
  EXPECT_EQ(field_fault(R"("backoff":{"first":"1s","first":"2s"})"), "invalid_field backoff.first");
  EXPECT_EQ(field_fault(R"("unique":{"while":"queued"})"), "missing_field unique.key");
}

TEST_F(JsonInTest, ValuesOfAnotherTypeAreRefused) {
  EXPECT_EQ(job_fault(R"({"type":5})"), "invalid_field type");
  EXPECT_EQ(job_fault(R"({"type":null})"), "invalid_field type");
  EXPECT_EQ(job_fault(R"([])"), "invalid_field ");
  EXPECT_EQ(job_fault(R"("type")"), "invalid_field ");
  EXPECT_EQ(field_fault(R"("queue":["q"])"), "invalid_field queue");
  EXPECT_EQ(field_fault(R"("priority":"5")"), "invalid_field priority");
  EXPECT_EQ(field_fault(R"("priority":5.0)"), "invalid_field priority");
  EXPECT_EQ(field_fault(R"("priority":-1)"), "invalid_field priority");
  EXPECT_EQ(field_fault(R"("priority":1e0)"), "invalid_field priority");
  EXPECT_EQ(field_fault(R"("max_attempts":4294967297)"), "invalid_field max_attempts");
  EXPECT_EQ(field_fault(R"("max_attempts":99999999999999999999999)"), "invalid_field max_attempts");
  EXPECT_EQ(field_fault(R"("delay":30)"), "invalid_field delay");
  EXPECT_EQ(field_fault(R"("delay":"30")"), "invalid_field delay");
  EXPECT_EQ(field_fault(R"("run_at":"tomorrow")"), "invalid_field run_at");
  EXPECT_EQ(field_fault(R"("backoff":"1s")"), "invalid_field backoff");
  EXPECT_EQ(field_fault(R"("backoff":{"factor":1.2345})"), "invalid_field backoff.factor");
  EXPECT_EQ(field_fault(R"("backoff":{"factor":-2})"), "invalid_field backoff.factor");
  EXPECT_EQ(field_fault(R"("backoff":{"factor":1e999})"), "invalid_field backoff.factor");
  EXPECT_EQ(field_fault(R"("backoff":{"factor":101})"), "invalid_field backoff.factor");
  EXPECT_EQ(field_fault(R"("tags":"nightly")"), "invalid_field tags");
  EXPECT_EQ(field_fault(R"("tags":[1])"), "invalid_field tags[0]");
  EXPECT_EQ(field_fault(R"("meta":[])"), "invalid_field meta");
  EXPECT_EQ(field_fault(R"("meta":"{}")"), "invalid_field meta");
  EXPECT_EQ(field_fault(R"("unique":{"key":"k","while":"always"})"), "invalid_field unique.while");
  EXPECT_EQ(field_fault(R"("payload_base64":"AP8")"), "invalid_field payload_base64");
  EXPECT_EQ(field_fault(R"("payload_base64":{})"), "invalid_field payload_base64");
}

TEST_F(JsonInTest, ValuesOutOfRangeAreRefused) {
  EXPECT_EQ(job_fault(R"({"type":""})"), "invalid_field type");
  EXPECT_EQ(job_fault(R"({"type":"a b"})"), "invalid_field type");
  EXPECT_EQ(job_fault(R"({"type":")" + std::string(129, 'a') + R"("})"), "invalid_field type");
  EXPECT_EQ(field_fault(R"("queue":"")"), "invalid_field queue");
  EXPECT_EQ(field_fault(R"("id":"")"), "invalid_field id");
  EXPECT_EQ(field_fault(R"("group":"")"), "invalid_field group");
  EXPECT_EQ(field_fault(R"("batch":"")"), "invalid_field batch");
  EXPECT_EQ(field_fault(R"("batch":"a b")"), "invalid_field batch");
  EXPECT_EQ(field_fault(R"("unique":{"key":""})"), "invalid_field unique.key");
  EXPECT_EQ(field_fault(R"("max_attempts":0)"), "invalid_field max_attempts");
  EXPECT_EQ(field_fault(R"("delay":"1s","run_at":"2026-01-01T00:00:00Z")"), "invalid_field run_at");
  EXPECT_EQ(field_fault(R"("payload":1,"payload_base64":"")"), "invalid_field payload_base64");
  EXPECT_EQ(field_fault(R"("payload_base64":"","payload":1)"), "invalid_field payload");
}

TEST_F(JsonInTest, WhatThisVersionDoesNotServeYetIsSaidSo) {
  for (std::string_view const member : {R"("limits":["x"])", R"("after":["x"])"}) {
    auto const result = json_.parse_enqueue(R"({"type":"t",)" + std::string{member} + "}");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::invalid_field);
    EXPECT_EQ(result.error().message, "is not supported by this version yet");
  }
}

TEST_F(JsonInTest, WhatIsNoJsonIsRefusedWithItsPlace) {
  for (std::string const& body :
       {""s, "{"s, "nope"s, R"({"type":"t"}x)"s, R"({"type":"t",})"s, R"({"type":"t","payload":{a:1}})"s,
        R"({"type":"t","payload":[1,]})"s, R"({"type":nope})"s, R"({"priority":05,"type":"t"})"s,
        "{\"type\":\"\xff\"}"s, R"({"type":"t","payload":"\ud800"})"s,
        R"({"type":"t","payload":)"s + std::string(200, '[') + std::string(200, ']') + "}"}) {
    EXPECT_EQ(job_fault(body), "malformed_json ") << body;
  }
  EXPECT_EQ(json_.parse_enqueue(R"({"type":"t","payload":[1,]})").error().message, "a value was expected (at byte 25)");
}

TEST_F(JsonInTest, AParserIsAsGoodAfterAnErrorAsBefore) {
  EXPECT_EQ(job_fault(R"({"jobs":[{"type":"a","backoff":{"first":7}}]})"), "invalid_field jobs[0].backoff.first");

  EXPECT_EQ(job(R"({"type":"t"})"), JobSpecView{.type = "t"});
}

// --- POST /v1/leases

TEST_F(JsonInTest, ALeaseNeedsItsQueuesOnly) {
  auto const lease = json_.parse_lease(R"({"queues":["a","b"]})");

  ASSERT_TRUE(lease);
  ASSERT_EQ(lease->queues.size(), 2U);
  EXPECT_EQ(lease->queues[0].name, "a");
  EXPECT_EQ(lease->queues[1].name, "b");
  EXPECT_EQ(lease->queues[1].weight, 0U);
  EXPECT_EQ(lease->max, 1U);
  EXPECT_EQ(lease->wait, Duration{0});
  EXPECT_EQ(lease->lease, std::nullopt);
}

TEST_F(JsonInTest, EveryFieldOfALeaseIsTaken) {
  auto const lease = json_.parse_lease(R"({"queues":[{"name":"a","weight":3},"b"],"max":10,"wait":"20s","lease":"60s",
    "worker":"host-1","reports":[{"id":"j","lease":"00000000000000ff","outcome":"released"}]})");

  ASSERT_TRUE(lease);
  EXPECT_EQ(lease->queues[0].weight, 3U);
  EXPECT_EQ(lease->max, 10U);
  EXPECT_EQ(lease->wait, seconds{20});
  EXPECT_EQ(lease->lease, seconds{60});
  EXPECT_EQ(lease->worker, "host-1");
  ASSERT_EQ(lease->reports.size(), 1U);
  EXPECT_EQ(lease->reports[0].lease, LeaseToken{255});
}

TEST_F(JsonInTest, ALeaseAtFaultIsNamed) {
  EXPECT_EQ(lease_fault("{}"), "missing_field queues");
  EXPECT_EQ(lease_fault(R"({"queues":[]})"), "invalid_field queues");
  EXPECT_EQ(lease_fault(R"({"queues":"a"})"), "invalid_field queues");
  EXPECT_EQ(lease_fault(R"({"queues":["a","a"]})"), "invalid_field queues[1]");
  EXPECT_EQ(lease_fault(R"({"queues":[7]})"), "invalid_field queues[0]");
  EXPECT_EQ(lease_fault(R"({"queues":[{"weight":1}]})"), "missing_field queues[0].name");
  EXPECT_EQ(lease_fault(R"({"queues":[{"name":"a","weight":0}]})"), "invalid_field queues[0].weight");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"max":0})"), "invalid_field max");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"max":1001})"), "invalid_field max");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"wait":"6m"})"), "invalid_field wait");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"lease":"1ms"})"), "invalid_field lease");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"worker":"my host"})"), "invalid_field worker");
  EXPECT_EQ(lease_fault(R"({"queues":["a"],"reports":[{"id":"j"}]})"), "missing_field reports[0].lease");
}

// --- POST /v1/reports

TEST_F(JsonInTest, AReportNamesItsJobByNumberWhereTheStoreMadeTheId) {
  JobNumber const number{123ULL << kCounterBits};

  Report const ours =
      report(R"({"id":")" + service_.id_of(number) + R"(","lease":"000000000000000a","outcome":"completed"})");
  Report const theirs = report(R"({"id":"my-1","lease":"000000000000000a","outcome":"completed"})");

  EXPECT_EQ(ours.job.number, number);
  EXPECT_EQ(ours.lease, LeaseToken{10});
  EXPECT_EQ(theirs.job.number, std::nullopt);
  EXPECT_EQ(theirs.job.text, "my-1");
}

TEST_F(JsonInTest, ATokenThatIsNoneIsTakenAndNeverValid) {
  EXPECT_EQ(report(R"({"id":"j","lease":"invented","outcome":"completed"})").lease, LeaseToken{0});
}

TEST_F(JsonInTest, EveryOutcomeIsTaken) {
  auto const outcome = [&](std::string_view members) {
    return report(R"({"id":"j","lease":"0000000000000001",)" + std::string{members} + "}").outcome;
  };

  auto const completed = std::get<Completed>(outcome(R"("outcome":"completed","result":{"a": 1})"));
  EXPECT_EQ(completed.result_kind, PayloadKind::json);
  EXPECT_EQ(completed.result, R"({"a": 1})");
  auto const bytes = std::get<Completed>(outcome(R"("result_base64":"/w==","outcome":"completed")"));
  EXPECT_EQ(bytes.result_kind, PayloadKind::raw);
  EXPECT_EQ(bytes.result, "\xff");
  EXPECT_EQ(std::get<Completed>(outcome(R"("outcome":"completed")")).result_kind, PayloadKind::none);
  auto const failed = std::get<Failed>(outcome(
      R"("outcome":"failed","error":{"class":"user","code":"bad_input","message":"no","detail":[1]},"retry_in":"5s")"));
  EXPECT_EQ(failed.error_class, ErrorClass::user);
  EXPECT_EQ(failed.code, "bad_input");
  EXPECT_EQ(failed.message, "no");
  EXPECT_EQ(failed.detail, "[1]");
  EXPECT_EQ(failed.retry_in, seconds{5});
  auto const plain = std::get<Failed>(outcome(R"("outcome":"failed","error":{})"));
  EXPECT_EQ(plain.error_class, ErrorClass::retryable);
  EXPECT_EQ(plain.code, "failed");
  EXPECT_EQ(std::get<Extend>(outcome(R"("outcome":"extend","for":"1m")")).by, seconds{60});
  auto const progress = std::get<Progress>(outcome(R"("outcome":"progress","percent":50,"message":"half")"));
  EXPECT_EQ(progress.percent, 50);
  EXPECT_EQ(progress.message, "half");
  EXPECT_EQ(std::get<LogLines>(outcome(R"("outcome":"log","lines":["a","b"])")).lines, (std::vector<Bytes>{"a", "b"}));
  EXPECT_EQ(std::get<Checkpoint>(outcome(R"("outcome":"checkpoint","data":{"row": [1]})")).data, R"({"row": [1]})");
  EXPECT_EQ(std::get<Checkpoint>(outcome(R"("outcome":"checkpoint","data":null)")).data, "null");
  EXPECT_TRUE(holds<Released>(outcome(R"("outcome":"released")")));
}

TEST_F(JsonInTest, AReportAtFaultIsNamed) {
  EXPECT_EQ(fault(json_.parse_reports("{}")), "missing_field reports");
  EXPECT_EQ(fault(json_.parse_reports(R"({"reports":[{"lease":"1","outcome":"released"}]})")),
            "missing_field reports[0].id");
  EXPECT_EQ(fault(json_.parse_reports(R"({"reports":[{"id":"a b","lease":"1","outcome":"released"}]})")),
            "invalid_field reports[0].id");
  EXPECT_EQ(report_fault(R"("result":1)"), "missing_field reports[0].outcome");
  EXPECT_EQ(report_fault(R"("outcome":"done")"), "invalid_field reports[0].outcome");
  EXPECT_EQ(report_fault(R"("outcome":"checkpoint")"), "missing_field reports[0].data");
  EXPECT_EQ(report_fault(R"("outcome":"released","data":1)"), "invalid_field reports[0].data");
  std::string const large(kCheckpointBytesMax - 1, 'x');
  EXPECT_EQ(report_fault(R"("outcome":"checkpoint","data":")" + large + '"'), "payload_too_large reports[0].data");
  std::string const larger(kResultBytesMax - 1, 'x');
  EXPECT_EQ(report_fault(R"("outcome":"completed","result":")" + larger + '"'), "payload_too_large reports[0].result");
  EXPECT_EQ(report_fault(R"("outcome":"completed","cache":{})"), "invalid_field reports[0].cache");
  EXPECT_EQ(report_fault(R"("outcome":"completed","percent":5)"), "invalid_field reports[0].percent");
  EXPECT_EQ(report_fault(R"("outcome":"released","result":1)"), "invalid_field reports[0].result");
  EXPECT_EQ(report_fault(R"("outcome":"completed","result":1,"result_base64":"")"),
            "invalid_field reports[0].result_base64");
  EXPECT_EQ(report_fault(R"("outcome":"failed")"), "missing_field reports[0].error");
  EXPECT_EQ(report_fault(R"("outcome":"failed","error":{"class":"bad"})"), "invalid_field reports[0].error.class");
  EXPECT_EQ(report_fault(R"("outcome":"failed","error":{"kode":"x"})"), "unknown_field reports[0].error.kode");
  EXPECT_EQ(report_fault(R"("outcome":"extend")"), "missing_field reports[0].for");
  EXPECT_EQ(report_fault(R"("outcome":"extend","for":"8d")"), "invalid_field reports[0].for");
  EXPECT_EQ(report_fault(R"("outcome":"progress")"), "missing_field reports[0].percent");
  EXPECT_EQ(report_fault(R"("outcome":"progress","percent":101)"), "invalid_field reports[0].percent");
  EXPECT_EQ(report_fault(R"("outcome":"log")"), "missing_field reports[0].lines");
  EXPECT_EQ(report_fault(R"("outcome":"log","lines":[1])"), "invalid_field reports[0].lines[0]");
}

TEST_F(JsonInTest, WhatAWorkerSaysAtLengthIsCutAtACharacter) {
  std::string const message = std::string(kErrorTextBytesMax - 1, 'm') + "\xc3\xbc";
  std::string const line = std::string(kLogLineBytesMax - 1, 'l') + "\xc3\xbc";

  auto const failed = std::get<Failed>(report(R"({"id":"j","lease":"1","outcome":"failed","error":{"message":")" +
                                              message + R"(","detail":[")" + message + R"("]}})")
                                           .outcome);
  auto const logged =
      std::get<LogLines>(report(R"({"id":"j","lease":"1","outcome":"log","lines":[")" + line + R"("]})").outcome);

  EXPECT_EQ(failed.message, std::string(kErrorTextBytesMax - 1, 'm'));
  EXPECT_EQ(logged.lines[0], std::string(kLogLineBytesMax - 1, 'l'));
  EXPECT_LE(failed.detail.size(), kErrorTextBytesMax);
  EXPECT_EQ(failed.detail.substr(0, 6), R"("[\"mm)");  // A string now, with the beginning of what it was.
  EXPECT_EQ(failed.detail.back(), '"');
}

// --- The others

TEST_F(JsonInTest, AJobIsPatched) {
  auto const changes = json_.parse_patch_job(
      R"({"priority":9,"run_at":"1970-01-01T00:00:01Z","queue":"q","tags":["a"],"max_attempts":2})");

  ASSERT_TRUE(changes);
  EXPECT_EQ(changes->priority, 9);
  EXPECT_EQ(changes->run_at, instant_from_ms(1'000));
  EXPECT_EQ(changes->queue, "q");
  EXPECT_EQ(changes->tags, std::vector<std::string>{"a"});
  EXPECT_EQ(changes->max_attempts, 2U);
  EXPECT_EQ(json_.parse_patch_job(R"({"tags":[]})")->tags, std::vector<std::string>{});
  EXPECT_EQ(json_.parse_patch_job("{}")->tags, std::nullopt);
  EXPECT_EQ(fault(json_.parse_patch_job(R"({"type":"t"})")), "unknown_field type");
  EXPECT_EQ(fault(json_.parse_patch_job(R"({"priority":11})")), "invalid_field priority");
  EXPECT_EQ(fault(json_.parse_patch_job(R"({"max_attempts":0})")), "invalid_field max_attempts");
  EXPECT_EQ(fault(json_.parse_patch_job(R"({"queue":""})")), "invalid_field queue");
}

TEST_F(JsonInTest, AQueueIsPatched) {
  auto const patch = json_.parse_patch_queue(R"({"paused":true,"max_depth":100,"when_full":"drop_oldest"})");

  ASSERT_TRUE(patch);
  EXPECT_EQ(patch->paused, true);
  EXPECT_EQ(patch->max_depth, std::optional<std::uint64_t>{100});
  EXPECT_EQ(patch->when_full, WhenFull::drop_oldest);
  auto const lifted = json_.parse_patch_queue(R"({"max_depth":null,"paused":false})");
  ASSERT_TRUE(lifted->max_depth.has_value());
  EXPECT_EQ(*lifted->max_depth, std::nullopt);
  EXPECT_EQ(lifted->paused, false);
  EXPECT_EQ(json_.parse_patch_queue("{}")->max_depth, std::nullopt);
  EXPECT_EQ(fault(json_.parse_patch_queue(R"({"paused":1})")), "invalid_field paused");
  EXPECT_EQ(fault(json_.parse_patch_queue(R"({"max_depth":-1})")), "invalid_field max_depth");
  EXPECT_EQ(fault(json_.parse_patch_queue(R"({"when_full":"x"})")), "invalid_field when_full");
  EXPECT_EQ(fault(json_.parse_patch_queue(R"({"max_running":1})")), "invalid_field max_running");
}

TEST_F(JsonInTest, ManyJobsAreChangedByWhatTheyAre) {
  auto const bulk = json_.parse_bulk_jobs(
      R"({"action":"delete","where":{"state":"dead","queue":"q","type":"t","tag":"a","group":"g","batch":"b"}})");

  ASSERT_TRUE(bulk);
  EXPECT_EQ(bulk->action, BulkAction::remove);
  EXPECT_EQ(bulk->filter.state, JobState::dead);
  EXPECT_EQ(bulk->filter.queue + bulk->filter.type + bulk->filter.tag + bulk->filter.group, "qtag");
  EXPECT_EQ(bulk->filter.batch, "b");
  EXPECT_EQ(fault(json_.parse_bulk_jobs(R"({"action":"retry"})")), "missing_field where");
  EXPECT_EQ(fault(json_.parse_bulk_jobs(R"({"where":{}})")), "missing_field action");
  EXPECT_EQ(fault(json_.parse_bulk_jobs(R"({"action":"burn","where":{}})")), "invalid_field action");
  EXPECT_EQ(fault(json_.parse_bulk_jobs(R"({"action":"retry","where":{"state":"x"}})")), "invalid_field where.state");
  EXPECT_EQ(fault(json_.parse_bulk_jobs(R"({"action":"retry","where":{"text":"x"}})")), "unknown_field where.text");
}

// --- POST /v1/batches

TEST_F(JsonInTest, ABatchHasItsCallbacksAsJobsWithoutATrace) {
  auto const batch = json_.parse_make_batch(
      R"({"id": "import-7", "on_success": {"type": "publish", "queue": "after", "payload": {"n": 7}, "tags": ["a"]},
          "on_finish": {"type": "report", "payload_base64": "AAEC"}, "meta": {"who": "me"}})");

  ASSERT_TRUE(batch) << describe(batch.error());
  EXPECT_EQ(batch->id, "import-7");
  EXPECT_EQ(batch->meta, R"({"who": "me"})");
  JobSpecView spec;
  ASSERT_TRUE(decode_spec(batch->on_success, spec));
  EXPECT_EQ(spec, (JobSpecView{.type = "publish",
                               .queue = "after",
                               .payload_kind = PayloadKind::json,
                               .payload = R"({"n": 7})",
                               .tags = {"a"}}));
  ASSERT_TRUE(decode_spec(batch->on_finish, spec));
  EXPECT_EQ(spec, (JobSpecView{.type = "report", .payload_kind = PayloadKind::raw, .payload = "\0\1\2"sv}));
}

TEST_F(JsonInTest, ABatchMayHaveOneCallbackAndNoId) {
  auto const batch = json_.parse_make_batch(R"({"on_success":{"type":"t"}})");

  ASSERT_TRUE(batch) << describe(batch.error());
  EXPECT_EQ(batch->id + batch->on_finish + batch->meta, "");
  EXPECT_NE(batch->on_success, "");
}

TEST_F(JsonInTest, WhatIsNoBatchIsRefusedByItsFullName) {
  auto const refused = [this](std::string_view body) { return fault(json_.parse_make_batch(body)); };

  EXPECT_EQ(refused("{}"), "missing_field on_finish");
  EXPECT_EQ(refused(R"({"on_finish":null})"), "invalid_field on_finish");
  EXPECT_EQ(refused(R"({"on_finish":{}})"), "missing_field on_finish.type");
  EXPECT_EQ(refused(R"({"on_finish":{"type":"t"},"on_finish":{"type":"t"}})"), "invalid_field on_finish");
  EXPECT_EQ(refused(R"({"on_finish":{"jobs":[]}})"), "unknown_field on_finish.jobs");
  EXPECT_EQ(refused(R"({"on_finish":{"type":"a b"}})"), "invalid_field on_finish.type");
  EXPECT_EQ(refused(R"({"on_finish":{"type":"t","backoff":{"first":7}}})"), "invalid_field on_finish.backoff.first");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t","id":"x"}})"), "invalid_field on_success.id");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t","unique":{"key":"x"}}})"), "invalid_field on_success.unique");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t","batch":"x"}})"), "invalid_field on_success.batch");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t"},"id":"a b"})"), "invalid_field id");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t"},"meta":[]})"), "invalid_field meta");
  std::string const long_text(kCallbackBytesMax, 'x');
  EXPECT_EQ(refused(R"({"on_success":{"type":"t","payload":")" + long_text + "\"}}"), "payload_too_large on_success");
  EXPECT_EQ(refused(R"({"on_success":{"type":"t"},"meta":{"a":")" + long_text + "\"}}"), "payload_too_large meta");
}

// --- Properties

// Damaged requests are refused or taken; what is taken follows the rules.
RC_GTEST_FIXTURE_PROP(JsonInTest, DamagedRequestsAreRefusedOrFollowTheRules, ()) {
  std::string body = *rc::gen::element(
      R"({"type":"t","queue":"q","payload":{"a":[1,2]},"priority":3,"delay":"5s","backoff":{"first":"1s","factor":2}})"s,
      R"({"jobs":[{"type":"t","payload_base64":"AAAA"},{"type":"u","unique":{"key":"k"},"tags":["a"],"meta":{}}]})"s);
  auto const changes = *rc::gen::inRange(1, 4);
  for (int i = 0; i < changes; ++i) {
    body[*rc::gen::inRange<std::size_t>(0, body.size())] = *rc::gen::arbitrary<char>();
  }
  if (*rc::gen::arbitrary<bool>()) body.resize(*rc::gen::inRange<std::size_t>(0, body.size() + 1));

  auto const request = json_.parse_enqueue(body);

  if (request) {
    RC_ASSERT(!request->command.specs.empty());
    for (Bytes const& spec : request->command.specs) {
      JobSpecView view;
      RC_ASSERT(decode_spec(spec, view).has_value());
      RC_ASSERT(check_spec(view).has_value());
    }
  } else {
    RC_ASSERT(class_of(request.error().code) == ErrorClass::user);
    RC_ASSERT(!request.error().message.empty());
  }
}

}  // namespace
}  // namespace workmill::http
