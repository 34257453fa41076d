#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "app/load/histogram.h"
#include "app/load/peer_loop.h"
#include "base/json_writer.h"
#include "program.h"

// The whole life of jobs on Redis, as its users do it by hand: producers LPUSH, workers take one with BLMOVE into a
// list of what is being done, and LREM it there when it is. A worker sends the LREM with its next BLMOVE, as a worker
// of ours sends its reports with its next lease; or as client libraries do it call by call, which waits for the answer
// to each. What it costs beside `workmill bench end-to-end`: bench/streams.py http. At a pace, how long a job takes
// from its producer to its worker, beside `workmill bench latency`: bench/streams.py latency.
//
// One thread, and the same sockets and loop as our own loads.
namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

struct Options {
  std::string address = "127.0.0.1:6379";
  std::size_t producers = 16;
  std::size_t workers = 16;
  std::uint64_t jobs = 100'000;
  std::size_t payload_bytes = 100;
  double rate = 0;          // Jobs a second, whether those before are answered or not. 0: as fast as they are answered.
  bool acks_alone = false;  // A BLMOVE is sent when the LREM before it is answered.
};

std::string command(std::initializer_list<std::string_view> words) {
  std::string out = fmt::format("*{}\r\n", words.size());
  for (std::string_view const word : words) fmt::format_to(std::back_inserter(out), "${}\r\n{}\r\n", word.size(), word);
  return out;
}

// A reply of Redis: an integer, a bulk string, or nothing.
struct RedisReply {
  std::string_view text;
  std::size_t bytes = 0;
};

class RedisPeer final : public Peer {
 public:
  using OnReply = std::function<void(RedisPeer&, std::string_view)>;
  RedisPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket, OnReply on_reply)
      : Peer(loop, index, std::move(socket)), on_reply_(std::move(on_reply)) {}
  void send(std::string_view commands) { write(commands); }

 private:
  static Result<std::optional<RedisReply>> parse(std::string_view in) {
    std::optional<RedisReply> const not_yet;
    auto const end = in.find("\r\n");
    if (end == std::string_view::npos) return not_yet;
    if (in[0] == ':' || in[0] == '+') return std::optional{RedisReply{in.substr(1, end - 1), end + 2}};
    if (in[0] != '$') return fail(ErrorCode::protocol_error, fmt::format("Redis says: {}", in.substr(0, end)));
    long length = 0;
    std::from_chars(&in[1], &in[end], length);
    if (length < 0) return std::optional{RedisReply{{}, end + 2}};
    auto const bytes = end + 4 + static_cast<std::size_t>(length);
    if (in.size() < bytes) return not_yet;
    return std::optional{RedisReply{in.substr(end + 2, static_cast<std::size_t>(length)), bytes}};
  }
  Result<std::size_t> take(std::string_view in) override {
    std::size_t taken = 0;
    while (true) {
      WM_TRY(auto const reply, parse(in.substr(taken)));
      if (!reply) return taken;
      on_reply_(*this, reply->text);
      taken += reply->bytes;
    }
  }
  OnReply on_reply_;
};

class Life {
 public:
  Life(Options const& options, PeerLoop& loop) : options_(options), loop_(loop) {}

  Result<> run() {
    RedisPeer::OnReply const on_producer = [this](RedisPeer& one, std::string_view) {
      if (!is_paced()) push(one);
    };
    RedisPeer::OnReply const on_worker = [this](RedisPeer& one, std::string_view reply) {
      this->on_worker(one, reply);
    };
    WM_TRY(producers_, connect_all<RedisPeer>(loop_, options_.producers, on_producer));
    WM_TRY(workers_, connect_all<RedisPeer>(loop_, options_.workers, on_worker));
    began_at_ = loop_.now();
    for (auto* const worker : workers_) worker->send(take_);
    if (is_paced()) {
      WM_TRY_VOID(push_at_a_pace());
    } else {
      for (auto* const producer : producers_) push(*producer);
    }
    while (done_ < options_.jobs) {
      WM_TRY(bool const stopped, loop_.run_until(loop_.now() + std::chrono::seconds{60}));
      if (!stopped) return fail(ErrorCode::outcome_unknown, "Redis does not answer any more");
    }
    took_ = loop_.now() - began_at_;
    return {};
  }

  std::string to_json() const {
    std::string out;
    double const seconds = std::chrono::duration<double>(took_).count();
    JsonWriter{out}
        .begin_object()
        .member("jobs", options_.jobs)
        .member("seconds", seconds)
        .member("jobs_per_second", static_cast<double>(options_.jobs) / seconds)
        .member("p50_us", static_cast<double>(latency_.permille(500)) / 1e3)
        .member("p99_us", static_cast<double>(latency_.permille(990)) / 1e3)
        .end_object();
    return out;
  }

 private:
  static constexpr std::size_t kTimeDigits = 19;

  bool is_paced() const { return options_.rate > 0; }

  // The producers take turns.
  Result<> push_at_a_pace() {
    nanoseconds const gap{static_cast<nanoseconds::rep>(1e9 / options_.rate)};
    auto due = loop_.now() + gap;
    while (sent_ < options_.jobs) {
      WM_TRY_VOID(loop_.run_until(due));
      for (; sent_ < options_.jobs && due <= loop_.now(); due += gap) push(*producers_[sent_ % producers_.size()]);
    }
    return {};
  }

  void push(RedisPeer& producer) {
    if (sent_ == options_.jobs) return;
    ++sent_;
    // The time makes each payload another one, which LREM needs.
    auto payload = fmt::format("{:019}{:09}", loop_.now().count(), sent_);
    payload.resize(std::max(payload.size(), options_.payload_bytes), 'x');
    producer.send(command({"LPUSH", "jobs", payload}));
  }

  // A job; or the count that LREM answers.
  void on_worker(RedisPeer& worker, std::string_view reply) {
    if (reply.size() < kTimeDigits) {
      if (reply != "1") return;  // A BLMOVE that waited in vain.
      if (++done_ == options_.jobs) loop_.stop();
      if (options_.acks_alone && taken_ < options_.jobs) worker.send(take_);
      return;
    }
    nanoseconds::rep sent_at = 0;
    std::from_chars(reply.data(), reply.data() + kTimeDigits, sent_at);
    latency_.add(static_cast<std::uint64_t>(std::max<nanoseconds::rep>(loop_.now().count() - sent_at, 0)));
    ++taken_;
    bool const takes_on = taken_ < options_.jobs && !options_.acks_alone;
    worker.send(command({"LREM", "doing", "1", reply}) + (takes_on ? take_ : ""));
  }

  Options const& options_;
  PeerLoop& loop_;
  std::string const take_ = command({"BLMOVE", "jobs", "doing", "RIGHT", "LEFT", "0"});
  std::vector<RedisPeer*> producers_, workers_;
  std::uint64_t sent_ = 0, taken_ = 0, done_ = 0;
  nanoseconds began_at_{}, took_{};
  Histogram latency_;
};

}  // namespace
}  // namespace workmill::app

int main(int count, char** arguments) {
  workmill::app::Options options;
  CLI::App app{"The whole life of jobs on a Redis server; prints figures as JSON"};
  app.add_option("--server", options.address, "HOST:PORT")->capture_default_str();
  app.add_option("--producers", options.producers)->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--workers", options.workers)->check(CLI::Range(1, 10'000))->capture_default_str();
  app.add_option("--jobs", options.jobs)->check(CLI::Range(1, 1'000'000'000))->capture_default_str();
  app.add_option("--payload", options.payload_bytes)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--rate", options.rate, "Jobs a second, in place of as many as are answered")
      ->check(CLI::Range(0.0, 1e6));
  app.add_flag("--acks-alone", options.acks_alone, "Each call is answered before the next, as client libraries do it");
  CLI11_PARSE(app, count, arguments);
  return workmill::app::run_load<workmill::app::Life>("http://" + options.address, options);
}
