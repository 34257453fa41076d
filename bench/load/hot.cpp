#include <sys/resource.h>

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
#include "shard/system_clock.h"

// Reads one hot value, over connections that have one request under way each and send the next as soon as they have
// the answer: from a Workmill or another HTTP server, from memcached by its text protocol, or from Redis. The same
// loop and sockets for all of them, and as little work on an answer, so that what differs is the server
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
  double warm_up = 0.5;  // Seconds that are not counted.
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

class Reader final : public Peer {
 public:
  using OnValue = std::function<void(Reader&, std::size_t value_bytes)>;
  Reader(PeerLoop& loop, std::size_t index, FileDescriptor socket, Parse parse, OnValue const& on_value)
      : Peer(loop, index, std::move(socket)), parse_(parse), on_value_(on_value) {}

  void ask(std::string_view request) {
    asked_at_ = now();
    write(request);
  }
  nanoseconds asked_at() const { return asked_at_; }

 private:
  Result<std::size_t> take(std::string_view in) override {
    WM_TRY(auto const got, parse_(in));
    if (!got) return std::size_t{0};
    on_value_(*this, got->value_bytes);
    return got->bytes;
  }

  Parse const parse_;
  OnValue const& on_value_;
  nanoseconds asked_at_{};
};

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto const seconds = [](timeval const& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Load {
 public:
  Load(Options const& options, PeerLoop& loop) : options_(options), loop_(loop) {
    switch (options.speaks) {
      case Speaks::http:
        parse_ = parse_http;
        request_ = get_request(loop.address().authority, "", options.key);
        break;
      case Speaks::memcached:
        parse_ = parse_memcached;
        request_ = fmt::format("get {}\r\n", options.key);
        break;
      case Speaks::redis:
        parse_ = parse_redis;
        request_ = fmt::format("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", options.key.size(), options.key);
        break;
    }
  }

  Result<> run() {
    std::vector<Reader*> readers;
    for (std::size_t i = 0; i < options_.connections; ++i) {
      WM_TRY(auto* const reader, loop_.connect<Reader>(parse_, on_value_));
      readers.push_back(reader);
    }
    for (Reader* const reader : readers) reader->ask(request_);
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

  void on_value(Reader& reader, std::size_t value_bytes) {
    if (counts_) latency_.add(static_cast<std::uint64_t>((loop_.now() - reader.asked_at()).count()));
    if (value_bytes != options_.value_bytes) ++wrong_;
    reader.ask(request_);
  }

  Options const& options_;
  PeerLoop& loop_;
  Parse parse_ = parse_http;
  std::string request_;
  Reader::OnValue const on_value_ = [this](Reader& reader, std::size_t bytes) { on_value(reader, bytes); };
  bool counts_ = false;
  nanoseconds began_at_{}, took_{};
  double cpu_ = 0;
  std::uint64_t wrong_ = 0;
  Histogram latency_;
};

int run(Options const& options) {
  shard::SystemClock const clock;
  auto loop = PeerLoop::open("http://" + options.server, clock);
  Result<> ran = loop ? Result<>{} : Result<>{std::unexpected(loop.error())};
  if (ran) {
    Load load{options, **loop};
    ran = load.run();
    if (ran) fmt::print("{}\n", load.to_json());
  }
  if (ran) return 0;
  fmt::print(stderr, "{}\n", describe(ran.error()));
  return 1;
}

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
  app.add_option("--warm-up", options.warm_up, "Seconds ahead that do not count")->capture_default_str();
  app.add_option("--seconds", options.seconds)->capture_default_str();
  app.add_option("--value", options.value_bytes, "Bytes that each answer must hold")->capture_default_str();
  CLI11_PARSE(app, count, arguments);
  options.speaks = speaks == "memcached" ? Speaks::memcached : speaks == "redis" ? Speaks::redis : Speaks::http;
  return workmill::app::run(options);
}
