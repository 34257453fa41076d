#include <sys/resource.h>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "app/load/histogram.h"
#include "app/load/http_peer.h"
#include "app/load/peer_loop.h"
#include "base/json_writer.h"
#include "shard/system_clock.h"

// Everybody asks at once for a value that nobody has: so many connections, one get-or-compute each, one key. A worker
// of this program's own leases the one job and completes it when all have asked; what is measured is how long it takes
// from then until the last caller has the value. One thread and one core, which reads all of the answers.
//
// A caller that is refused (429, 503) asks again, as it is told to.
namespace workmill::app {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

struct Options {
  std::string url = "http://127.0.0.1:7330";
  std::string key = "stampede";
  std::size_t callers = 10'000;
  std::size_t value_bytes = 1'024;
};

constexpr nanoseconds kPatience = 60s;
constexpr nanoseconds kSettling = 500ms;  // So long nothing is answered: then all are waiting.
constexpr nanoseconds kPause = 100ms;     // Before those who were refused ask again.

std::string_view between(std::string_view text, std::string_view before) {
  auto const at = text.find(before);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + before.size());
  return text.substr(0, text.find('"'));
}

class Stampede {
 public:
  Stampede(Options const& options, PeerLoop& loop) : options_(options), loop_(loop) {}

  Result<> run() {
    WM_TRY(worker_, loop_.connect<HttpPeer>());
    worker_->set_on_answer([this](HttpPeer&, PeerAnswer const& answer) { on_worker(answer); });
    for (std::size_t i = 0; i < options_.callers; ++i) {
      WM_TRY(auto* const caller, loop_.connect<HttpPeer>());
      caller->set_on_answer([this](HttpPeer& one, PeerAnswer const& answer) { on_caller(one, answer); });
      callers_.push_back(caller);
    }
    ask_worker("/v1/leases", R"({"queues":["stampede"],"max":10,"wait":"30s","worker":"stampede"})");
    ask_ = post_request(loop_.address().authority, "", "/v1/cache/" + options_.key,
                        R"({"job":{"type":"compute","queue":"stampede"},"fresh":"1h","wait":"60s"})");
    for (HttpPeer* const caller : callers_) {
      caller->send(ask_);
      if (caller->index() % 100 == 0) WM_TRY_VOID(loop_.run_until(loop_.now() + 50us));
    }
    WM_TRY_VOID(wait_until_all_wait());

    value_.assign(options_.value_bytes - 2, 'x');
    reported_at_ = loop_.now();
    ask_worker("/v1/reports",
               fmt::format(R"({{"reports":[{{"id":"{}","lease":"{}","outcome":"completed","result":"{}"}}]}})", job_,
                           lease_, value_));
    while (answered_ < callers_.size() || completed_at_ == nanoseconds{0}) {
      WM_TRY(bool const stopped, loop_.run_until(loop_.now() + kPatience));
      if (!stopped) return fail(ErrorCode::outcome_unknown, fmt::format("only {} callers were answered", answered_));
    }
    // Would there be another job, it would be leased at once.
    ask_worker("/v1/leases", R"({"queues":["stampede"],"max":10,"wait":"0s","worker":"stampede"})");
    WM_TRY_VOID(loop_.run_until(loop_.now() + kSettling));
    return {};
  }

  std::string to_json() const {
    std::string out;
    auto const ms = [](nanoseconds time) { return std::chrono::duration<double, std::milli>(time).count(); };
    JsonWriter{out}
        .begin_object()
        .member("callers", callers_.size())
        .member("jobs", jobs_)
        .member("refused", refused_)
        .member("with_value", with_value_)
        .member("last_answer_after_report_ms", ms(last_at_ - reported_at_))
        .member("last_answer_after_completion_ms", ms(std::max(last_at_ - completed_at_, nanoseconds{0})))
        .member("report_ms", ms(completed_at_ - reported_at_))
        .member("p50_ms", static_cast<double>(after_report_.permille(500)) / 1e6)
        .end_object();
    return out;
  }

 private:
  void ask_worker(std::string_view path, std::string_view body) {
    worker_->send(post_request(loop_.address().authority, "", path, body));
  }

  // All have asked when the job is leased, nobody is refused any more, and for a while nothing has come.
  Result<> wait_until_all_wait() {
    auto const until = loop_.now() + kPatience;
    while (loop_.now() < until) {
      auto const answers = answers_;
      WM_TRY_VOID(loop_.run_until(loop_.now() + kSettling));
      if (answers == answers_ && again_.empty() && !job_.empty()) return {};
      for (HttpPeer* const caller : std::exchange(again_, {})) caller->send_again();
      WM_TRY_VOID(loop_.run_until(loop_.now() + kPause));
    }
    return fail(ErrorCode::outcome_unknown, "not all could ask");
  }

  void on_worker(PeerAnswer const& answer) {
    ++answers_;
    if (answer.body.find("\"reports\":[{") != std::string_view::npos && completed_at_ == nanoseconds{0}) {
      completed_at_ = loop_.now();
      if (answered_ == callers_.size()) loop_.stop();
      return;
    }
    for (auto at = answer.body.find("\"lease\":\""); at != std::string_view::npos;
         at = answer.body.find("\"lease\":\"", at + 1)) {
      ++jobs_;
    }
    if (!job_.empty()) return;
    job_ = between(answer.body, "\"id\":\"");
    lease_ = between(answer.body, "\"lease\":\"");
  }

  void on_caller(HttpPeer& caller, PeerAnswer const& answer) {
    ++answers_;
    if (answer.status == 503 || answer.status == 429) {
      ++refused_;
      again_.push_back(&caller);
      return;
    }
    if (answer.status == 200 && answer.body.size() == options_.value_bytes) ++with_value_;
    last_at_ = loop_.now();
    after_report_.add(static_cast<std::uint64_t>((last_at_ - reported_at_).count()));
    if (++answered_ == callers_.size() && completed_at_ > nanoseconds{0}) loop_.stop();
  }

  Options const& options_;
  PeerLoop& loop_;
  HttpPeer* worker_ = nullptr;
  std::vector<HttpPeer*> callers_;
  std::vector<HttpPeer*> again_;
  std::string ask_, value_, job_, lease_;
  std::uint64_t answers_ = 0;  // Of whatever kind.
  std::uint64_t jobs_ = 0, refused_ = 0, with_value_ = 0;
  std::size_t answered_ = 0;
  nanoseconds reported_at_{}, completed_at_{}, last_at_{};
  Histogram after_report_;
};

int run(Options const& options) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  }
  shard::SystemClock const clock;
  auto loop = PeerLoop::open(options.url, clock);
  Result<> ran = loop ? Result<>{} : Result<>{std::unexpected(loop.error())};
  if (ran) {
    Stampede stampede{options, **loop};
    ran = stampede.run();
    if (ran) fmt::print("{}\n", stampede.to_json());
  }
  if (ran) return 0;
  fmt::print(stderr, "{}\n", describe(ran.error()));
  return 1;
}

}  // namespace
}  // namespace workmill::app

int main(int count, char** arguments) {
  workmill::app::Options options;
  CLI::App app{"Many callers of one absent key; prints figures as JSON"};
  app.add_option("--server", options.url)->capture_default_str();
  app.add_option("--key", options.key)->capture_default_str();
  app.add_option("--callers", options.callers)->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--value", options.value_bytes)->check(CLI::Range(2, 1'000'000))->capture_default_str();
  CLI11_PARSE(app, count, arguments);
  return workmill::app::run(options);
}
