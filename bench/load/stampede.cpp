#include <sys/socket.h>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/load/histogram.h"
#include "app/load/http_peer.h"
#include "app/load/peer_loop.h"
#include "base/json_writer.h"
#include "floor.h"
#include "program.h"

// Everybody asks at once for a value that nobody has: so many connections, one get-or-compute each, one key. A worker
// of this program's own leases the one job and completes it when all have asked; what is measured is how long it takes
// from then until the last caller has the value.
//
// The callers share one thread, and the server's cores. So that the server is what is measured, they cost next to
// nothing: one recv() an answer, in the order in which they have asked, and a short sleep where the next one has not
// come yet. No epoll, as the server's sends would pay for telling it, and for waking us.
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
  std::size_t floor_threads = 0;  // Instead of a server.
};

constexpr nanoseconds kPatience = 60s;
constexpr nanoseconds kSettling = 500ms;  // So long nothing is answered: then all are waiting.
constexpr nanoseconds kPause = 100ms;     // Before those who were refused ask again.
constexpr nanoseconds kNap = 200us;       // Where the next answer has not come yet.

std::string_view between(std::string_view text, std::string_view before) {
  auto const at = text.find(before);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + before.size());
  return text.substr(0, text.find('"'));
}

// One request at a time over a socket that nobody watches.
class Caller {
 public:
  explicit Caller(FileDescriptor socket) : socket_(std::move(socket)) {}

  Result<> ask(std::string_view request) {
    ssize_t sent = 0;
    do sent = ::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == static_cast<ssize_t>(request.size())) return {};  // It is short, and the socket was empty.
    return fail(ErrorCode::outcome_unknown, fmt::format("sending: {}", std::strerror(errno)));
  }

  // The answer if it is there; lent until `room` or this caller is used again.
  Result<std::optional<PeerAnswer>> take(std::vector<char>& room) {
    ssize_t count = 0;
    do count = ::recv(socket_.get(), room.data(), room.size(), MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EAGAIN) return std::optional<PeerAnswer>{};
    if (count < 0) return fail(ErrorCode::outcome_unknown, fmt::format("receiving: {}", std::strerror(errno)));
    if (count == 0) return fail(ErrorCode::outcome_unknown, "the server has closed the connection");
    std::string_view in{room.data(), static_cast<std::size_t>(count)};
    if (!pieces_.empty()) in = pieces_.append(in);
    WM_TRY(auto const parsed, parse_answer(in));
    if (parsed && parsed->bytes == in.size()) {
      if (in.data() == room.data()) return std::optional{parsed->answer};
      room.assign(in.begin(), in.end());
      pieces_.clear();
      WM_TRY(auto const whole, parse_answer({room.data(), room.size()}));
      return std::optional{whole->answer};
    }
    if (parsed) return fail(ErrorCode::protocol_error, "more than one answer came");
    if (pieces_.empty()) pieces_ = in;
    return std::optional<PeerAnswer>{};
  }

 private:
  FileDescriptor socket_;
  std::string pieces_;  // Of an answer that is not whole yet.
};

class Stampede {
 public:
  Stampede(Options const& options, PeerLoop& loop)
      : options_(options), loop_(loop), room_(options.value_bytes + 64 * 1'024) {}

  Result<> run() {
    WM_TRY(worker_, loop_.connect<HttpPeer>());
    worker_->set_on_answer([this](HttpPeer&, PeerAnswer const& answer) { on_worker(answer); });
    for (std::size_t i = 0; i < options_.callers; ++i) {
      WM_TRY(auto socket, loop_.open_socket());
      callers_.emplace_back(std::move(socket));
    }
    ask_worker("/v1/leases", R"({"queues":["stampede"],"max":10,"wait":"30s","worker":"stampede"})");
    ask_ = post_request(loop_.address().authority, "", "/v1/cache/" + options_.key,
                        R"({"job":{"type":"compute","queue":"stampede"},"fresh":"1h","wait":"60s"})");
    for (Caller& caller : callers_) WM_TRY_VOID(caller.ask(ask_));
    WM_TRY_VOID(wait_until_all_wait());

    std::string const value(options_.value_bytes - 2, 'x');
    reported_at_ = loop_.now();
    ask_worker("/v1/reports",
               fmt::format(R"({{"reports":[{{"id":"{}","lease":"{}","outcome":"completed","result":"{}"}}]}})", job_,
                           lease_, value));
    WM_TRY_VOID(read_answers());
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
        .member("client_cpu_us", cpu_ * 1e6 / static_cast<double>(callers_.size()))
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
      std::vector<Caller*> again;
      for (Caller& caller : callers_) {
        WM_TRY(auto const answer, caller.take(room_));
        if (answer && is_refusal(*answer)) again.push_back(&caller);
        if (answer && !is_refusal(*answer)) return fail(ErrorCode::protocol_error, "a value came before its time");
      }
      answers_ += again.size();
      refused_ += again.size();
      if (answers == answers_ && !job_.empty()) return {};
      WM_TRY_VOID(loop_.run_until(loop_.now() + kPause));
      for (Caller* const caller : again) WM_TRY_VOID(caller->ask(ask_));
    }
    return fail(ErrorCode::outcome_unknown, "not all could ask");
  }

  Result<> read_answers() {
    auto const until = loop_.now() + kPatience;
    double const cpu_before = cpu_seconds();
    for (Caller& caller : callers_) {
      while (true) {
        WM_TRY(auto const answer, caller.take(room_));
        if (answer) {
          on_caller(*answer);
          break;
        }
        if (loop_.now() > until) return fail(ErrorCode::outcome_unknown, "not all callers were answered");
        WM_TRY_VOID(loop_.run_until(loop_.now() + kNap));
      }
    }
    cpu_ = cpu_seconds() - cpu_before;
    while (completed_at_ == nanoseconds{0}) {
      if (loop_.now() > until) return fail(ErrorCode::outcome_unknown, "the report was not answered");
      WM_TRY_VOID(loop_.run_until(loop_.now() + kPause));
    }
    return {};
  }

  static bool is_refusal(PeerAnswer const& answer) { return answer.status == 503 || answer.status == 429; }

  void on_worker(PeerAnswer const& answer) {
    ++answers_;
    if (answer.body.find("\"reports\":[{") != std::string_view::npos && completed_at_ == nanoseconds{0}) {
      completed_at_ = loop_.now();
      return loop_.stop();
    }
    for (auto at = answer.body.find("\"lease\":\""); at != std::string_view::npos;
         at = answer.body.find("\"lease\":\"", at + 1)) {
      ++jobs_;
    }
    if (!job_.empty()) return;
    job_ = between(answer.body, "\"id\":\"");
    lease_ = between(answer.body, "\"lease\":\"");
  }

  void on_caller(PeerAnswer const& answer) {
    if (is_refusal(answer)) ++refused_;
    if (answer.status == 200 && answer.body.size() == options_.value_bytes) ++with_value_;
    last_at_ = loop_.now();
    after_report_.add(static_cast<std::uint64_t>((last_at_ - reported_at_).count()));
  }

  Options const& options_;
  PeerLoop& loop_;
  HttpPeer* worker_ = nullptr;
  std::vector<Caller> callers_;
  std::vector<char> room_;  // Where all of them read to.
  std::string ask_, job_, lease_;
  std::uint64_t answers_ = 0;  // Of whatever kind.
  std::uint64_t jobs_ = 0, refused_ = 0, with_value_ = 0;
  nanoseconds reported_at_{}, completed_at_{}, last_at_{};
  double cpu_ = 0;
  Histogram after_report_;
};

int run(Options options) {
  raise_descriptor_limit();
  std::unique_ptr<Floor> floor;
  if (options.floor_threads > 0) {
    auto opened = Floor::open(options.callers, options.value_bytes, options.floor_threads);
    if (!opened) {
      fmt::print(stderr, "{}\n", describe(opened.error()));
      return 1;
    }
    floor = *std::move(opened);
    options.url = floor->url();
  }
  return run_load<Stampede>(options.url, options);
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
  app.add_option("--floor", options.floor_threads,
                 "No server: so many threads that only send, to see what the kernel takes")
      ->check(CLI::Range(1, 16));
  CLI11_PARSE(app, count, arguments);
  return workmill::app::run(std::move(options));
}
