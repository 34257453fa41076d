#include <gtest/gtest.h>

#include <string>

#include "protocols/http/fixed_service_test.h"
#include "protocols/http/json/json_in.h"

// What a report wants to be cached. (What a computation may say is in cache_http_test.cpp.)
namespace workmill::http {
namespace {

using namespace std::chrono_literals;

class JsonCacheTest : public testing::Test {
 protected:
  Result<ReportBatch> reports(std::string_view entries) {
    std::string body = R"({"reports":[{"id":"a","lease":"0000000000000001","outcome":"completed","result":1,"cache":[)";
    return json_.parse_reports(body.append(entries).append("]}]}"));
  }
  std::vector<CacheEntrySet> entries(std::string_view text) {
    auto batch = reports(text);
    EXPECT_TRUE(batch) << describe(batch.error());
    return batch ? std::get<Completed>(batch->reports.at(0).outcome).cache : std::vector<CacheEntrySet>{};
  }
  Error error(std::string_view text) {
    auto batch = reports(text);
    EXPECT_FALSE(batch) << text;
    return batch ? Error{} : batch.error();
  }

  FixedService service_;
  JsonIn json_{service_};
};

TEST_F(JsonCacheTest, AValueIsKeptAsItsText) {
  auto const all = entries(R"({"key":"a/b","value": {"n" : 1.50} ,"fresh":"5m","stale":"1h","tags":["t","u"]})");

  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].key, "a/b");
  EXPECT_EQ(all[0].set.body, R"({"n" : 1.50})");
  EXPECT_EQ(all[0].set.content_type, "application/json");
  EXPECT_EQ(all[0].set.fresh, 5min);
  EXPECT_EQ(all[0].set.stale, 1h);
  EXPECT_EQ(all[0].set.tags, (std::vector<std::string>{"t", "u"}));
}

TEST_F(JsonCacheTest, BytesAreKeptWithTheTypeThatWasSaid) {
  auto const all =
      entries(R"({"key":"k","value_base64":"AP8="},{"key":"l","value_base64":"","content_type":"image/png"},)"
              R"({"key":"m","value":null,"content_type":"application/x-none"})");

  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0].set.body, (std::string_view{"\0\xff", 2}));
  EXPECT_EQ(all[0].set.content_type, "application/octet-stream");
  EXPECT_EQ(all[0].set.fresh, 1min);
  EXPECT_EQ(all[0].set.stale, 0s);
  EXPECT_EQ(all[1].set.body, "");
  EXPECT_EQ(all[1].set.content_type, "image/png");
  EXPECT_EQ(all[2].set.body, "null");
  EXPECT_EQ(all[2].set.content_type, "application/x-none");
}

TEST_F(JsonCacheTest, WhatMakesNoSenseIsRefusedByItsFullName) {
  struct Case {
    std::string_view entry, field;
    ErrorCode code = ErrorCode::invalid_field;
  };
  for (auto const& [entry, field, code] : {
           Case{R"({"value":1})", "key", ErrorCode::missing_field},
           Case{R"({"key":"k"})", "value", ErrorCode::missing_field},
           Case{R"({"key":"","value":1})", "key"},
           Case{R"({"key":"a\u0001","value":1})", "key"},
           Case{R"({"key":"k","value":1,"value_base64":"AA=="})", "value_base64"},
           Case{R"({"key":"k","value_base64":"AA==","value":1})", "value"},
           Case{R"({"key":"k","value_base64":"*"})", "value_base64"},
           Case{R"({"key":"k","value":1,"content_type":"a\r\nb: c"})", "content_type"},
           Case{R"({"key":"k","value":1,"content_type":""})", "content_type"},
           Case{R"({"key":"k","value":1,"fresh":"-1s"})", "fresh"},
           Case{R"({"key":"k","value":1,"fresh":"366d"})", "fresh"},
           Case{R"({"key":"k","value":1,"fresh":"300d","stale":"66d"})", "stale"},
           Case{R"({"key":"k","value":1,"tags":["a",""]})", "tags[1]"},
           Case{R"({"key":"k","value":1,"ttl":"1s"})", "ttl", ErrorCode::unknown_field},
       }) {
    Error const refused = error(entry);
    EXPECT_EQ(refused.field, "reports[0].cache[0]." + std::string{field}) << entry;
    EXPECT_EQ(refused.code, code) << entry;
  }
}

TEST_F(JsonCacheTest, AReportHasAHundredEntriesAtMost) {
  std::string many = R"({"key":"k","value":1})";
  for (std::size_t i = 1; i < kCacheSetsPerReportMax; ++i) many += R"(,{"key":"k","value":1})";

  EXPECT_EQ(entries(many).size(), kCacheSetsPerReportMax);
  EXPECT_EQ(error(many + R"(,{"key":"k","value":1})").field, "reports[0].cache");
}

TEST_F(JsonCacheTest, OnlyWhatIsCompletedMayCache) {
  auto const batch = json_.parse_reports(
      R"({"reports":[{"id":"a","lease":"0000000000000001","outcome":"released","cache":[{"key":"k","value":1}]}]})");

  ASSERT_FALSE(batch);
  EXPECT_EQ(batch.error().field, "reports[0].cache");
}

}  // namespace
}  // namespace workmill::http
