#include "sim/scenarios/next_year.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/variant.h"
#include "engine/engine.h"
#include "log/memory/memory_log.h"
#include "model/job.h"
#include "shard/recovery.h"
#include "shard/shard_loop.h"
#include "sim/faulty_log.h"

namespace workmill::sim {
namespace {

constexpr std::size_t kBulk = 100;

Bytes spec_of(std::string_view queue, std::optional<Instant> run_at) {
  JobSpecView spec;
  spec.type = "report";
  spec.queue = queue;
  spec.payload_kind = PayloadKind::json;
  spec.payload = R"({"of":"a hundred bytes or so, as most jobs have: an address, a number and a name"})";
  spec.run_at = run_at;
  spec.keep_result = Duration{0};
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

// A shard that is asked one thing at a time.
class Server {
 public:
  explicit Server(NextYearOptions const& options) {
    options_.flush_by = shard::FlushBy::turn;
    options_.survivors = options.survivors;
    options_.survivors.slack_bytes = 2 * std::uint64_t{options.segment_bytes};
    log::SegmentLogOptions segments;
    segments.segment_bytes = options.segment_bytes;
    auto opened = log::open_memory_log(disk_, segments);
    if (!opened) return;
    log_ = std::move(*opened);
    auto const recovered = shard::recover(*log_, engine_, clock_, chance_, {});
    if (!recovered) return;
    loop_ = std::make_unique<shard::ShardLoop>(options_, *log_, engine_, clock_, chance_.fork(), 1, [] {}, *recovered);
  }

  bool is_up() const { return loop_ != nullptr; }
  Instant now() const { return clock_.now(); }
  engine::Engine const& engine() const { return engine_; }
  std::uint64_t used_bytes() const {
    std::uint64_t used = 0;
    for (auto const& segment : log_->status().segments) used += segment.bytes;
    return used;
  }

  // Nothing where the shard gave up.
  std::optional<Reply> ask(Command command) {
    if (!loop_->submit({.port = 0, .cookie = 1, .command = std::move(command)})) return std::nullopt;
    clock_.advance(Duration{1});
    std::vector<shard::Answer> answers;
    while (answers.empty()) {
      if (!loop_->turn()) return std::nullopt;
      loop_->take_answers(0, answers);
    }
    return std::move(answers.front().reply);
  }

 private:
  SimClock clock_;
  Rng chance_{1};
  log::MemoryDisk disk_;
  shard::ShardOptions options_;
  std::unique_ptr<log::Log> log_;
  engine::Engine engine_{engine::EngineOptions{}};
  std::unique_ptr<shard::ShardLoop> loop_;
};

}  // namespace

std::vector<NextYearRound> run_next_year(NextYearOptions const& options) {
  Server server{options};
  if (!server.is_up()) return {};
  Bytes const late = spec_of("later", server.now() + std::chrono::hours{24 * 365});
  for (std::uint64_t i = 0; i < options.scheduled; i += kBulk) {
    if (!server.ask(Enqueue{.specs = std::vector<Bytes>(kBulk, late), .idempotency = {}})) return {};
  }
  Bytes const soon = spec_of("now", std::nullopt);
  std::vector<NextYearRound> rounds;
  for (std::uint64_t round = 0; round < options.rounds; ++round) {
    NextYearRound now{.short_jobs = (round + 1) * options.short_jobs_per_round};
    for (std::uint64_t i = 0; i < options.short_jobs_per_round; i += kBulk) {
      Lease lease;
      lease.worker = "w";
      lease.max = kBulk;
      lease.queues.push_back({.name = "now", .weight = 0});
      if (!server.ask(Enqueue{.specs = std::vector<Bytes>(kBulk, soon), .idempotency = {}})) return {};
      auto const leased = server.ask(std::move(lease));
      if (!leased || !holds<LeaseReply>(*leased)) return {};
      ReportBatch batch;
      for (LeasedJob const& job : std::get<LeaseReply>(*leased).jobs) {
        batch.reports.push_back(
            {.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Completed{}});
      }
      if (!server.ask(std::move(batch))) return {};
      std::uint64_t const used = server.used_bytes();
      std::uint64_t const covered = server.engine().live_bytes() * 5 / 2;
      now.used_bytes_max = std::max(now.used_bytes_max, used);
      now.beyond_max = std::max(now.beyond_max, used - std::min(used, covered));
    }
    auto const status = server.ask(GetStatus{});
    if (!status || !holds<StatusReply>(*status)) return {};
    now.live_bytes = server.engine().live_bytes();
    now.copied_jobs = std::get<StatusReply>(*status).copied_ahead_jobs;
    rounds.push_back(now);
  }
  return rounds;
}

bool print_next_year() {
  NextYearOptions const options;
  bool is_bounded = true;
  auto const rounds = run_next_year(options);
  fmt::print("{} jobs for next year, segments of {} bytes\n", options.scheduled, options.segment_bytes);
  fmt::print("{:>12} {:>12} {:>14} {:>9} {:>12}\n", "short jobs", "live bytes", "used at most", "used/live",
             "copied jobs");
  for (NextYearRound const& round : rounds) {
    fmt::print("{:>12} {:>12} {:>14} {:>9.2f} {:>12}\n", round.short_jobs, round.live_bytes, round.used_bytes_max,
               static_cast<double>(round.used_bytes_max) / static_cast<double>(round.live_bytes), round.copied_jobs);
    bool const is_first = &round == rounds.data();  // Whole segments of what lives are copied before any garbage comes.
    is_bounded = is_bounded && (is_first || round.beyond_max <= 4 * std::uint64_t{options.segment_bytes});
  }
  return is_bounded && !rounds.empty();
}

}  // namespace workmill::sim
