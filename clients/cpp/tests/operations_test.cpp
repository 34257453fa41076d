#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <ranges>
#include <vector>

#include "server_process.h"
#include "workmill/async_client.h"
#include "workmill/client.h"
#include "workmill/embedded.h"

// What who looks after jobs and queues asks: changes, actions on many, lists. On a server and on an engine in this
// process: the same tests for both.
namespace workmill::client {
namespace {

using namespace std::chrono_literals;
using namespace test;  // NOLINT(google-build-using-namespace)

static_assert(std::ranges::input_range<Listing<JobPage>>);

enum class On : std::uint8_t { server, embedded };

// Of a job, as its JSON; "" where it has none.
std::string member(Job const& job, std::string_view name) {
  Json const* const found = job.json.find(name);
  return found != nullptr ? found->dump() : "";
}

class Operations : public testing::TestWithParam<On> {
 protected:
  void SetUp() override {
    if (GetParam() == On::server) {
      server_.start();
      async_ = std::make_unique<AsyncClient>(AsyncOptions{.server = {.url = server_.url()}});
      client_ = std::make_unique<Client>(ServerOptions{.url = server_.url()});
      return;
    }
    auto mill = Workmill::open(folder_.path() / "mill");
    ASSERT_TRUE(mill) << describe(mill.error());
    async_ = std::make_unique<AsyncClient>(mill->async_client());
    client_ = std::make_unique<Client>(mill->client());
  }
  // In the order in which they are listed.
  std::vector<std::string> enqueue(int count, JobOptions const& options) {
    std::vector<NewJob> const jobs(static_cast<std::size_t>(count), make_job("t", NoPayload{}, options));
    auto const sent = client_->enqueue_all(jobs);
    EXPECT_TRUE(sent) << describe(sent.error());
    std::vector<std::string> ids;
    for (Enqueued const& job : *sent) ids.push_back(job.id);
    std::ranges::reverse(ids);
    return ids;
  }

  TemporaryFolder folder_;
  ServerProcess server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<AsyncClient> async_;
};

TEST_P(Operations, AJobThatIsNotLeasedIsChanged) {
  auto const id = client_->enqueue("t", 1, {.queue = "q", .tags = {"old"}})->id;
  Time const when{std::chrono::sys_days{std::chrono::year{2999} / 1 / 2}};

  auto const changed = client_->change(
      id,
      {.priority = 7, .run_at = when, .queue = "other", .tags = std::vector<std::string>{"a", "b"}, .max_attempts = 3});
  ASSERT_TRUE(changed) << describe(changed.error());
  EXPECT_EQ(changed->queue, "other");
  EXPECT_EQ(changed->state, JobState::scheduled);
  EXPECT_EQ(changed->max_attempts, 3U);
  EXPECT_EQ(member(*changed, "priority"), "7");
  EXPECT_EQ(member(*changed, "tags"), R"(["a","b"])");
  EXPECT_EQ(changed->json.text("ready_at"), "2999-01-02T00:00:00.000Z");

  auto const untagged = async_->change(id, {.tags = std::vector<std::string>{}}).get();
  ASSERT_TRUE(untagged) << describe(untagged.error());
  EXPECT_EQ(member(*untagged, "tags"), "");
  auto const same = client_->change(id, {});
  EXPECT_EQ(same->queue, "other");
  EXPECT_EQ(same->max_attempts, 3U);
}

TEST_P(Operations, WhatCannotBeChangedIsSaid) {
  auto const id = client_->enqueue("t", 1, {.queue = "q"})->id;

  EXPECT_EQ(client_->change("nobody", {.priority = 1}).error().code, "job_not_found");
  EXPECT_EQ(client_->change(id, {.priority = 77}).error().field, "priority");
  EXPECT_EQ(client_->change(id, {.more = {{"colour", 1}}}).error().field, "colour");
  ASSERT_EQ(client_->lease({.queues = {"q"}})->size(), 1U);
  EXPECT_EQ(async_->change(id, {.priority = 1}).get().error().code, "job_leased");
}

TEST_P(Operations, ActionsOnManyReachThoseThatTheFilterNamesAndNoOthers) {
  enqueue(3, {.queue = "q", .group = "g", .tags = {"a"}});
  enqueue(2, {.queue = "q", .tags = {"b"}});
  enqueue(4, {.queue = "other", .tags = {"a"}});
  auto const in = [&](JobState state) { return client_->queue("q")->in(state); };

  EXPECT_EQ(client_->cancel_all({.queue = "q", .tag = "a"}), 3U);
  EXPECT_EQ(in(JobState::cancelled), 3U);
  EXPECT_EQ(in(JobState::ready), 2U);
  EXPECT_EQ(client_->retry_all({.state = JobState::cancelled, .type = "t", .group = "g"}), 3U);
  EXPECT_EQ(in(JobState::ready), 5U);
  EXPECT_EQ(client_->remove_all({.queue = "q", .tag = "b"}), 2U);
  EXPECT_EQ(in(JobState::ready), 3U);

  EXPECT_EQ(async_->cancel_all({.queue = "q"}).get(), 3U);
  EXPECT_EQ(async_->retry_all({.queue = "q"}).get(), 3U);
  EXPECT_EQ(async_->remove_all({.queue = "q"}).get(), 3U);
  EXPECT_EQ(client_->queue("other")->in(JobState::ready), 4U);
  EXPECT_EQ(client_->remove_all({}), 4U);
}

TEST_P(Operations, APurgeForgetsAQueuesJobsButNotThoseThatAreLeased) {
  enqueue(3, {.queue = "q"});
  enqueue(2, {.queue = "q", .delay = 1h});
  enqueue(1, {.queue = "other"});
  ASSERT_EQ(client_->lease({.queues = {"q"}})->size(), 1U);

  EXPECT_EQ(client_->purge("q", JobState::scheduled), 2U);
  EXPECT_EQ(async_->purge("q").get(), 2U);

  EXPECT_EQ(client_->queue("q")->in(JobState::leased), 1U);
  EXPECT_EQ(client_->queue("other")->in(JobState::ready), 1U);
}

TEST_P(Operations, AQueueTakesNoMoreThanItIsToldUntilTheBoundIsLifted) {
  auto const bounded = client_->change_queue("q", {.max_depth = 1});
  ASSERT_TRUE(bounded) << describe(bounded.error());
  EXPECT_EQ(bounded->max_depth, 1U);
  EXPECT_EQ(bounded->when_full, WhenFull::refuse);
  ASSERT_TRUE(client_->enqueue("t", 1, {.queue = "q"}));
  EXPECT_TRUE(client_->enqueue("t", 1, {.queue = "q"}, {.deadline = 20ms}).error().message.contains("queue_full"));

  auto const dropping = async_->change_queue("q", {.when_full = WhenFull::drop_oldest}).get();
  EXPECT_EQ(dropping->when_full, WhenFull::drop_oldest);
  EXPECT_EQ(dropping->max_depth, 1U);  // As it was.
  EXPECT_TRUE(client_->enqueue("t", 1, {.queue = "q"}));
  EXPECT_EQ(client_->queue("q")->in(JobState::ready), 1U);

  auto const lifted = client_->change_queue("q", {.paused = true, .max_depth = kUnbounded});
  EXPECT_EQ(lifted->max_depth, kUnbounded);
  EXPECT_TRUE(lifted->paused);
  EXPECT_TRUE(client_->enqueue("t", 1, {.queue = "q"}));
  EXPECT_FALSE(client_->resume("q")->paused);
}

TEST_P(Operations, AListingGoesThroughAllPagesNewestFirst) {
  auto const ids = enqueue(25, {.queue = "q"});
  enqueue(3, {.queue = "other"});

  std::vector<std::string> seen;
  for (auto const& job : client_->jobs({.queue = "q", .limit = 10})) {
    ASSERT_TRUE(job) << describe(job.error());
    seen.push_back(job->id);
  }
  EXPECT_EQ(seen, ids);

  auto of_no_queue = client_->jobs({.queue = "nobody"});
  EXPECT_EQ(of_no_queue.begin(), of_no_queue.end());
}

Task<Result<std::vector<std::string>>> ids_of(AsyncListing<JobPage> pages) {
  std::vector<std::string> ids;
  while (!pages.is_over()) {
    auto const page = co_await pages.next();
    if (!page) co_return std::unexpected(page.error());
    for (Job const& job : page->jobs) ids.push_back(job.id);
  }
  co_return ids;
}

TEST_P(Operations, PagesAreAwaitedOneAfterAnother) {
  auto const ids = enqueue(25, {.queue = "q"});

  EXPECT_EQ(sync_wait(ids_of(async_->jobs({.queue = "q", .limit = 10}))), ids);
  EXPECT_EQ(sync_wait(ids_of(async_->jobs({.queue = "q", .limit = 25}))), ids);
}

TEST_P(Operations, QueuesAreListedByName) {
  for (char const* const name : {"c", "a", "b"}) enqueue(1, {.queue = name});

  std::vector<std::string> names;
  for (auto const& queue : client_->queues({.limit = 2})) {
    ASSERT_TRUE(queue) << describe(queue.error());
    EXPECT_EQ(queue->in(JobState::ready), 1U);
    names.push_back(queue->name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b", "c"}));

  auto pages = async_->queues({.limit = 2});
  EXPECT_EQ(sync_wait(pages.next())->queues.size(), 2U);
  EXPECT_EQ(sync_wait(pages.next())->queues.front().name, "c");
  EXPECT_TRUE(pages.is_over());
  EXPECT_EQ(client_->list_queues()->queues.size(), 3U);
  EXPECT_EQ(async_->list_queues().get()->next, "");
}

TEST_P(Operations, TheStatusTellsHowManyJobsThereAre) {
  enqueue(2, {.queue = "q"});

  auto const status = client_->status();
  ASSERT_TRUE(status) << describe(status.error());
  EXPECT_EQ(status->find("jobs")->find("total")->as_uint(), 2U);
  EXPECT_EQ(async_->status().get()->find("jobs")->find("total")->as_uint(), 2U);
}

// ---- Batches

TEST_P(Operations, ABatchCallsBackOnceAllOfItsJobsHaveEnded) {
  auto batches = client_->batches();
  Json const meta{Json::Object{{"import", 7}}};
  NewBatch const made_of{.id = "b",
                         .on_success = make_job("publish", 7, {.queue = "after"}),
                         .on_finish = make_job("report", NoPayload{}, {.queue = "after"}),
                         .meta = meta};
  auto const made = batches.create(made_of);
  ASSERT_TRUE(made) << describe(made.error());
  EXPECT_EQ(made->id, "b");
  EXPECT_FALSE(made->closed_at);
  EXPECT_EQ(made->on_success->state, CallbackState::waiting);
  EXPECT_EQ(*made->json.find("meta"), meta);
  auto const ids = enqueue(2, {.queue = "q", .batch = "b"});
  EXPECT_EQ(client_->job(ids[0])->batch, "b");
  EXPECT_EQ(client_->list({.batch = "b"})->jobs.size(), 2U);
  EXPECT_EQ(client_->list({.batch = "nowhere"}).error().code, "batch_not_found");
  EXPECT_EQ(batches.create(made_of)->pending, 2U);

  auto const closed = batches.close("b");
  ASSERT_TRUE(closed) << describe(closed.error());
  EXPECT_TRUE(closed->closed_at);
  EXPECT_EQ(closed->pending, 2U);
  auto const leased = client_->lease({.queues = {"q"}});
  ASSERT_TRUE(leased) << describe(leased.error());
  EXPECT_EQ(leased->at(0).batch, "b");
  ASSERT_TRUE(client_->report({Report::completed({leased->at(0).id, leased->at(0).lease})}));
  EXPECT_EQ(*client_->cancel_all({.batch = "b"}), 1U);

  ASSERT_TRUE(eventually([&] { return batches.get("b")->on_finish->state == CallbackState::enqueued; }));
  auto const seen = batches.get("b");
  EXPECT_EQ(seen->completed, 1U);
  EXPECT_EQ(seen->cancelled, 1U);
  EXPECT_EQ(seen->on_success->state, CallbackState::waiting);
  EXPECT_EQ(client_->job(seen->on_finish->job)->type, "report");
  EXPECT_TRUE(batches.remove("b"));
  EXPECT_EQ(batches.get("b").error().code, "batch_not_found");
}

TEST_P(Operations, BatchesAreListedByTheirStateNewestFirst) {
  auto batches = client_->batches();
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(batches.create({.id = "b" + std::to_string(i), .on_success = make_job("t", i, {.queue = "after"})}));
  }
  enqueue(1, {.queue = "q", .batch = "b2"});
  for (auto const* const id : {"b2", "b3"}) ASSERT_TRUE(batches.close(id));
  auto const ids = [&](std::optional<BatchState> state, unsigned limit) {
    std::vector<std::string> found;
    for (auto const& batch : batches.all({.state = state, .limit = limit}))
      found.push_back(batch ? batch->id : batch.error().field);
    return found;
  };
  using Ids = std::vector<std::string>;

  EXPECT_TRUE(eventually([&] { return ids(BatchState::over, 2) == Ids{"b3"}; }));
  EXPECT_EQ(ids({}, 2), (Ids{"b5", "b4", "b3", "b2", "b1"}));
  EXPECT_EQ(ids({}, 1'000), ids({}, 1));
  EXPECT_EQ(ids(BatchState::open, 1), (Ids{"b5", "b4", "b1"}));
  EXPECT_EQ(ids(BatchState::closed, 50), (Ids{"b2"}));
  EXPECT_EQ(ids({}, 1'001), (Ids{"limit"}));

  auto const page = batches.list({.limit = 2});
  ASSERT_TRUE(page) << describe(page.error());
  EXPECT_EQ(page->batches.at(1).id, "b4");
  EXPECT_EQ(batches.list({.limit = 2, .cursor = page->next})->batches.at(0).id, "b3");
  EXPECT_EQ(batches.list()->next, "");

  auto pages = async_->batches().all({.state = BatchState::open, .limit = 2});
  Ids awaited;
  while (!pages.is_over()) {
    auto const next = sync_wait(pages.next());
    ASSERT_TRUE(next) << describe(next.error());
    for (auto const& batch : next->batches) awaited.push_back(batch.id);
  }
  EXPECT_EQ(awaited, (Ids{"b5", "b4", "b1"}));
  EXPECT_EQ(async_->batches().list().get()->batches.size(), 5U);
}

TEST_P(Operations, BatchesAreAwaited) {
  auto batches = async_->batches();

  auto const made = batches.create({.on_finish = make_job("report", NoPayload{}, {.queue = "after"})}).get();
  ASSERT_TRUE(made) << describe(made.error());
  EXPECT_FALSE(made->on_success);
  EXPECT_TRUE(batches.close(made->id).get());
  EXPECT_TRUE(eventually([&] { return batches.get(made->id).get()->on_finish->state == CallbackState::enqueued; }));
  EXPECT_TRUE(batches.remove(made->id).get());
  EXPECT_EQ(batches.close(made->id).get().error().code, "batch_not_found");
}

TEST_P(Operations, WhatIsNoBatchIsSaid) {
  auto batches = client_->batches();
  EXPECT_EQ(batches.create({}).error().code, "missing_field");
  auto const wrong = batches.create({.on_success = make_job("t", NoPayload{}, {.id = "mine"})});
  EXPECT_EQ(wrong.error().field, "on_success.id");
  EXPECT_EQ(client_->enqueue("t", NoPayload{}, {.batch = "nowhere"}).error().code, "batch_not_found");
}

INSTANTIATE_TEST_SUITE_P(On, Operations, testing::Values(On::server, On::embedded),
                         [](auto const& about) { return about.param == On::server ? "Server" : "Embedded"; });

// ---- A server that misbehaves

std::string const kFirstPage = R"({"items":[{"id":"a","state":"ready"}],"next":"c1"})";

TEST(Listing, APageThatIsNotToBeHadIsTheLast) {
  FakeServer server{answering([](std::string const&, int number) {
    if (number == 1) return response(200, kFirstPage);
    return response(400, R"({"code":"invalid_field","class":"user","detail":"no","field":"cursor"})");
  })};
  Client client{{.url = server.url()}};

  std::vector<std::string> seen;
  for (auto const& job : client.jobs()) seen.push_back(job ? job->id : job.error().field);

  EXPECT_EQ(seen, (std::vector<std::string>{"a", "cursor"}));
}

TEST(Listing, AnEmptyPageIsNotTheLastAndAPageThatFailedIsAskedForAgain) {
  std::mutex mutex;
  std::vector<std::string> targets;
  FakeServer server{answering([&](std::string const& request, int number) {
    std::lock_guard const lock{mutex};
    targets.push_back(request.substr(0, request.find(" HTTP")));
    if (number == 1 || number == 4) return response(200, R"({"items":[],"next":"a b"})");
    if (number == 2) return response(400, R"({"code":"invalid_field","class":"user","detail":"no"})");
    return response(200, R"({"items":[{"id":"a","state":"ready"}],"next":null})");
  })};
  AsyncClient async{{.server = {.url = server.url()}}};
  Client client{{.url = server.url()}};

  auto pages = async.jobs({.type = "t", .limit = 5});
  EXPECT_TRUE(sync_wait(pages.next())->jobs.empty());
  EXPECT_FALSE(sync_wait(pages.next()));
  EXPECT_FALSE(pages.is_over());
  EXPECT_EQ(sync_wait(pages.next())->jobs.size(), 1U);
  EXPECT_TRUE(pages.is_over());
  int jobs = 0;
  for (auto const& job : client.jobs()) jobs += job ? 1 : 0;
  EXPECT_EQ(jobs, 1);

  EXPECT_EQ(targets,
            (std::vector<std::string>{"GET /v1/jobs?limit=5&type=t", "GET /v1/jobs?limit=5&type=t&cursor=a%20b",
                                      "GET /v1/jobs?limit=5&type=t&cursor=a%20b", "GET /v1/jobs?limit=50",
                                      "GET /v1/jobs?limit=50&cursor=a%20b"}));
}

TEST(Batches, ALostAnswerIsAskedForUnderTheSameKeyAndADeletionThatFindsNothingWasDone) {
  std::mutex mutex;
  std::vector<std::string> requests;
  FakeServer server{answering([&](std::string const& request, int) -> std::string {
    std::lock_guard const lock{mutex};
    std::string const line = request.substr(0, request.find(" HTTP"));
    bool const again = std::ranges::any_of(requests, [&](auto const& before) { return before.starts_with(line); });
    requests.push_back(request);
    if (!again) return "";
    if (line.starts_with("DELETE")) {
      return response(404, R"({"code":"batch_not_found","class":"user","detail":"gone"})");
    }
    return response(201,
                    R"({"id":"b 1","created_at":"2026-11-22T09:00:00.000Z","total":3,"on_finish":{"state":"odd"}})");
  })};
  Client client{{.url = server.url(), .retry = {.attempts = 3, .first = 1ms, .cap = 1ms}}};
  auto batches = client.batches();

  auto const made = batches.create({.id = "b 1", .on_finish = make_job("t", 1), .meta = Json{Json::Object{}}});
  EXPECT_TRUE(batches.remove("b 1"));

  EXPECT_EQ(made.error().code, "protocol_error");  // There is no such state.
  auto const key = [&](std::size_t i) {
    std::size_t const at = requests.at(i).find("Idempotency-Key:");
    return requests.at(i).substr(at, requests.at(i).find("\r\n", at) - at);
  };
  EXPECT_FALSE(key(0).empty());
  EXPECT_EQ(key(0), key(1));
  EXPECT_TRUE(requests.at(1).ends_with(R"({"id":"b 1","on_finish":{"type":"t","payload":1},"meta":{}})"));
  EXPECT_TRUE(requests.at(2).starts_with("DELETE /v1/batches/b%201 "));
}

TEST(Batches, AListGoesOnBehindAPageThatIsEmpty) {
  std::mutex mutex;
  std::vector<std::string> requests;
  FakeServer server{answering([&](std::string const& request, int) -> std::string {
    std::lock_guard const lock{mutex};
    requests.push_back(request.substr(0, request.find(" HTTP")));
    switch (requests.size()) {
      case 1: return response(200, R"({"items":[{"id":"first"}],"next":"c 1"})");
      case 2: return response(200, R"({"items":[],"next":"c 2"})");
      default: return response(200, R"({"items":[{"id":"last"}],"next":null})");
    }
  })};
  Client client{{.url = server.url()}};
  std::vector<std::string> ids;

  for (auto const& batch : client.batches().all({.state = BatchState::closed, .limit = 7}))
    ids.push_back(batch ? batch->id : describe(batch.error()));

  EXPECT_EQ(ids, (std::vector<std::string>{"first", "last"}));
  std::string const line = "GET /v1/batches?limit=7&state=closed";
  EXPECT_EQ(requests, (std::vector<std::string>{line, line + "&cursor=c%201", line + "&cursor=c%202"}));
}

// The second time they would find jobs that have run, and died, meanwhile.
TEST(Client, OfActionsOnManyOnlyRetryingIsNotTriedAgainWhenItsAnswerIsLost) {
  std::atomic<int> requests{0};
  FakeServer server{answering([&](std::string const&, int) {
    return requests.fetch_add(1) == 0 ? std::string{} : response(200, R"({"count":3})");
  })};
  Client client{{.url = server.url(), .retry = {.first = 1ms}}};
  auto const after_a_loss = [&](auto const& act) {
    requests = 0;
    return act();
  };

  EXPECT_EQ(after_a_loss([&] { return client.cancel_all({}); }), 3U);
  EXPECT_EQ(after_a_loss([&] { return client.remove_all({}); }), 3U);
  EXPECT_EQ(after_a_loss([&] { return client.purge("q"); }), 3U);
  EXPECT_EQ(after_a_loss([&] { return client.retry_all({}); }).error().code, "outcome_unknown");
  EXPECT_EQ(requests, 1);
}

}  // namespace
}  // namespace workmill::client
