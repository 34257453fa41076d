#include "app/worker/report.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

LeaseName const& job() {
  static LeaseName const name{"job-1", "00ff"};
  return name;
}

Result<LeasedJob> read(std::string const& payload, PayloadAs payload_as = PayloadAs::json) {
  auto const document =
      parse_json(R"({"id":"job-1","type":"t","queue":"q",)" + payload +
                 R"("attempt":2,"max_attempts":20,"lease":"00ff","lease_expires_at":"2026-11-22T09:00:00.000Z"})");
  if (!document) return std::unexpected(document.error());
  return read_leased_job(document->root(), payload_as);
}

std::string input_of(std::string const& payload, PayloadAs payload_as = PayloadAs::json) {
  auto const leased = read(payload, payload_as);
  EXPECT_TRUE(leased.has_value());
  return leased ? leased->input : "";
}

TEST(Report, APayloadIsHandedOnAsItWasWritten) {
  EXPECT_EQ(input_of(R"("payload":{"a" : 1.50},)"), R"({"a" : 1.50})");
  EXPECT_EQ(input_of(R"("payload":"a\nb",)"), R"("a\nb")");
  EXPECT_EQ(input_of(R"("payload":null,)"), "null");
  EXPECT_EQ(input_of(""), "");
  EXPECT_EQ(input_of(R"("payload_base64":"AAH/",)"), std::string("\0\x01\xff", 3));
}

TEST(Report, AskedForTextAStringLosesItsQuotes) {
  EXPECT_EQ(input_of(R"("payload":"a\nb",)", PayloadAs::text), "a\nb");
  EXPECT_EQ(input_of(R"("payload":[1],)", PayloadAs::text), "[1]");
}

TEST(Report, AJobWithoutALeaseIsRefused) {
  auto const document = parse_json(R"({"id":"job-1"})");

  ASSERT_TRUE(document);
  EXPECT_FALSE(read_leased_job(document->root(), PayloadAs::json));
}

TEST(Report, OutputThatIsJsonIsTheResultAndOtherTextAStringAndBytesAreBytes) {
  auto const result = [](std::string_view output) { return outcome_of(job(), {0, 0}, output, false, "").report; };

  EXPECT_EQ(result("{\"a\": 1}\n"), R"({"id":"job-1","lease":"00ff","outcome":"completed","result":{"a": 1}})");
  EXPECT_EQ(result("two words\n"), R"({"id":"job-1","lease":"00ff","outcome":"completed","result":"two words"})");
  EXPECT_EQ(result("12\n"), R"({"id":"job-1","lease":"00ff","outcome":"completed","result":12})");
  EXPECT_EQ(result("\xff\n"), R"({"id":"job-1","lease":"00ff","outcome":"completed","result_base64":"/wo="})");
  EXPECT_EQ(result(""), R"({"id":"job-1","lease":"00ff","outcome":"completed"})");
}

TEST(Report, ExitCodesAreClassedAsTheContractSays) {
  auto const bad_input = outcome_of(job(), {65, 0}, "", false, "no such user");
  auto const later = outcome_of(job(), {75, 0}, "", false, "");
  auto const other = outcome_of(job(), {1, 0}, "", false, "");
  auto const killed = outcome_of(job(), {0, 9}, "", false, "");

  EXPECT_EQ(bad_input.report,
            R"({"id":"job-1","lease":"00ff","outcome":"failed","error":{"class":"user","code":"exit_65",)"
            R"("message":"the command ended with exit code 65: no such user"}})");
  EXPECT_NE(later.report.find(R"("class":"retryable","code":"exit_75")"), std::string::npos);
  EXPECT_NE(other.report.find(R"("class":"retryable","code":"exit_1")"), std::string::npos);
  EXPECT_NE(killed.report.find(R"("class":"retryable","code":"signal_9")"), std::string::npos);
  EXPECT_FALSE(killed.completed);
}

TEST(Report, AResultThatIsTooLargeIsTheUsersError) {
  auto const cut = outcome_of(job(), {0, 0}, "x", true, "");

  EXPECT_NE(cut.report.find(R"("class":"user","code":"result_too_large")"), std::string::npos);
}

TEST(Report, LinesAndExtensionsAreReportsToo) {
  EXPECT_EQ(log_report(job(), {"a", "b\""}), R"({"id":"job-1","lease":"00ff","outcome":"log","lines":["a","b\""]})");
  EXPECT_EQ(extend_report(job(), std::chrono::seconds{90}),
            R"({"id":"job-1","lease":"00ff","outcome":"extend","for":"1m30s"})");
  EXPECT_EQ(released_report(job()), R"({"id":"job-1","lease":"00ff","outcome":"released"})");
}

}  // namespace
}  // namespace workmill::app
