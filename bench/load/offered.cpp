#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <string>
#include <vector>

#include "app/load/histogram.h"
#include "app/load/http_peer.h"
#include "app/load/job_text.h"
#include "app/load/peer_loop.h"
#include "base/json_writer.h"
#include "base/rng.h"
#include "program.h"

// Offers jobs to a server at a rate that does not depend on its answers, over connections that have one request under
// way each: as many independent clients do. A job that comes due while all connections wait for answers is not sent,
// and counted: its client would have given up in front of its own pool. Refused jobs are not sent again.
//
// One thread and one core: what it cannot send in time, it says.
namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

struct Options {
  std::string url = "http://127.0.0.1:7330";
  std::string queue = "offered";
  std::size_t connections = 1'000;
  double rate = 1'000;
  double warm_up = 1;  // Seconds that are not counted.
  double seconds = 10;
  std::size_t payload_bytes = 100;
  std::uint64_t seed = 1;
  bool is_steady = false;      // The same gap between any two, instead of a Poisson process.
  bool tells_buckets = false;  // How often the answers took how long, for whoever adds up several runs.
  bool until_cut_off = false;  // That the server goes away is the end, and not an error.
};

struct Figures {
  std::uint64_t offered = 0;
  std::uint64_t not_sent = 0;  // No connection was free.
  std::uint64_t admitted = 0;
  std::uint64_t refused_limit = 0;  // 503
  std::uint64_t refused_share = 0;  // 429
  std::uint64_t other = 0;
  Histogram latency;          // ns, from the send to the answer, of the admitted.
  Histogram refused_latency;  // Of the refused.
  Histogram late;             // From when a job was due to when it was sent: what this program adds.
};

class Generator {
 public:
  Generator(Options const& options, PeerLoop& loop)
      : options_(options),
        loop_(loop),
        rng_(options.seed),
        job_(loop.address().authority, "", options.queue, options.payload_bytes),
        due_(options.connections) {}

  Result<> run() {
    WM_TRY(auto const peers, connect_all<HttpPeer>(loop_, options_.connections));
    for (HttpPeer* const peer : peers) {
      peer->set_on_answer([this](HttpPeer& one, PeerAnswer const& answer) { on_answer(one, answer); });
      idle_.push_back(peer);
    }
    next_ = loop_.now();
    counted_from_ = next_ + seconds(options_.warm_up);
    end_ = counted_from_ + seconds(options_.seconds);
    while (loop_.now() < end_) {
      offer_what_is_due();
      // Looks at answers in any case, and for no longer than until the next job is due.
      auto const deadline = std::max(next_, loop_.now() + std::chrono::microseconds{20});
      if (auto const ran = loop_.run_until(std::min(deadline, end_)); !ran) {
        end_ = std::min(end_, loop_.now());
        if (options_.until_cut_off) return {};
        return std::unexpected(ran.error());
      }
    }
    return {};
  }

  std::string to_json() const {
    std::string out;
    JsonWriter json{out};
    double const took = std::chrono::duration<double>(end_ - counted_from_).count();
    auto const rate = [&](std::uint64_t count) { return took > 0 ? static_cast<double>(count) / took : 0; };
    auto const ms = [](Histogram const& of, unsigned permille) {
      return static_cast<double>(of.permille(permille)) / 1e6;
    };
    json.begin_object();
    json.member("connections", due_.size()).member("rate", options_.rate).member("seconds", took);
    json.member("offered", figures_.offered).member("not_sent", figures_.not_sent);
    json.member("admitted", figures_.admitted).member("admitted_in_all", admitted_in_all_);
    json.member("refused_503", figures_.refused_limit).member("refused_429", figures_.refused_share);
    json.member("other", figures_.other);
    json.member("offered_per_second", rate(figures_.offered));
    json.member("goodput_per_second", rate(figures_.admitted));
    json.member("refused_per_second", rate(figures_.refused_limit + figures_.refused_share));
    json.member("p50_ms", ms(figures_.latency, 500)).member("p99_ms", ms(figures_.latency, 990));
    json.member("p999_ms", ms(figures_.latency, 999)).member("max_ms", ms(figures_.latency, 1'000));
    json.member("refused_p50_ms", ms(figures_.refused_latency, 500));
    json.member("refused_p99_ms", ms(figures_.refused_latency, 990));
    json.member("late_p99_ms", ms(figures_.late, 990));
    if (options_.tells_buckets) {
      json.key("latency_buckets").begin_array();
      figures_.latency.for_each(
          [&](std::uint64_t up_to, std::uint64_t count) { json.begin_array().value(up_to).value(count).end_array(); });
      json.end_array();
    }
    json.key("sampled_ids").begin_array();
    for (std::string const& id : sampled_ids_) json.value(id);
    json.end_array();
    json.end_object();
    return out;
  }

 private:
  static constexpr std::size_t kSamplesMax = 500;

  static nanoseconds seconds(double count) { return nanoseconds{static_cast<nanoseconds::rep>(count * 1e9)}; }

  bool counts(nanoseconds when) const { return when >= counted_from_; }

  void offer_what_is_due() {
    for (auto now = loop_.now(); next_ <= now; next_ += gap()) {
      bool const is_counted = counts(next_);
      if (is_counted) figures_.offered += 1;
      if (idle_.empty()) {
        if (is_counted) figures_.not_sent += 1;
        continue;
      }
      HttpPeer& peer = *idle_.front();
      idle_.pop_front();
      now = loop_.now();
      due_[peer.index()] = next_;
      if (is_counted) figures_.late.add(static_cast<std::uint64_t>((now - next_).count()));
      peer.send(job_.request(now));
    }
  }

  nanoseconds gap() {
    double const mean = 1e9 / options_.rate;
    if (options_.is_steady) return nanoseconds{static_cast<nanoseconds::rep>(mean)};
    double const uniform = (static_cast<double>(rng_.next() >> 11) + 0.5) * 0x1p-53;
    return nanoseconds{static_cast<nanoseconds::rep>(-std::log(uniform) * mean)};
  }

  void on_answer(HttpPeer& peer, PeerAnswer const& answer) {
    idle_.push_back(&peer);
    if (answer.status == 201) {
      admitted_in_all_ += 1;
      sample(answer.body);
    }
    if (!counts(due_[peer.index()])) return;
    auto const took = static_cast<std::uint64_t>((loop_.now() - peer.sent_at()).count());
    switch (answer.status) {
      case 201:
        figures_.admitted += 1;
        figures_.latency.add(took);
        return;
      case 503: figures_.refused_limit += 1; break;
      case 429: figures_.refused_share += 1; break;
      default: figures_.other += 1; return;
    }
    figures_.refused_latency.add(took);
  }

  // Some of the acknowledged jobs, evenly, for whoever audits them: every n-th, with n doubled whenever there are
  // enough.
  void sample(std::string_view body) {
    if (admitted_in_all_ % sample_every_ != 0) return;
    constexpr std::string_view kId = R"("id":")";
    auto const begin = body.find(kId);
    if (begin == std::string_view::npos) return;
    auto const rest = body.substr(begin + kId.size());
    sampled_ids_.emplace_back(rest.substr(0, rest.find('"')));
    if (sampled_ids_.size() < kSamplesMax) return;
    for (std::size_t i = 0; i < sampled_ids_.size() / 2; ++i) sampled_ids_[i] = std::move(sampled_ids_[2 * i + 1]);
    sampled_ids_.resize(sampled_ids_.size() / 2);
    sample_every_ *= 2;
  }

  Options const& options_;
  PeerLoop& loop_;
  Rng rng_;
  JobTemplate job_;
  std::vector<nanoseconds> due_;  // When the job was due that a connection waits for.
  std::deque<HttpPeer*> idle_;    // The one that has been idle for longest is used next.
  nanoseconds next_{};
  nanoseconds counted_from_{};
  nanoseconds end_{};
  Figures figures_;
  std::uint64_t admitted_in_all_ = 0;
  std::uint64_t sample_every_ = 1;
  std::vector<std::string> sampled_ids_;
};

}  // namespace
}  // namespace workmill::app

int main(int count, char** arguments) {
  workmill::app::Options options;
  CLI::App app{"Offers jobs to a Workmill server at a rate, whatever it answers; prints figures as JSON"};
  app.add_option("--server", options.url)->capture_default_str();
  app.add_option("--queue", options.queue)->capture_default_str();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--rate", options.rate, "Jobs a second")->check(CLI::Range(0.1, 1e8))->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "Seconds ahead that do not count")->capture_default_str();
  app.add_option("--seconds", options.seconds)->capture_default_str();
  app.add_option("--payload", options.payload_bytes)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--seed", options.seed)->capture_default_str();
  app.add_flag("--steady", options.is_steady, "The same gap between any two, instead of a Poisson process");
  app.add_flag("--buckets", options.tells_buckets, "Prints the answers' times as [ns, count] steps, too");
  app.add_flag("--until-cut-off", options.until_cut_off, "That the server goes away is the end, and no error");
  CLI11_PARSE(app, count, arguments);
  return workmill::app::run_load<workmill::app::Generator>(options.url, options);
}
