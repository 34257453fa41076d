#include "protocols/http/router.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace workmill::http {
namespace {

TEST(Router, FindsTheRouteAndItsParameter) {
  auto const found = match(Method::get, "/v1/jobs/some-id");

  ASSERT_TRUE(found);
  EXPECT_EQ(found->route, Route::get_job);
  EXPECT_EQ(found->parameter, "some-id");
}

TEST(Router, TellsRoutesWithTheSameBeginningApart) {
  EXPECT_EQ(match(Method::get, "/v1/jobs")->route, Route::list_jobs);
  EXPECT_EQ(match(Method::post, "/v1/jobs")->route, Route::create_jobs);
  EXPECT_EQ(match(Method::get, "/v1/jobs/x/log")->route, Route::get_job_log);
  EXPECT_EQ(match(Method::post, "/v1/jobs/x/cancel")->route, Route::cancel_job);
  EXPECT_EQ(match(Method::post, "/v1/jobs/bulk")->route, Route::bulk_jobs);
  EXPECT_EQ(match(Method::remove, "/v1/queues/q/jobs")->route, Route::purge_queue);
  EXPECT_EQ(match(Method::remove, "/v1/batches/b")->route, Route::delete_batch);
  EXPECT_EQ(match(Method::post, "/v1/batches/b/close")->route, Route::close_batch);
}

TEST(Router, FindsEveryRouteByItsOwnPattern) {
  std::set<Route> found;
  for (RouteEntry const& entry : routes()) {
    std::string path{entry.pattern};
    if (auto const open = path.find('{'); open != std::string::npos) path.replace(open, path.find('}') - open + 1, "x");
    auto const result = match(entry.method, path);
    ASSERT_TRUE(result) << path;
    EXPECT_EQ(result->route, entry.route);
    found.insert(entry.route);
  }
  EXPECT_EQ(found.size(), kRoutes);
}

TEST(Router, AnswersHeadWhereItAnswersGet) {
  EXPECT_EQ(match(Method::head, "/healthz")->route, Route::healthz);
  EXPECT_EQ(match(Method::head, "/v1/leases").error().code, ErrorCode::method_not_allowed);
}

TEST(Router, TellsUnknownPathsFromUnknownMethods) {
  EXPECT_EQ(match(Method::get, "/v1/nothing").error().code, ErrorCode::not_found);
  EXPECT_EQ(match(Method::get, "/v1/jobs/").error().code, ErrorCode::not_found);
  EXPECT_EQ(match(Method::get, "/v1/jobs/a/b").error().code, ErrorCode::not_found);
  EXPECT_EQ(match(Method::get, "").error().code, ErrorCode::not_found);
  EXPECT_EQ(match(Method::put, "/v1/jobs").error().code, ErrorCode::method_not_allowed);
  EXPECT_EQ(match(Method::other, "/v1/jobs").error().code, ErrorCode::method_not_allowed);
}

TEST(Router, ListsWhatAPathCanBeAsked) {
  EXPECT_EQ(allowed_methods("/v1/jobs/x"), "GET, HEAD, PATCH, DELETE, OPTIONS");
  EXPECT_EQ(allowed_methods("/v1/reports"), "POST, OPTIONS");
  EXPECT_EQ(allowed_methods("/nothing"), "");
}

TEST(Query, IsDecoded) {
  auto const query = Query::parse("q=a%26b+c&state=ready&tag", "q state tag");

  ASSERT_TRUE(query);
  EXPECT_EQ(query->get("q"), "a&b c");
  EXPECT_EQ(query->get("state"), "ready");
  EXPECT_TRUE(query->has("tag"));
  EXPECT_FALSE(query->has("queue"));
}

TEST(Query, RefusesWhatTheCallDoesNotKnowByName) {
  auto const query = Query::parse("limit=1&limitt=2", "limit cursor");

  ASSERT_FALSE(query);
  EXPECT_EQ(query.error().code, ErrorCode::unknown_field);
  EXPECT_EQ(query.error().field, "limitt");
  EXPECT_FALSE(Query::parse("li=1", "limit cursor"));
  EXPECT_FALSE(Query::parse("limit%20cursor=1", "limit cursor"));
}

TEST(Query, RefusesAParameterThatComesTwice) {
  EXPECT_EQ(Query::parse("limit=1&limit=2", "limit").error().code, ErrorCode::invalid_field);
}

TEST(Query, RefusesBrokenEscapes) { EXPECT_EQ(Query::parse("q=%f", "q").error().code, ErrorCode::malformed_request); }

}  // namespace
}  // namespace workmill::http
