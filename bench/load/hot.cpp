#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <charconv>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/load/histogram.h"
#include "app/load/http_peer.h"
#include "app/load/peer_loop.h"
#include "base/json_writer.h"
#include "program.h"

// Reads one hot value, over connections that have one request under way each, or so many, and send the next as soon as
// they have the answer: from a Workmill or another HTTP server, from memcached by its text protocol, or from Redis. The
// same loop and sockets for all of them, and as little work on an answer, so that what differs is the server
// (bench/cache.py).
//
// One thread and one core.
namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

enum class Speaks : std::uint8_t { http, memcached, redis };

struct Options {
  std::string server = "127.0.0.1:7330";  // HOST:PORT
  Speaks speaks = Speaks::http;
  std::string key = "hot";  // Of HTTP: the path.
  std::size_t connections = 64;
  std::size_t pipeline = 1;  // Requests under way on each.
  double warm_up = 0.5;      // Seconds that are not counted.
  double seconds = 4;
  std::size_t value_bytes = 1'024;  // What each answer must hold. Else the figure would be of something else.
};

// The value in the first whole answer, and how many bytes the answer takes.
struct Got {
  std::size_t value_bytes = 0;
  std::size_t bytes = 0;
};
using Parse = Result<std::optional<Got>> (*)(std::string_view in);

auto unexpected_answer(std::string_view in) {
  return fail(ErrorCode::protocol_error,
              fmt::format("unexpected: {}", in.substr(0, std::min<std::size_t>(in.size(), 200))));
}

Result<std::optional<Got>> parse_http(std::string_view in) {
  WM_TRY(auto const parsed, parse_answer(in));
  if (!parsed) return std::optional<Got>{};
  if (parsed->answer.status / 100 != 2) return unexpected_answer(in);
  return std::optional{Got{.value_bytes = parsed->answer.body.size(), .bytes = parsed->bytes}};
}

// `head`, which ends with the length of the value; `tail` bytes follow the value. `head_bytes`: with its line end.
Result<std::optional<Got>> sized(std::string_view in, std::string_view head, std::size_t tail) {
  std::size_t const digits = head.find_last_not_of("0123456789") + 1;
  std::size_t length = 0;
  if (std::from_chars(head.data() + digits, head.data() + head.size(), length).ec != std::errc{}) {
    return unexpected_answer(in);
  }
  std::size_t const bytes = head.size() + 2 + length + tail;
  if (in.size() < bytes) return std::optional<Got>{};
  return std::optional{Got{.value_bytes = length, .bytes = bytes}};
}

// "VALUE hot 0 1024\r\n" value "\r\nEND\r\n"
Result<std::optional<Got>> parse_memcached(std::string_view in) {
  auto const end = in.find("\r\n");
  if (end == std::string_view::npos) return std::optional<Got>{};
  if (!in.starts_with("VALUE ")) return unexpected_answer(in);
  return sized(in, in.substr(0, end), 7);
}

// "$1024\r\n" value "\r\n"
Result<std::optional<Got>> parse_redis(std::string_view in) {
  auto const end = in.find("\r\n");
  if (end == std::string_view::npos) return std::optional<Got>{};
  if (!in.starts_with('$') || in.starts_with("$-")) return unexpected_answer(in);
  return sized(in, in.substr(0, end), 2);
}

// One connection, with so many requests under way.
class Reader final : public Peer {
 public:
  struct Plan {
    Parse parse = parse_http;
    std::string requests;           // As many as may be under way, behind each other.
    std::size_t request_bytes = 0;  // Of each.
    std::size_t depth = 1;
    std::function<void(nanoseconds took, std::size_t value_bytes)> on_value;
  };
  Reader(PeerLoop& loop, std::size_t index, FileDescriptor socket, Plan const* plan)
      : Peer(loop, index, std::move(socket)), plan_(*plan), asked_at_(plan->depth) {}

  void ask(std::size_t count) {
    nanoseconds const at = now();
    for (std::size_t i = 0; i < count; ++i) asked_at_[asked_++ % asked_at_.size()] = at;
    write(std::string_view{plan_.requests}.substr(0, count * plan_.request_bytes));
  }

 private:
  // All that has come, and then as many requests as there were answers, in one write.
  Result<std::size_t> take(std::string_view in) override {
    std::size_t taken = 0;
    std::size_t answers = 0;
    nanoseconds const at = now();
    while (true) {
      auto const rest = in.substr(taken);
      WM_TRY(auto const got, is_as_before(rest) ? std::optional{last_} : plan_.parse(rest));
      if (!got) break;
      last_ = *got;
      taken += got->bytes;
      ++answers;
      plan_.on_value(at - asked_at_[answered_++ % asked_at_.size()], got->value_bytes);
    }
    if (answers > 0) ask(answers);
    return taken;
  }
  // The answer is as long as the last one where another begins right behind it. So only the last of those that came
  // together is looked at closely, as the heads' figures grow a digit now and then.
  bool is_as_before(std::string_view in) const {
    return plan_.parse == parse_http && last_.bytes > 0 && in.size() > last_.bytes &&
           in.substr(last_.bytes).starts_with("HTTP/1.1 2");
  }

  Plan const& plan_;
  Got last_;
  std::vector<nanoseconds> asked_at_;  // In a ring.
  std::size_t asked_ = 0, answered_ = 0;
};

class Load {
 public:
  Load(Options const& options, PeerLoop& loop) : options_(options), loop_(loop) {
    std::string request;
    switch (options.speaks) {
      case Speaks::http: request = get_request(loop.address().authority, "", options.key); break;
      case Speaks::memcached:
        plan_.parse = parse_memcached;
        request = fmt::format("get {}\r\n", options.key);
        break;
      case Speaks::redis:
        plan_.parse = parse_redis;
        request = fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", options.key.size(), options.key);
        break;
    }
    plan_.depth = options.pipeline;
    plan_.request_bytes = request.size();
    for (std::size_t i = 0; i < options.pipeline; ++i) plan_.requests += request;
    plan_.on_value = [this](nanoseconds took, std::size_t bytes) { on_value(took, bytes); };
  }

  Result<> run() {
    WM_TRY(auto const readers, connect_all<Reader>(loop_, options_.connections, &plan_));
    for (Reader* const reader : readers) reader->ask(options_.pipeline);
    WM_TRY_VOID(loop_.run_until(loop_.now() + seconds(options_.warm_up)));
    counts_ = true;
    auto const cpu_before = cpu_seconds();
    began_at_ = loop_.now();
    WM_TRY_VOID(loop_.run_until(began_at_ + seconds(options_.seconds)));
    took_ = loop_.now() - began_at_;
    cpu_ = cpu_seconds() - cpu_before;
    if (wrong_ > 0) {
      return fail(ErrorCode::protocol_error,
                  fmt::format("{} answers did not hold {} bytes", wrong_, options_.value_bytes));
    }
    return {};
  }

  std::string to_json() const {
    std::string out;
    auto const count = static_cast<double>(latency_.count());
    auto const us = [&](unsigned permille) { return static_cast<double>(latency_.permille(permille)) / 1e3; };
    JsonWriter{out}
        .begin_object()
        .member("requests", latency_.count())
        .member("per_second", count / std::chrono::duration<double>(took_).count())
        .member("p50_us", us(500))
        .member("p99_us", us(990))
        .member("p999_us", us(999))
        .member("client_cpu_us", count > 0 ? cpu_ * 1e6 / count : 0)
        .end_object();
    return out;
  }

 private:
  static nanoseconds seconds(double count) { return nanoseconds{static_cast<nanoseconds::rep>(count * 1e9)}; }

  void on_value(nanoseconds took, std::size_t value_bytes) {
    if (counts_) latency_.add(static_cast<std::uint64_t>(took.count()));
    if (value_bytes != options_.value_bytes) ++wrong_;
  }

  Options const& options_;
  PeerLoop& loop_;
  Reader::Plan plan_;
  bool counts_ = false;
  nanoseconds began_at_{}, took_{};
  double cpu_ = 0;
  std::uint64_t wrong_ = 0;
  Histogram latency_;
};

}  // namespace
}  // namespace workmill::app

int main(int count, char** arguments) {
  using workmill::app::Speaks;
  workmill::app::Options options;
  std::string speaks = "http";
  CLI::App app{"Reads one hot value as fast as it is answered; prints figures as JSON"};
  app.add_option("--server", options.server, "HOST:PORT")->capture_default_str();
  app.add_option("--speaks", speaks)->check(CLI::IsMember({"http", "memcached", "redis"}))->capture_default_str();
  app.add_option("--key", options.key, "Of HTTP: the path")->capture_default_str();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--pipeline", options.pipeline, "Requests under way on each connection")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "Seconds ahead that do not count")->capture_default_str();
  app.add_option("--seconds", options.seconds)->capture_default_str();
  app.add_option("--value", options.value_bytes, "Bytes that each answer must hold")->capture_default_str();
  CLI11_PARSE(app, count, arguments);
  options.speaks = speaks == "memcached" ? Speaks::memcached : speaks == "redis" ? Speaks::redis : Speaks::http;
  return workmill::app::run_load<workmill::app::Load>("http://" + options.server, options);
}
