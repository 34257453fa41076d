#include "app/health/diagnosis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "app/terminal.h"

namespace workmill::app::health {
namespace {

std::string percent(double share) { return fmt::format("{:.0f} %", share * 100); }
double per_second(std::uint64_t before, std::uint64_t after, double seconds) {
  return after > before ? static_cast<double>(after - before) / seconds : 0;
}
std::string rate(double of) { return of < 10 ? fmt::format("{:.1f}/s", of) : fmt::format("{:.0f}/s", of); }
std::string mebibytes(std::uint64_t bytes) { return with_commas(bytes >> 20) + " MiB"; }

double share(double before, double after, double seconds) { return std::clamp((after - before) / seconds, 0.0, 1.0); }

// How one queue moved between the snapshots.
struct Movement {
  QueueState const* queue = nullptr;
  std::uint64_t ready_before = 0;
  std::uint64_t unfinished_before = 0;
  double enqueued = 0, taken = 0, ended = 0;  // A second.
  std::uint64_t failed = 0, completed = 0;    // Attempts, in all of the period.
  double waits_seconds = 0;                   // The first in line.
};

// Where the machine has other work, a thread that could use a core has none for a part of the time: what it wants
// counts.
double wanted(Thread const& thread) { return std::min(thread.busy + thread.waiting, 1.0); }

std::string no_core(Thread const& thread) {
  if (thread.waiting < kWaiting) return {};
  return fmt::format("; {} of the time it waits for a core, which others have", percent(thread.waiting));
}

// All that the rules ask for, worked out once.
class Period {
 public:
  Period(Snapshot const& before, Snapshot const& after, double seconds)
      : before_(before), after_(after), seconds_(seconds) {
    for (QueueState const& queue : after.queues) queues_.push_back(movement(queue));
    for (Movement const& move : queues_) jobs_ += move.enqueued + move.ended;
  }

  Snapshot const& before() const { return before_; }
  Snapshot const& now() const { return after_; }
  double seconds() const { return seconds_; }
  std::vector<Movement> const& queues() const { return queues_; }
  double jobs() const { return jobs_; }  // Taken in and ended, a second.

  double flush_share() const { return share(before_.flush_seconds, after_.flush_seconds, seconds_); }
  double shard_share() const {
    return share(before_.decide_seconds + before_.read_seconds, after_.decide_seconds + after_.read_seconds, seconds_);
  }
  double flush_ms() const {
    std::uint64_t const count = after_.flushes - std::min(before_.flushes, after_.flushes);
    return count == 0 ? after_.flush_ms_typical
                      : (after_.flush_seconds - before_.flush_seconds) * 1e3 / static_cast<double>(count);
  }
  std::optional<double> connections() const {
    if (!before_.http || !after_.http) return std::nullopt;
    return per_second(before_.http->connections, after_.http->connections, seconds_);
  }
  double requests() const {
    return before_.http && after_.http ? per_second(before_.http->requests, after_.http->requests, seconds_) : 0;
  }
  double refused() const {
    return before_.http && after_.http ? per_second(before_.http->refused, after_.http->refused, seconds_) : 0;
  }
  // The busiest of the kind. The first thread serves connections too.
  Thread const* shard_thread() const { return busiest("wm-shard", "wm-shard"); }
  Thread const* io_thread() const { return busiest("wm-io", "workmill"); }

 private:
  Thread const* busiest(std::string_view prefix, std::string_view or_name) const {
    Thread const* found = nullptr;
    for (Thread const& thread : after_.threads) {
      bool const fits = thread.name.starts_with(prefix) || thread.name == or_name;
      if (fits && (found == nullptr || wanted(thread) > wanted(*found))) found = &thread;
    }
    return found;
  }
  Movement movement(QueueState const& queue) const {
    Movement move{.queue = &queue};
    auto const old = std::ranges::find(before_.queues, queue.name, &QueueState::name);
    QueueState const nothing;  // A queue that is new has begun at zero.
    QueueState const& was = old == before_.queues.end() ? nothing : *old;
    move.ready_before = was.ready;
    move.unfinished_before = was.unfinished();
    move.enqueued = per_second(was.enqueued, queue.enqueued, seconds_);
    move.taken = per_second(was.taken, queue.taken, seconds_);
    move.failed = queue.failed - std::min(was.failed, queue.failed);
    move.completed = queue.completed - std::min(was.completed, queue.completed);
    move.ended = per_second(was.completed + was.failed, queue.completed + queue.failed, seconds_);
    if (queue.oldest_ready_at && after_.now > *queue.oldest_ready_at) {
      move.waits_seconds = std::chrono::duration<double>(after_.now - *queue.oldest_ready_at).count();
    }
    return move;
  }

  Snapshot const& before_;
  Snapshot const& after_;
  double seconds_;
  std::vector<Movement> queues_;
  double jobs_ = 0;
};

using Findings = std::vector<Finding>;

void find_damage(Period const& period, Findings& out) {
  if (period.now().damaged == 0) return;
  out.push_back({.code = "damage",
                 .what = fmt::format("The log is damaged on the disk, in {}.", counted(period.now().damaged, "place")),
                 .why = "What was acknowledged is still in memory, but a restart would be refused.",
                 .advice =
                     "Do not restart. Let workers finish, take out what you cannot lose (workmill backup, "
                     "workmill jobs --json), then stop the server and run `workmill doctor DIR`. Suspect the disk."});
}

void find_low_disk(Period const& period, Findings& out) {
  Snapshot const& now = period.now();
  bool const refusing = now.readiness == "disk_full";
  bool const is_known = now.disk_free_bytes > 0 || refusing;
  if (!refusing && (!is_known || now.disk_free_bytes >= kDiskFreeBytes)) return;
  out.push_back(
      {.code = "disk_low",
       .what = fmt::format("The disk is {}: {} free, the log takes {}.", refusing ? "full" : "nearly full",
                           mebibytes(now.disk_free_bytes), mebibytes(now.log_bytes)),
       .why = refusing ? "That is less than disk_reserve, or than the log's next file takes: new jobs are refused "
                         "(disk_full); reports, leases and deletions still pass."
                       : "Below the setting disk_reserve new jobs will be refused.",
       .advice = "Make room on the disk, or let workers finish jobs: space comes back a segment at a time. Finished "
                 "jobs take room too: keep_result and finished_kept. disk_reserve can be lowered with a reload."});
}

enum class Ends : std::uint8_t { already, soon };

void find_end_of_certificate(Period const& period, Ends when, Findings& out) {
  Snapshot const& now = period.now();
  if (!now.certificate_end || *now.certificate_end - now.now >= kCertificateEndsSoon) return;
  bool const is_over = *now.certificate_end <= now.now;
  if (is_over != (when == Ends::already)) return;
  out.push_back({.code = "certificate",
                 .what = fmt::format("The TLS certificate {} at {}.", is_over ? "has ended" : "ends",
                                     format_rfc3339(*now.certificate_end)),
                 .why = is_over ? "Clients that look at it refuse to talk to the server."
                                : "From then on clients that look at it refuse to talk to the server.",
                 .advice = "Put the new one in its place (tls_certificate, tls_key) and reload: SIGHUP."});
}

// By itself it limits nothing; but whoever mended a setting tonight believes that it holds.
void find_refused_reload(Period const& period, Findings& out) {
  if (!period.now().reload_refused) return;
  out.push_back({.code = "reload_refused",
                 .what = "The last reload was refused: what runs is not what the files say.",
                 .why = "Something in the configuration, the tokens file or the certificate is not as it should be. A "
                        "restart would fail on it.",
                 .advice = "The line `the configuration is not reloaded` in the log says what. Mend it and reload "
                           "again: SIGHUP."});
}

bool is_full(Movement const& move) {
  if (!move.queue->max_depth) return false;
  std::uint64_t const most = std::max(move.queue->unfinished(), move.unfinished_before);
  return static_cast<double>(most) >= static_cast<double>(*move.queue->max_depth) * kFull;
}

// Queues at their max_depth. True where there is one: then that is why jobs are refused, and not the load.
bool find_full_queues(Period const& period, Findings& out) {
  std::vector<Movement const*> full;
  for (Movement const& move : period.queues()) {
    if (is_full(move)) full.push_back(&move);
  }
  if (full.empty()) return false;
  QueueState const& worst =
      *(*std::ranges::max_element(full, {}, [](Movement const* move) { return move->queue->unfinished(); }))->queue;
  std::string what = fmt::format("Queue {} is {}: {} of {} jobs (max_depth)", worst.name,
                                 worst.unfinished() < *worst.max_depth ? "nearly full" : "full",
                                 with_commas(worst.unfinished()), with_commas(*worst.max_depth));
  if (full.size() > 1) what += fmt::format(", and so {}", counted(full.size() - 1, "other queue"));
  if (double const refused = period.refused(); refused > 0) {
    what += fmt::format("; {} of all requests are refused, {} of {}", percent(refused / period.requests()),
                        rate(refused), rate(period.requests()));
  }
  out.push_back({.code = "queue_full",
                 .what = std::move(what) + ".",
                 .why = "Jobs for it are refused (queue_full) until workers have finished some of those that it has.",
                 .advice = fmt::format("More or faster workers for it, or a higher max_depth (PATCH /v1/queues/{}). "
                                       "Clients should wait as Retry-After says.",
                                       worst.name)});
  return true;
}

void find_full_memory(Period const& period, Findings& out) {
  auto const& bounds = period.now().bounds;
  auto const bound = std::ranges::find(bounds, "jobs_memory", &Bound::name);
  if (bound == bounds.end() || bound->fullness() < kFull) return;
  bool const refusing = bound->used >= bound->limit;
  out.push_back({.code = "jobs_memory",
                 .what = fmt::format("Jobs take {} of the {} of memory that they may.", mebibytes(bound->used),
                                     mebibytes(bound->limit)),
                 .why = refusing ? "New jobs are refused (overloaded); reports, leases and deletions still pass."
                                 : "At the setting jobs_memory_max new jobs will be refused.",
                 .advice =
                     "Let workers finish jobs, or delete and purge some. Finished ones count too: keep_result and "
                     "finished_kept. If the machine has memory to spare, raise jobs_memory_max: a reload is enough."});
}

// Bounds that have a rule of their own, theirs or of what is behind them and fills them up; or that are meant to be
// full, or are of a single request or connection and limit nobody else.
bool is_symptom(std::string_view name) {
  static constexpr std::array<std::string_view, 12> kSymptoms{
      "admission",   "concurrency", "in_flight",    "inbox",      "unflushed", "idempotency",
      "jobs_memory", "cache",       "header_bytes", "body_bytes", "pipelined", "output_bytes"};
  return std::ranges::any_of(kSymptoms,
                             [&](std::string_view word) { return name.find(word) != std::string_view::npos; });
}

std::string_view advice_for(std::string_view bound) {
  if (bound == "log_lines") {
    return "The oldest lines of the server's log give way. Look why whatever reads its standard error is slow, or ask "
           "for fewer lines (log_level).";
  }
  if (bound.starts_with("batch")) {
    return "Look for batches that nobody has closed (workmill batch list --state "
           "open) and for those that wait for dead jobs (--state closed): close, retry or delete them. If they are "
           "meant to be there, raise batches_max or batches_memory_max.";
  }
  return "If this many are meant to be there, raise the setting of that name (docs/reference/configuration.md; most "
         "change with a reload). Else find the client that takes them.";
}

void find_full_bounds(Period const& period, Findings& out) {
  std::vector<Bound> full;
  for (Bound const& bound : period.now().bounds) {
    if (bound.fullness() >= kFull && !is_symptom(bound.name)) full.push_back(bound);
  }
  std::ranges::sort(full, [](Bound const& a, Bound const& b) {
    return a.fullness() != b.fullness() ? a.fullness() > b.fullness() : a.name < b.name;
  });
  for (Bound const& bound : full) {
    out.push_back({.code = "full_bound",
                   .what = fmt::format("The bound {} is {} full: {} of {}.", bound.name, percent(bound.fullness()),
                                       with_commas(bound.used), with_commas(bound.limit)),
                   .why = "What goes over it is refused or has to wait.",
                   .advice = std::string{advice_for(bound.name)}});
  }
}

void find_slow_flush(Period const& period, Findings& out) {
  double const flushing = period.flush_share();
  if (flushing < kFlushShare) return;
  out.push_back({.code = "disk_flush",
                 .what = fmt::format("The disk limits: {} of the time goes into flushing, {:.1f} ms each.",
                                     percent(flushing), period.flush_ms()),
                 .why = "Nothing is acknowledged before it is on disk, and everything that came meanwhile shares the "
                        "next flush.",
                 .advice =
                     "More jobs in one request or more requests at once share a flush and cost no more. Else a disk "
                     "that flushes faster; or durability = \"interval\", if a power cut may take its last 50 ms."});
}

void find_no_keep_alive(Period const& period, Findings& out) {
  auto const connections = period.connections();
  double const requests = period.requests();
  if (!connections || requests < kRequestsPerSecond || *connections < requests * kConnectionsEach) return;
  out.push_back({.code = "no_keep_alive",
                 .what = fmt::format("Clients open a connection for {}: {} new connections, {} requests.",
                                     *connections > requests * 0.9 ? "each request" : "every second request",
                                     rate(*connections), rate(requests)),
                 .why = "Opening and closing costs more than the request does, on both sides.",
                 .advice =
                     "Let clients keep their connections (HTTP keep-alive, one session for many calls), or look at "
                     "the proxy between: it needs keep-alive towards the server as well."});
}

struct Busy {
  double busy = 0;
  Finding finding;
};

// With one I/O thread that thread turns the shard too. Then it is a question of what it spends its time on.
void find_busy_threads(Period const& period, Findings& out) {
  std::vector<Busy> busy;
  Thread const* const shard = period.shard_thread();
  Thread const* const io = period.io_thread();
  bool const is_shared = shard == nullptr && io != nullptr;
  double const deciding = period.shard_share();
  // Where the machine has other work, a thread decides all the time and still has no core for itself.
  double const shard_busy = shard != nullptr                        ? std::max(wanted(*shard), deciding)
                            : is_shared && deciding >= io->busy / 2 ? wanted(*io)
                                                                    : 0;
  double const io_busy = io != nullptr && !(is_shared && deciding >= io->busy / 2) ? wanted(*io) : 0;
  if (shard_busy >= kBusy) {
    busy.push_back(
        {shard_busy,
         {.code = "shard_cpu",
          .what = fmt::format("The shard's thread limits: {} busy, {} of the time deciding commands and reading "
                              "jobs{}.",
                              percent(shard_busy), percent(deciding), no_core(shard != nullptr ? *shard : *io)),
          .why = "One thread owns all queues. Searching lists (?q=, ?tag=) and filters over many jobs weigh most.",
          .advice =
              std::string{
                  "Batch enqueues, leases and reports; ask for lists less often and by state, queue or type. "} +
              (is_shared ? "With more cores, io_threads = 2 takes the connections off this thread."
                         : "A faster core is what helps besides.")}});
  }
  if (io_busy >= kBusy) {
    busy.push_back({io_busy,
                    {.code = "io_cpu",
                     .what = fmt::format("The CPU of the I/O threads limits: the busiest takes {} of a core, at {} "
                                         "requests{}.",
                                         percent(io->busy), rate(period.requests()), no_core(*io)),
                     .why = "It reads, parses and answers requests; most of that is the system's part of each call.",
                     .advice = "With cores to spare raise io_threads. Else fewer, larger requests: batches, long polls "
                               "instead of asking again and again."}});
  }
  if (busy.size() == 2 && busy[1].busy > busy[0].busy) std::swap(busy[0], busy[1]);
  for (Busy& it : busy) out.push_back(std::move(it.finding));
}

bool keeps_up(Movement const& move) { return move.queue->ready < 10 || move.ended >= move.enqueued * 0.9; }

bool falls_behind(Movement const& move) {
  return !move.queue->paused && move.waits_seconds >= kWaitSeconds && move.enqueued > move.ended &&
         move.queue->ready > move.ready_before;
}

// One queue has nearly all the traffic and falls behind, while the others are served.
Movement const* find_hot_queue(Period const& period, Findings& out) {
  Movement const* hot = nullptr;
  bool others_move = false;
  for (Movement const& move : period.queues()) {
    if (move.enqueued + move.ended >= period.jobs() * kHotShare && period.jobs() > 0) hot = &move;
  }
  if (hot == nullptr || !falls_behind(*hot) || hot->taken == 0) return nullptr;
  for (Movement const& move : period.queues()) {
    if (&move != hot && move.enqueued + move.ended > 0 && keeps_up(move)) others_move = true;
  }
  if (!others_move) return nullptr;
  out.push_back(
      {.code = "hot_queue",
       .what = fmt::format("One hot queue: {} has {} of all jobs ({} in, {} done) and falls behind: {} ready, the "
                           "first waits {:.0f} s.",
                           hot->queue->name, percent((hot->enqueued + hot->ended) / period.jobs()), rate(hot->enqueued),
                           rate(hot->ended), with_commas(hot->queue->ready), hot->waits_seconds),
       .why = "The other queues are served as they fill; this one gets more than its workers do.",
       .advice = "Give it workers of its own; split it by kind or tenant (`group` keeps one tenant from holding up the "
                 "others); or bound it with max_depth."});
  return hot;
}

void find_slow_consumers(Period const& period, Movement const* hot, Findings& out) {
  std::vector<Movement const*> behind;
  for (Movement const& move : period.queues()) {
    if (&move != hot && falls_behind(move)) behind.push_back(&move);
  }
  std::ranges::sort(behind, std::ranges::greater{}, &Movement::waits_seconds);
  if (behind.empty()) return;
  Movement const& worst = *behind.front();
  std::string what = fmt::format(
      "Workers of {} are too slow or too few: {} in, {} done, {} ready, {} leased, the first "
      "waits {:.0f} s.",
      worst.queue->name, rate(worst.enqueued), rate(worst.ended), with_commas(worst.queue->ready),
      with_commas(worst.queue->leased), worst.waits_seconds);
  if (behind.size() > 1) what += fmt::format(" {} too.", counted(behind.size() - 1, "other queue"));
  out.push_back(
      {.code = "slow_consumers",
       .what = std::move(what),
       .why = worst.taken == 0 ? "Nobody takes jobs from it." : "The server hands out jobs as fast as they ask.",
       .advice = worst.taken == 0 ? "Start workers for it, or look why they cannot connect."
                                  : "More workers, more concurrency in each, or faster handlers; leases with a "
                                    "larger `max` where jobs are short."});
}

// The server does its part; but whoever looks why nothing gets done need not look at the server any longer.
void find_failing_jobs(Period const& period, Findings& out) {
  Movement const* worst = nullptr;
  for (Movement const& move : period.queues()) {
    double const ended = static_cast<double>(move.failed + move.completed);
    if (move.failed < kFailingAttempts || static_cast<double>(move.failed) < ended * kFailingShare) continue;
    if (worst == nullptr || move.failed > worst->failed) worst = &move;
  }
  if (worst == nullptr) return;
  QueueState const& queue = *worst->queue;
  out.push_back(
      {.code = "failing_jobs",
       .what = fmt::format("Workers of {} fail: {} of {} that ended; {} dead.", queue.name, with_commas(worst->failed),
                           counted(worst->failed + worst->completed, "attempt"), counted(queue.dead, "job")),
       .why =
           "Their reports say so, or their leases ran out. Such jobs come back after a pause, and are dead once their "
           "attempts are used up.",
       .advice = fmt::format("`workmill jobs --queue {0} --all` shows the last errors. `workmill pause {0}` keeps the "
                             "rest from failing too; afterwards `workmill retry --queue {0} --state dead`.",
                             queue.name)});
}

// Jobs that wait although nobody adds any: a queue without workers, or one that somebody has paused.
void find_standing_queues(Period const& period, Findings& out) {
  Movement const* paused = nullptr;
  Movement const* forgotten = nullptr;
  for (Movement const& move : period.queues()) {
    if (move.queue->ready == 0) continue;
    auto const older = [&](Movement const* than) {
      return than == nullptr || move.waits_seconds > than->waits_seconds;
    };
    if (move.queue->paused && older(paused)) paused = &move;
    bool const nobody = !move.queue->paused && move.taken == 0 && move.queue->leased == 0;
    if (nobody && move.waits_seconds >= kForgottenSeconds && !falls_behind(move) && older(forgotten)) forgotten = &move;
  }
  if (paused != nullptr) {
    out.push_back({.code = "paused_queue",
                   .what = fmt::format("Queue {} is paused, with {} ready.", paused->queue->name,
                                       counted(paused->queue->ready, "job")),
                   .why = "Nothing of it is given to workers.",
                   .advice = fmt::format("workmill resume {}", paused->queue->name)});
  }
  if (forgotten != nullptr) {
    out.push_back(
        {.code = "no_workers",
         .what = fmt::format("Nobody takes jobs from {}: {} ready, the first for {:.0f} s.", forgotten->queue->name,
                             with_commas(forgotten->queue->ready), forgotten->waits_seconds),
         .why = "Its jobs wait until a worker asks for them.",
         .advice = "Start workers for it, or look whether they ask for another name."});
  }
}

// Nothing is wrong with them; but whoever looks why nothing runs sees ready jobs and workers that wait.
void find_gated_jobs(Period const& period, Findings& out) {
  std::uint64_t const gated = period.now().gated;
  if (gated == 0) return;
  out.push_back({.code = "gated_jobs",
                 .what = fmt::format("{} of {} wait for a feature flag that is off.", with_commas(gated),
                                     counted(period.now().ready, "ready job")),
                 .why = "The flag gates their type: they are not leased until it lets them go, and none is lost.",
                 .advice =
                     "`workmill flags` shows which flags gate which types. Where that is as it should be, there is "
                     "nothing to do."});
}

void find_refusals(Period const& period, Findings& out) {
  double const refused = period.refused();
  if (refused <= 0 || refused < period.requests() * kRefusedShare) return;
  out.push_back({.code = "refusing",
                 .what = fmt::format("{} of requests are refused: {} of {}.", percent(refused / period.requests()),
                                     rate(refused), rate(period.requests())),
                 .why = "More is asked than the server lets in, so that what it lets in stays quick.",
                 .advice = "Clients should wait as Retry-After says. What fills the server is named above, if it is "
                           "known."});
}

}  // namespace

std::vector<Finding> diagnose(Snapshot const& before, Snapshot const& after, double seconds) {
  Period const period{before, after, seconds};
  Findings found;  // In this order.
  find_damage(period, found);
  find_low_disk(period, found);
  find_end_of_certificate(period, Ends::already, found);
  find_full_memory(period, found);
  bool const queue_is_full = find_full_queues(period, found);
  find_full_bounds(period, found);
  find_slow_flush(period, found);
  find_no_keep_alive(period, found);
  find_busy_threads(period, found);
  find_failing_jobs(period, found);
  Movement const* const hot = find_hot_queue(period, found);
  find_slow_consumers(period, hot, found);
  find_gated_jobs(period, found);
  find_standing_queues(period, found);
  if (!queue_is_full) find_refusals(period, found);  // Its finding has the share of them.
  find_end_of_certificate(period, Ends::soon, found);
  find_refused_reload(period, found);
  return found;
}

std::string figures(Snapshot const& before, Snapshot const& after, double seconds) {
  Period const period{before, after, seconds};
  std::string text = fmt::format("{} of the time flushing ({:.2f} ms each), {} deciding", percent(period.flush_share()),
                                 period.flush_ms(), percent(period.shard_share()));
  if (Thread const* const io = period.io_thread()) text += fmt::format(", I/O threads {} busy", percent(io->busy));
  if (after.http) text += fmt::format(", {} requests", rate(period.requests()));
  text += fmt::format(", {} ready.", counted(after.ready, "job"));
  return text;
}

}  // namespace workmill::app::health
