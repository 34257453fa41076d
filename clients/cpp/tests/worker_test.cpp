#include "workmill/worker.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <functional>
#include <future>
#include <latch>
#include <map>
#include <set>
#include <thread>

#include "server_process.h"
#include "tls_server.h"
#include "workmill/client.h"
#include "workmill/embedded.h"

// Workers over each transport that there is: the same tests for all.
namespace workmill::client {
namespace {

using namespace std::chrono_literals;
using namespace test;  // NOLINT(google-build-using-namespace)

struct Resize {
  std::string image;
  int width = 0;
  static constexpr auto json_fields() {
    return std::tuple{field("image", &Resize::image), field("width", &Resize::width)};
  }
};
struct Picture {
  std::string name;
  static constexpr auto json_fields() { return std::tuple{field("name", &Picture::name)}; }
  bool operator==(Picture const&) const = default;
};

enum class Over : std::uint8_t { http, stream, embedded };

// A place with jobs, and what works there.
class Mill {
 public:
  explicit Mill(Over over) : over_(over) {
    if (over == Over::embedded)
      reopen();
    else
      server_.start();
  }
  Client client() { return mill_ ? mill_->client() : Client{{.url = server_.url()}}; }
  Worker worker(WorkerOptions options) {
    if (mill_) return mill_->worker(std::move(options));
    options.server.url = server_.url();
    if (over_ == Over::http) options.transport = WorkTransport::http;
    if (over_ == Over::stream) options.transport = WorkTransport::stream;  // No silent change to HTTP.
    return Worker{std::move(options)};
  }
  void kill_and_start() {
    server_.kill();
    server_.start();
  }
  void reopen() {
    mill_.reset();
    auto mill = Workmill::open(folder_.path() / "mill");
    ASSERT_TRUE(mill) << describe(mill.error());
    mill_ = *std::move(mill);
  }

 private:
  Over const over_;
  TemporaryFolder folder_;
  ServerProcess server_;
  std::optional<Workmill> mill_;
};

class Workers : public testing::TestWithParam<Over> {
 protected:
  Mill mill_{GetParam()};
};

TEST_P(Workers, ATypedHandlerGetsItsPayloadAndItsResultIsRead) {
  auto client = mill_.client();
  auto worker = mill_.worker({.queues = {"images"}});
  worker.on<Resize>("resize", [](Resize const& resize, JobContext&) -> Result<Picture> {
    return Picture{.name = resize.image + "@" + std::to_string(resize.width)};
  });
  worker.on<Bytes>("bytes", [](Bytes const& bytes) { return Bytes{bytes.data + "\xff"}; });
  worker.on<NoPayload>("nothing", [](NoPayload) {});
  worker.start();

  auto const resize = client.enqueue("resize", Resize{.image = "cat", .width = 7}, {.queue = "images"});
  auto const bytes = client.enqueue("bytes", Bytes{std::string("\0\x80", 2)}, {.queue = "images"});
  auto const nothing = client.enqueue("nothing", NoPayload{}, {.queue = "images"});
  auto const bad = client.enqueue("resize", Json{Json::Object{{"width", "wide"}}}, {.queue = "images"});

  EXPECT_EQ(client.result<Picture>(resize->id, kPatience), Picture{"cat@7"});
  EXPECT_EQ(client.result<Bytes>(bytes->id, kPatience)->data, std::string("\0\x80\xff", 3));
  EXPECT_TRUE(client.completed(nothing->id, kPatience));
  EXPECT_EQ(client.completed(bad->id, kPatience).error().code, "bad_payload");
  worker.stop();
  EXPECT_TRUE(worker.wait());
}

TEST_P(Workers, FailuresAreReportedByTheirClassAndExceptionsByTheirType) {
  auto client = mill_.client();
  auto worker = mill_.worker({});
  worker.on<Json>("user", [](Json const&) -> Result<> { return user_error("nope", "never"); });
  worker.on<Json>("throws", [](Json const&, JobContext& context) -> Result<int> {
    if (context.attempt() == 1) throw std::runtime_error{"once"};
    return 2;
  });
  worker.start();

  auto const user = client.enqueue("user", 1);
  auto const throws = client.enqueue("throws", 1, {.backoff = Backoff{.first = 1ms}});
  auto const unknown = client.enqueue("unknown", 1, {.max_attempts = 1});

  EXPECT_EQ(client.completed(user->id, kPatience).error().code, "nope");
  EXPECT_EQ(client.result<int>(throws->id, kPatience), 2);
  EXPECT_EQ(client.job(throws->id)->json.find("errors")->as_array()->front().text("code"), "std::runtime_error");
  EXPECT_EQ(client.completed(unknown->id, kPatience).error().code, "unknown_type");
}

TEST_P(Workers, WhatAHandlerTellsIsThereAndACheckpointReachesTheNextAttempt) {
  auto client = mill_.client();
  auto worker = mill_.worker({});
  worker.on<NoPayload>("import", [](NoPayload, JobContext& context) -> Result<int> {
    auto const row = context.saved<int>();
    if (!row) return std::unexpected(row.error());
    if (*row) return **row;
    context.progress(40, "almost");
    context.log("a line");
    if (auto const saved = context.checkpoint(700); !saved) return std::unexpected(saved.error());
    return retry_later("again", "from where it was", 1ms);
  });
  worker.start();

  auto const job = client.enqueue("import", NoPayload{});

  EXPECT_EQ(client.result<int>(job->id, kPatience), 700);
  EXPECT_EQ(client.job(job->id)->attempt, 2U);
  EXPECT_EQ(client.job_log(job->id), std::vector<std::string>{"a line"});
}

TEST_P(Workers, AJobThatIsCancelledIsToldSoAndALeaseIsExtendedMeanwhile) {
  auto client = mill_.client();
  auto worker = mill_.worker({.lease = 300ms});
  std::promise<void> started;
  worker.on<NoPayload>("long", [&](NoPayload, JobContext& context) -> Result<> {
    if (context.attempt() == 1) started.set_value();
    std::mutex mutex;
    std::condition_variable_any forever;
    std::unique_lock lock{mutex};
    forever.wait(lock, context.stop_token(), [] { return false; });
    return context.cancelled_error();
  });
  worker.start();
  auto const job = client.enqueue("long", NoPayload{});
  started.get_future().wait();

  ASSERT_TRUE(client.cancel(job->id));

  auto const end = client.wait(job->id, kPatience);
  EXPECT_EQ(end->state, JobState::cancelled);
  EXPECT_EQ(end->attempt, 1U);
}

TEST_P(Workers, AWorkerThatStopsFinishesWhatRunsAndGivesBackTheRest) {
  auto client = mill_.client();
  std::vector<NewJob> jobs(6, make_job("hold", NoPayload{}));
  ASSERT_TRUE(client.enqueue_all(jobs));
  auto worker = mill_.worker({.concurrency = 1, .credit = 4});
  std::latch go{1};
  std::atomic<int> started{0};
  worker.on<NoPayload>("hold", [&](NoPayload) {
    started.fetch_add(1);
    go.wait();
  });
  worker.start();
  ASSERT_TRUE(eventually([&] { return started.load() == 1 && client.queue("default")->in(JobState::leased) == 4; }));

  worker.stop();
  ASSERT_TRUE(eventually([&] { return client.queue("default")->in(JobState::leased) == 1; }));
  go.count_down();

  EXPECT_TRUE(worker.wait());
  EXPECT_EQ(started.load(), 1);
  EXPECT_EQ(client.queue("default")->in(JobState::completed), 1U);
  EXPECT_EQ(client.queue("default")->in(JobState::ready), 5U);
  EXPECT_EQ(worker.figures().released, 3U);
}

TEST_P(Workers, InlineHandlersDoManyJobsInBatches) {
  constexpr int kJobs = 5'000;
  auto client = mill_.client();
  std::vector<NewJob> jobs(kJobs, make_job("tick", RawJson{"[1]"}));
  ASSERT_TRUE(client.enqueue_all(jobs));
  auto worker = mill_.worker({.credit = 1'000});
  std::atomic<int> ran{0};
  worker.on<NoPayload>("tick", [&](NoPayload) { ran.fetch_add(1); }, {.run_on = RunOn::inline_thread});
  worker.start();

  EXPECT_TRUE(eventually([&] { return client.queue("default")->in(JobState::completed) == kJobs; }));
  worker.stop();
  EXPECT_TRUE(worker.wait());
  EXPECT_EQ(ran.load(), kJobs);
  EXPECT_EQ(worker.figures().completed, std::uint64_t{kJobs});
}

TEST_P(Workers, MiddlewareRunsAroundHandlersAndTheTraceGoesOnToWhatTheyEnqueue) {
  auto client = mill_.client();
  auto worker = mill_.worker({});
  std::mutex mutex;
  std::vector<std::string> order;
  auto const note = [&](std::string what) {
    std::lock_guard const lock{mutex};
    order.push_back(std::move(what));
  };
  worker.use([&](JobContext&, auto const& next) {
    note("a");
    auto result = next();
    note("z");
    return result;
  });
  worker.use([&](JobContext& context, auto const& next) -> Result<> {
    note("b");
    if (context.type() == "refused") return user_error("not_today", "by the middleware");
    return next();
  });
  worker.on<NoPayload>("parent", [&](NoPayload) -> Result<std::string> {
    note("handler");
    auto const child = client.enqueue("child", NoPayload{}, {.queue = "other"});
    if (!child) return std::unexpected(child.error());
    return child->id;
  });
  worker.on<NoPayload>("refused", [](NoPayload) {});
  worker.start();

  auto const parent = client.enqueue("parent", NoPayload{}, {},
                                     {.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"});
  ASSERT_TRUE(client.result<std::string>(parent->id, kPatience));
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "handler", "z"}));
  auto const child = client.lease({.queues = {"other"}, .wait = 10s});
  ASSERT_EQ(child->size(), 1U);
  EXPECT_NE(child->front().traceparent.find("0af7651916cd43dd8448eb211c80319c"), std::string::npos);

  auto const refused = client.enqueue("refused", NoPayload{});
  EXPECT_EQ(client.completed(refused->id, kPatience).error().code, "not_today");
}

// What can be known before it is sent the handler is told; what only the server finds ends the one job.
TEST_P(Workers, AReportThatTheServerRefusesEndsItsOwnJobAndNotTheWorker) {
  constexpr std::size_t kTooMuch = 9'000'000;
  auto client = mill_.client();
  auto worker = mill_.worker({.queues = {"q"}, .concurrency = 2});
  std::map<std::string, std::function<Result<RawJson>(JobContext&)>> const bad{
      {"checkpoint_too_large",
       [](JobContext& context) -> Result<RawJson> {
         auto const saved = context.checkpoint(std::string(kTooMuch, 'x'));
         return user_error(saved.error().code, saved.error().field);
       }},
      {"checkpoint_no_json",
       [](JobContext& context) -> Result<RawJson> {
         auto const saved = context.checkpoint_json("{nojson");
         return user_error(saved.error().code, saved.error().field);
       }},
      {"result_too_large", [](JobContext&) { return RawJson{to_json(std::string(kTooMuch, 'x'))}; }},
      {"result_no_json", [](JobContext&) { return RawJson{"nojson"}; }},
      {"message_too_long",
       [](JobContext&) -> Result<RawJson> { return user_error("long", std::string(kTooMuch * 2, 'x')); }},
      {"detail_no_json",
       [](JobContext&) -> Result<RawJson> {
         auto error = user_error("odd", "its detail is no JSON");
         error.error().detail = "{nojson";
         return error;
       }},
      {"retry_too_late", [](JobContext&) -> Result<RawJson> { return retry_later("later", "much", Duration::max()); }},
      {"progress_too_long",
       [](JobContext& context) {
         context.progress(50, std::string(kTooMuch * 2, 'x'));
         context.log(std::string(kTooMuch * 2, 'x'));
         return RawJson{"1"};
       }},
  };
  for (auto const& [type, handler] : bad) {
    worker.on<NoPayload>(type, [&](NoPayload, JobContext& context) { return handler(context); });
  }
  worker.on<int>("good", [](int const& number) { return number; });
  std::map<std::string, std::string> ids;
  JobOptions const twice{.queue = "q", .max_attempts = 2, .backoff = Backoff{.first = 10ms}};
  for (auto const& [type, handler] : bad) ids[type] = client.enqueue(type, NoPayload{}, twice)->id;
  std::vector<std::string> good;
  for (int i = 0; i < 50; ++i) good.push_back(client.enqueue("good", i, {.queue = "q"})->id);
  worker.start();

  auto const code_of = [&](std::string const& type) { return client.completed(ids[type], kPatience).error().code; };
  EXPECT_EQ(code_of("checkpoint_too_large"), "payload_too_large");
  EXPECT_EQ(code_of("checkpoint_no_json"), "bad_json");
  EXPECT_EQ(code_of("result_too_large"), "result_too_large");
  EXPECT_EQ(code_of("result_no_json"), "report_refused");
  EXPECT_EQ(code_of("message_too_long"), "long");
  EXPECT_EQ(code_of("detail_no_json"), "odd");
  EXPECT_EQ(client.job(ids["detail_no_json"])->error->detail, R"("{nojson")");
  EXPECT_TRUE(client.completed(ids["progress_too_long"], kPatience));
  EXPECT_EQ(code_of("retry_too_late"), "later");  // After both attempts: its backoff has decided.
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(client.result<int>(good[static_cast<std::size_t>(i)], kPatience), i);
    EXPECT_EQ(client.job(good[static_cast<std::size_t>(i)])->attempt, 1U);
  }
  worker.stop();
  EXPECT_TRUE(worker.wait());
}

TEST_P(Workers, AMessageOfManyReportsIsRefusedForOneOfThemAndTheOthersCount) {
  constexpr int kJobs = 300;
  auto client = mill_.client();
  std::vector<NewJob> jobs;
  for (int i = 0; i < kJobs; ++i) jobs.push_back(make_job("tick", i));
  auto const sent = client.enqueue_all(jobs);
  ASSERT_TRUE(sent);
  auto worker = mill_.worker({.credit = 1'000});
  worker.on<int>("tick",
                 [](int const& number) { return RawJson{number % 100 == 50 ? "}nojson{" : std::to_string(number)}; },
                 {.run_on = RunOn::inline_thread});
  worker.start();

  for (std::size_t i = 0; i < kJobs; ++i) {
    auto const result = client.result<std::size_t>((*sent)[i].id, kPatience);
    if (i % 100 == 50)
      EXPECT_EQ(result.error().code, "report_refused");
    else
      EXPECT_EQ(result, i);
  }
  EXPECT_EQ(worker.figures().failed, 3U);
  worker.stop();
  EXPECT_TRUE(worker.wait());
}

TEST_P(Workers, WhatAHandlerCannotCacheItIsTold) {
  auto client = mill_.client();
  auto worker = mill_.worker({});
  worker.on<NoPayload>("caches", [](NoPayload, JobContext& context) {
    std::vector<std::string> said;
    auto const note = [&](Result<> const& set) {
      said.push_back(set ? "" : set.error().code + " " + set.error().field);
    };
    note(context.cache("line\nbreak", 1));
    note(context.cache("next line\xC2\x85", 1));
    note(context.cache(std::string(513, 'k'), 1));
    note(context.cache("k", 1, {.tags = {"good", "two words"}}));
    note(context.cache("k", 1, {.tags = std::vector<std::string>(21, "t")}));
    note(context.cache("k", 1, {.fresh = 24h * 366}));
    note(context.cache("k", 1, {.fresh = 24h * 365, .stale = 1ms}));
    note(context.cache("k", Bytes{"x"}, {.content_type = "text/plain\r\nX-Other: 1"}));
    note(context.cache("k", RawJson{"nojson"}));
    note(context.cache("k", 7, {.fresh = 1h, .tags = {"good"}}));
    return said;
  });
  worker.start();

  auto const job = client.enqueue("caches", NoPayload{});

  EXPECT_EQ(client.result<std::vector<std::string>>(job->id, kPatience),
            (std::vector<std::string>{"invalid_field key", "invalid_field key", "invalid_field key",
                                      "invalid_field tags[1]", "invalid_field tags", "invalid_field fresh",
                                      "invalid_field stale", "invalid_field content_type", "bad_json value", ""}));
  EXPECT_EQ((*client.cache().get("k"))->as<int>(), 7);
}

INSTANTIATE_TEST_SUITE_P(Over, Workers, testing::Values(Over::http, Over::stream, Over::embedded),
                         [](auto const& each) {
                           switch (each.param) {
                             case Over::http: return "Http";
                             case Over::stream: return "Stream";
                             case Over::embedded: return "Embedded";
                           }
                           return "";
                         });

// ---- Over connections only

class WorkersAndKills : public Workers {};

TEST_P(WorkersAndKills, JobsThatRunThroughKillsOfTheServerAreReportedAndNoneIsLost) {
  constexpr int kJobs = 400;
  constexpr int kKills = 3;
  auto client = mill_.client();
  std::vector<NewJob> jobs(kJobs, make_job("t", NoPayload{}));
  ASSERT_TRUE(client.enqueue_all(jobs));
  auto worker = mill_.worker({.concurrency = 4, .lease = 2s});
  std::atomic<int> ran{0};
  worker.on<NoPayload>("t", [&](NoPayload) { ran.fetch_add(1); });
  std::latch held{1};
  std::atomic<int> long_attempts{0};
  worker.on<NoPayload>("long", [&](NoPayload) {
    long_attempts.fetch_add(1);
    held.wait();
  });
  auto const long_job = client.enqueue("long", NoPayload{}, {.priority = 9});
  worker.start();

  for (int i = 1; i <= kKills; ++i) {
    ASSERT_TRUE(eventually([&] { return ran.load() >= kJobs * i / (kKills + 1) && long_attempts.load() > 0; }));
    mill_.kill_and_start();
  }
  held.count_down();

  EXPECT_TRUE(client.completed(long_job->id, kPatience));
  EXPECT_TRUE(eventually([&] {
    auto const queue = client.queue("default");
    return queue && queue->in(JobState::completed) == kJobs + 1;
  }));
  EXPECT_EQ(long_attempts.load(), 1);  // Its lease was kept through all of it.
}

INSTANTIATE_TEST_SUITE_P(Over, WorkersAndKills, testing::Values(Over::http, Over::stream),
                         [](auto const& each) { return each.param == Over::http ? "Http" : "Stream"; });

TEST(Worker, ATokenThatDoesNotHoldEndsIt) {
  FakeServer server{[](int socket, int) {
    while (!read_request(socket).empty()) {
      send_text(socket, response(401, R"({"code":"unauthorized","class":"user","detail":"who are you"})"));
    }
  }};
  for (auto const transport : {WorkTransport::http, WorkTransport::stream}) {
    Worker worker{{.transport = transport, .server = {.url = server.url()}}};
    EXPECT_EQ(worker.run().error().code, "unauthorized");
  }
}

// The server's own bound, of which this library does not know: whole messages are too large for it.
TEST(Worker, AReportThatIsTooLargeForItsServerEndsItsOwnJob) {
  ServerProcess server{{"body_size_max = \"64KiB\""}};
  server.start();
  Client client{{.url = server.url()}};
  for (auto const transport : {WorkTransport::http, WorkTransport::stream}) {
    Worker worker{{.concurrency = 4, .transport = transport, .server = {.url = server.url()}}};
    worker.on<int>("text", [](int const& bytes) { return std::string(static_cast<std::size_t>(bytes), 'x'); });
    std::vector<std::string> small;
    std::vector<std::string> large;
    for (int i = 0; i < 10; ++i) {
      small.push_back(client.enqueue("text", 20'000)->id);
      if (i % 5 == 0) large.push_back(client.enqueue("text", 200'000)->id);
    }
    worker.start();

    for (std::string const& id : small) EXPECT_EQ(client.result<std::string>(id, kPatience)->size(), 20'000U);
    for (std::string const& id : large) EXPECT_EQ(client.completed(id, kPatience).error().code, "report_refused");
    worker.stop();
    EXPECT_TRUE(worker.wait());
  }
}

// A server with one job, which says something else once: in place of jobs, or of the answer to the report.
class Spoiling {
 public:
  enum class What : std::uint8_t { jobs, reports };
  Spoiling(What what, std::string spoilt) : what_(what), spoilt_(std::move(spoilt)) {}
  std::string url() const { return server_.url(); }
  int reports() const { return reports_; }

 private:
  void serve(int socket) {
    for (std::string request = read_request(socket); !request.empty(); request = read_request(socket)) {
      bool const has_report = request.contains(R"("outcome":)");
      bool const is_spoilt = has_report == (what_ == What::reports) && !was_spoilt_.exchange(true);
      if (has_report && !is_spoilt) ++reports_;
      if (!is_spoilt && !has_report && has_given_.exchange(true)) continue;  // Nothing more to do: it waits.
      std::string const jobs = has_report ? "" : R"({"id":"a","lease":"1","type":"t","attempt":1,"max_attempts":1})";
      std::string const answers = has_report ? R"(,"reports":[{"id":"a","ok":true}])" : "";
      send_text(socket, response(200, is_spoilt ? spoilt_ : R"({"jobs":[)" + jobs + "]" + answers + "}"));
    }
    ::shutdown(socket, SHUT_RDWR);  // Who has called off waits for it.
  }

  What const what_;
  std::string const spoilt_;
  std::atomic<bool> was_spoilt_{false};
  std::atomic<bool> has_given_{false};
  std::atomic<int> reports_{0};
  FakeServer server_{[this](int socket, int) { serve(socket); }};  // Ends first.
};

TEST(Worker, OverHttpAnAnswerWithSomethingElseInItIsNoAnswer) {
  using enum Spoiling::What;
  for (auto const& [what, spoilt] :
       {std::pair{jobs, "null"}, std::pair{jobs, "{}"}, std::pair{jobs, R"({"jobs":[null]})"},
        std::pair{jobs, R"({"jobs":[{"id":"a","type":"t"}]})"}, std::pair{reports, R"({"jobs":[]})"},
        std::pair{reports, R"({"jobs":[],"reports":[]})"}, std::pair{reports, R"({"jobs":[],"reports":[null]})"},
        std::pair{reports, R"({"jobs":[],"reports":[{"id":"a"}]})"}}) {
    Spoiling server{what, spoilt};
    Worker worker{{.transport = WorkTransport::http, .server = {.url = server.url(), .log = [](auto...) {}}}};
    worker.on<NoPayload>("t", [](NoPayload) {});
    worker.start();

    EXPECT_TRUE(eventually([&] { return server.reports() == 1; })) << spoilt;
    worker.stop();
    EXPECT_TRUE(worker.wait()) << spoilt;
    EXPECT_EQ(worker.figures().completed, 1U) << spoilt;
  }
}

TEST(Worker, WhereTheServerHasNoStreamsItLeasesOverHttpUnlessItMustNot) {
  for (int const status : {404, 405, 426}) {
    FakeServer server{[status](int socket, int) {
      for (std::string request = read_request(socket); !request.empty(); request = read_request(socket)) {
        bool const is_stream = request.starts_with("GET /v1/worker ");
        send_text(socket, is_stream ? response(status, R"({"code":"not_here","class":"user","detail":"no stream"})")
                                    : response(401, R"({"code":"unauthorized","class":"user","detail":"of a lease"})"));
      }
    }};

    EXPECT_EQ(Worker({.transport = WorkTransport::automatic, .server = {.url = server.url()}}).run().error().message,
              "of a lease");
    EXPECT_EQ(Worker({.transport = WorkTransport::stream, .server = {.url = server.url()}}).run().error().code,
              "not_here");
  }
}

// What stands before a server, and goes on standing there while the server does not.
class Ingress {
 public:
  enum class Has : std::uint8_t { server, nobody, page };  // `nobody`: it hangs up. `page`: one of its own, with 404.
  explicit Ingress(std::string server) : server_(std::move(server)) {}
  std::string url() const { return here_.url(); }
  void set(Has has) { has_ = has; }
  int connections() const { return here_.connections(); }
  int pages() const { return pages_; }

 private:
  void serve(int socket) {
    if (has_ == Has::server) {
      pass_on(socket);
    } else if (has_ == Has::page && !read_request(socket).empty()) {
      send_text(socket, "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 8\r\n\r\nno route");
      ++pages_;
    }
    ::shutdown(socket, SHUT_RDWR);
  }
  void pass_on(int socket) {
    int const other = dial(server_);
    if (other < 0) return;
    std::array<pollfd, 2> both{pollfd{.fd = socket, .events = POLLIN, .revents = 0},
                               pollfd{.fd = other, .events = POLLIN, .revents = 0}};
    std::array<char, 16 * 1024> buffer{};
    for (bool go_on = true; go_on;) {
      if (::poll(both.data(), both.size(), -1) < 0) continue;
      for (std::size_t from = 0; from < both.size(); ++from) {
        if (both.at(from).revents == 0) continue;
        ssize_t const got = ::recv(both.at(from).fd, buffer.data(), buffer.size(), 0);
        go_on = got > 0;
        if (!go_on) break;
        send_text(both.at(1 - from).fd, {buffer.data(), static_cast<std::size_t>(got)});
      }
    }
    ::close(other);
  }

  std::string const server_;
  std::atomic<Has> has_{Has::server};
  std::atomic<int> pages_{0};
  FakeServer here_{[this](int socket, int) { serve(socket); }};  // Ends first.
};

// By the same stream, and with what it has to report.
TEST(Worker, ComesBackThoughAnIngressHasSaidMeanwhileThatThereIsNothing) {
  ServerProcess server;
  server.start();
  Ingress ingress{server.url()};
  Client client{{.url = server.url()}};
  std::atomic<bool> has_gone_over{false};
  Worker worker{{.server = {.url = ingress.url(), .log = [&](LogLevel, std::string_view message) {
                              if (message.contains("over HTTP")) has_gone_over = true;
                            }}}};
  std::promise<void> started;
  std::latch go{1};
  worker.on<NoPayload>("t", [&](NoPayload) {
    started.set_value();
    go.wait();
    return 7;
  });
  worker.start();
  auto const job = client.enqueue("t", NoPayload{});
  started.get_future().wait();

  ingress.set(Ingress::Has::nobody);
  server.kill();
  go.count_down();
  ASSERT_TRUE(eventually([&] { return worker.figures().completed == 1; }));
  int const before = ingress.connections();
  ASSERT_TRUE(eventually([&] { return ingress.connections() >= before + 2; }));  // The report is with the stream.
  ingress.set(Ingress::Has::page);
  ASSERT_TRUE(eventually([&] { return ingress.pages() > 0; }));
  server.start();
  ingress.set(Ingress::Has::server);

  EXPECT_EQ(client.result<int>(job->id, kPatience), 7);
  EXPECT_EQ(client.job(job->id)->attempt, 1U);
  EXPECT_FALSE(has_gone_over);
  worker.stop();
  EXPECT_TRUE(worker.wait());
}

TEST(Worker, WaitsForAServerWhoseIngressIsThereFirst) {
  for (auto const transport : {WorkTransport::automatic, WorkTransport::stream}) {
    ServerProcess server;
    server.start();
    Ingress ingress{server.url()};
    ingress.set(Ingress::Has::page);
    std::atomic<bool> has_gone_over{false};
    Worker worker{
        {.transport = transport, .server = {.url = ingress.url(), .log = [&](LogLevel, std::string_view said) {
                                              if (said.contains("over HTTP")) has_gone_over = true;
                                            }}}};
    worker.on<NoPayload>("t", [](NoPayload) { return 7; });
    worker.start();
    ASSERT_TRUE(eventually([&] { return ingress.pages() > 0; }));

    ingress.set(Ingress::Has::server);

    Client client{{.url = server.url()}};
    EXPECT_EQ(client.result<int>(client.enqueue("t", NoPayload{})->id, kPatience), 7);
    EXPECT_FALSE(has_gone_over);
    worker.stop();
    EXPECT_TRUE(worker.wait());
  }
}

TEST(Worker, OneThatStopsWhileItsServerIsAwayLeavesWhenItsTimeIsOver) {
  Worker worker{{.drain_timeout = 10ms, .server = {.url = "http://127.0.0.1:" + std::to_string(free_port())}}};
  worker.on<NoPayload>("t", [](NoPayload) {});
  worker.start();
  worker.stop();
  EXPECT_TRUE(worker.wait());
}

TEST(Worker, OneWhoseServerIsAwaySaysSoOnceAndAgainWhenThatChanges) {
  for (auto const transport : {WorkTransport::http, WorkTransport::stream}) {
    ServerProcess server;
    std::mutex mutex;
    std::vector<std::string> warnings;
    int tried_again = 0;
    Worker worker{{.transport = transport,
                   .drain_timeout = 10ms,
                   .server = {.url = server.url(), .log = [&](LogLevel level, std::string_view message) {
                                std::lock_guard const lock{mutex};
                                if (level >= LogLevel::warn) warnings.emplace_back(message);
                                if (message.starts_with("trying again")) ++tried_again;
                              }}}};
    worker.on<NoPayload>("t", [](NoPayload) {});
    worker.start();
    auto const has = [&](std::size_t count) {
      return [&, count] {
        std::lock_guard const lock{mutex};
        return warnings.size() >= count;
      };
    };
    ASSERT_TRUE(eventually([&] {
      std::lock_guard const lock{mutex};
      return tried_again >= 4;
    }));
    {
      std::lock_guard const lock{mutex};
      ASSERT_EQ(warnings.size(), 1U);
      EXPECT_NE(warnings[0].find("no_server"), std::string::npos);
      EXPECT_NE(warnings[0].find(server.url().substr(7)), std::string::npos);  // Where it is looked for.
    }
    server.start();
    ASSERT_TRUE(
        (Client{{.url = server.url()}}.enqueue("t", NoPayload{})));  // Over HTTP the answer shows that it is there.
    ASSERT_TRUE(eventually(has(2)));
    server.kill();
    EXPECT_TRUE(eventually(has(3)));
    worker.stop();
    EXPECT_TRUE(worker.wait());
  }
}

TEST(Worker, WithoutALogItWarnsOnStandardError) {
  FakeServer server{[](int socket, int) {
    read_request(socket);
    ::shutdown(socket, SHUT_RDWR);
  }};
  testing::internal::CaptureStderr();
  {
    Worker worker{{.drain_timeout = 10ms, .server = {.url = server.url()}}};
    worker.start();
    EXPECT_TRUE(eventually([&] { return server.connections() >= 3; }));  // After two failures.
  }
  std::string const said = testing::internal::GetCapturedStderr();

  EXPECT_TRUE(said.starts_with("workmill: warning: trying again")) << said;
  EXPECT_EQ(said.find("trying again"), said.rfind("trying again")) << said;
}

TEST(Worker, OneThatWasNeverStartedGoesQuietly) {
  Worker worker{{}};
  worker.on<NoPayload>("t", [](NoPayload) {});
}

TEST(Worker, ADrainOfNoEndIsNotOverAtOnce) {
  Mill mill{Over::embedded};
  auto client = mill.client();
  auto worker = mill.worker({.concurrency = 1, .drain_timeout = Duration::max()});
  std::latch started{1};
  std::latch go{1};
  worker.on<NoPayload>("hold", [&](NoPayload) {
    started.count_down();
    go.wait();
  });
  ASSERT_TRUE(client.enqueue_all(std::vector<NewJob>(2, make_job("hold", NoPayload{}))));
  worker.start();
  started.wait();

  worker.stop();

  EXPECT_TRUE(eventually([&] { return client.queue("default")->in(JobState::ready) == 1; }));
  go.count_down();
  EXPECT_TRUE(worker.wait());
  EXPECT_EQ(client.queue("default")->in(JobState::completed), 1U);
}

TEST(Worker, ALogThatThrowsLosesItsLinesAndNothingElse) {
  LogHook const full = [](LogLevel, std::string_view) { throw std::runtime_error{"the disk is full"}; };
  TemporaryFolder folder;
  auto const mill = Workmill::open(folder.path() / "mill", {.log = full});
  ASSERT_TRUE(mill) << describe(mill.error());
  auto client = mill->client({.log = full});
  auto worker = mill->worker({.server = {.log = full}});
  worker.on<int>("double", [](int const& number) { return number * 2; });
  worker.start();

  EXPECT_EQ(client.result<int>(client.enqueue("double", 4)->id, kPatience), 8);
  worker.stop();
  EXPECT_TRUE(worker.wait());

  Client nobody{{.url = "http://127.0.0.1:" + std::to_string(free_port()), .retry = {.first = 1ms}, .log = full}};
  EXPECT_EQ(nobody.ping().error().code, "no_server");
}

TEST(Worker, ASignalStopsIt) {
  ServerProcess server;
  server.start();
  Client client{{.url = server.url()}};
  Worker worker{{.server = {.url = server.url()}}};
  worker.on<NoPayload>("stop", [](NoPayload) { ::kill(::getpid(), SIGTERM); });
  ASSERT_TRUE(client.enqueue("stop", NoPayload{}));

  EXPECT_TRUE(worker.run_until_signal());

  EXPECT_TRUE(eventually([&] { return client.queue("default")->in(JobState::completed) == 1; }));
}

TEST(Worker, OverTlsItWorksAsWithout) {
  ServerProcess server{{}, ServerProcess::Speaks::https};
  server.start();
  ServerOptions const options{.url = server.url(), .ca_file = server.certificate()};
  Client client{options};
  Worker worker{{.server = options}};
  worker.on<int>("double", [](int const& number) { return number * 2; });
  worker.start();

  EXPECT_EQ(client.result<int>(client.enqueue("double", 4)->id, kPatience), 8);
  EXPECT_EQ(client.result<std::string>(client.enqueue("double", std::string{"x"}, {.queue = "default"})->id, kPatience)
                .error()
                .code,
            "bad_payload");
}

// A server says so late that the client has ended its side by then.
TEST(Worker, OverHttpJobsThatAreOnTheirWayWhenItStopsAreGivenBackOverTlsToo) {
  TemporaryFolder const folder;
  Certificate const own = make_certificate(folder.path(), "server");
  TlsServer tls{own};
  std::latch asked{1};
  std::atomic<bool> is_reported{false};
  FakeServer server{[&](int socket, int number) {
    auto connection = tls.accept(socket);
    if (!connection) return;
    std::string const request = connection->read_request();
    if (number > 1) {
      is_reported = request.contains(R"("outcome":"released")");
      connection->send(response(200, R"({"reports":[{"id":"a","ok":true}]})"));
      return connection->close();
    }
    asked.count_down();
    char byte = 0;
    EXPECT_EQ(::recv(socket, &byte, 1, MSG_PEEK), 0);
    connection->send(response(200, R"({"jobs":[{"id":"a","lease":"1","type":"t","attempt":1,"max_attempts":1}]})"));
    connection->close();
  }};
  std::string const url = "https" + server.url().substr(server.url().find(':'));
  Worker worker{{.transport = WorkTransport::http, .server = {.url = url, .ca_file = own.certificate}}};
  worker.on<NoPayload>("t", [](NoPayload) {});
  worker.start();
  asked.wait();

  worker.stop();

  EXPECT_TRUE(worker.wait());
  EXPECT_TRUE(is_reported);
}

TEST(Worker, AServerThatDoesNotTakeBackAPollKeepsNoWorkerFromEnding) {
  std::latch asked{1};
  std::latch done{1};
  FakeServer server{[&](int socket, int) {
    read_request(socket);
    asked.count_down();
    done.wait();
  }};
  Worker worker{{.transport = WorkTransport::http, .drain_timeout = kPatience, .server = {.url = server.url()}}};
  worker.on<NoPayload>("t", [](NoPayload) {});
  worker.start();
  asked.wait();
  auto const begun = std::chrono::steady_clock::now();

  worker.stop();

  EXPECT_TRUE(worker.wait());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, kPatience / 2);
  done.count_down();
}

// ---- Embedded

TEST(Embedded, JobsThatComeInTheMomentInWhichAWorkerStopsAreGivenBack) {
  Mill mill{Over::embedded};
  auto client = mill.client();
  for (int round = 0; round < 200; ++round) {
    auto worker = mill.worker({.credit = 10});
    worker.on<NoPayload>("t", [](NoPayload) {});
    worker.start();
    std::jthread enqueuing{
        [&] { EXPECT_TRUE(client.enqueue_all(std::vector<NewJob>(10, make_job("t", NoPayload{})))); }};

    worker.stop();

    ASSERT_TRUE(worker.wait());
    enqueuing.join();  // Before, there may be no queue yet.
    ASSERT_TRUE(eventually([&] { return client.queue("default")->in(JobState::leased) == 0; })) << round;
  }
}

TEST(Embedded, JobsAreThereAgainWhenTheFolderIsOpenedAnew) {
  Mill mill{Over::embedded};
  std::string id;
  {
    auto client = mill.client();
    id = client.enqueue("t", 5)->id;
  }
  mill.reopen();

  EXPECT_EQ(mill.client().job(id)->payload_as<int>(), 5);
}

TEST(Embedded, AFolderIsOpenedOnceAtATime) {
  TemporaryFolder folder;
  auto const first = Workmill::open(folder.path() / "mill");
  ASSERT_TRUE(first);

  EXPECT_EQ(Workmill::open(folder.path() / "mill").error().code, "log_in_use");
}

TEST(Embedded, WhatTheEngineRefusesIsToldAsTheServerWould) {
  Mill mill{Over::embedded};
  auto client = mill.client();

  EXPECT_EQ(client.enqueue("t", 1, {.priority = 77}).error().field, "priority");
  EXPECT_EQ(client.job("nobody").error().code, "job_not_found");
  EXPECT_TRUE(client.ready());
}

}  // namespace
}  // namespace workmill::client
