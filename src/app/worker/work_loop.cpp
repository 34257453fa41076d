#include "app/worker/work_loop.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/assert.h"
#include "base/json_writer.h"
#include "model/command.h"

namespace workmill::app {
namespace {

constexpr Duration kLeaseWait = std::chrono::seconds{20};
constexpr Duration kRequestTimeout = std::chrono::seconds{30};
constexpr Duration kLogEvery = std::chrono::seconds{1};
constexpr Duration kCheckpointEvery = std::chrono::seconds{1};
constexpr Duration kKillAfter = std::chrono::seconds{5};     // From SIGTERM to SIGKILL.
constexpr Duration kGiveUpAfter = std::chrono::seconds{15};  // From the second signal on.
constexpr Duration kBackoffFirst{50};
constexpr Duration kBackoffMax = std::chrono::seconds{2};
constexpr Duration kLookAfterEvery{20};  // Where the system does not tell of the end of a process.
constexpr Duration kReportProgressEvery{500};
constexpr Duration kSpawnPause = std::chrono::seconds{1};  // After the machine had no room for another process.
// Without --lease, how long a lease lasts is read off the server's clock by ours. Between these bounds a clock that is
// wrong costs a few reports more, and only one that lags by more than the lease costs the lease.
constexpr Duration kLeaseSeenMin = std::chrono::seconds{1};
constexpr Duration kLeaseSeenMax = std::chrono::minutes{1};

void append_reports(JsonWriter& json, std::vector<OutboxItem> const& items) {
  json.key("reports").begin_array();
  for (auto const& item : items) json.raw(item.report);
  json.end_array();
}

}  // namespace

WorkLoop::WorkLoop(WorkOptions options, ServerAddress address, Clock const& clock)
    : options_(std::move(options)),
      clock_(clock),
      server_url_(address.url),
      http_(std::move(address)),
      started_at_(moment()) {}

WorkLoop::~WorkLoop() = default;

WorkLoop::Moment WorkLoop::moment() const { return std::chrono::duration_cast<Moment>(clock_.monotonic()); }

WorkSummary WorkLoop::run() {
  sigset_t ours;
  sigemptyset(&ours);
  sigaddset(&ours, SIGTERM);
  sigaddset(&ours, SIGINT);
  WM_ASSERT(sigprocmask(SIG_BLOCK, &ours, nullptr) == 0);
  signals_.reset(signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
  WM_ASSERT(signals_.is_open());

  std::vector<pollfd> polls;
  for (auto now = moment(); !is_over(now); now = moment()) {
    start_requests(now);
    if (is_over(now)) break;
    polls.clear();
    polls.push_back({signals_.get(), POLLIN, 0});
    for (auto const& running : running_) running.child.add_polls(polls);
    auto finished = http_.wait(polls, time_to_next(now));
    on_signals();
    for (auto& running : running_) running.child.pump();
    end_ended_jobs();
    for (auto& [ticket, reply] : finished) {
      if (ticket == lease_ticket_) {
        on_lease_answer(std::move(reply));
      } else if (ticket == reports_ticket_) {
        on_reports_answer(std::move(reply));
      }
    }
    on_timers(moment());
    show_progress();
  }
  progress_.clear();
  summary_.unreported = outbox_.size() + sent_reports_.size() + lease_reports_.size();
  return summary_;
}

bool WorkLoop::is_over(Moment now) const {
  if (!is_stopping_ || !running_.empty()) return false;
  bool const all_said =
      outbox_.empty() && sent_reports_.empty() && lease_reports_.empty() && lease_ticket_ == HttpMulti::Ticket::none;
  return all_said || (give_up_at_ && now >= *give_up_at_);
}

// ---- Asking the server ----

// One request with reports is under way at any time: so they arrive in their order. A lease call that carries reports
// does not wait for jobs, because nobody would learn meanwhile whether they were accepted.
void WorkLoop::start_requests(Moment now) {
  if (now < next_try_) return;
  bool const is_done = options_.until_empty && seen_empty_;
  bool const is_idle = lease_ticket_ == HttpMulti::Ticket::none && reports_ticket_ == HttpMulti::Ticket::none;
  if (is_done && is_idle && running_.empty() && outbox_.empty()) {
    stop(std::nullopt);
    return;
  }
  auto const free_places = options_.concurrency - running_.size();
  if (lease_ticket_ == HttpMulti::Ticket::none && !is_stopping_ && !is_done && free_places > 0 && now >= next_lease_) {
    start_lease(free_places);
  }
  bool const reports_under_way = reports_ticket_ != HttpMulti::Ticket::none || !lease_reports_.empty();
  if (!reports_under_way && !outbox_.empty()) start_reports();
}

void WorkLoop::start_lease(std::size_t free_places) {
  if (reports_ticket_ == HttpMulti::Ticket::none) lease_reports_ = outbox_.take_batch();
  Duration const wait = lease_reports_.empty() && !options_.until_empty ? kLeaseWait : Duration{0};
  std::string body;
  JsonWriter json{body};
  json.begin_object().key("queues").begin_array();
  for (auto const& queue : options_.queues) json.value(queue);
  json.end_array()
      .member("max", std::min<std::size_t>(free_places, kJobsPerLeaseMax))
      .member("wait", format_duration(wait))
      .member("worker", options_.worker);
  if (options_.lease) json.member("lease", format_duration(*options_.lease));
  if (!lease_reports_.empty()) append_reports(json, lease_reports_);
  json.end_object();
  lease_ticket_ =
      http_.start({.method = "POST", .path = "/v1/leases", .body = std::move(body), .timeout = wait + kRequestTimeout});
}

void WorkLoop::start_reports() {
  sent_reports_ = outbox_.take_batch();
  std::string body;
  JsonWriter json{body};
  json.begin_object();
  append_reports(json, sent_reports_);
  json.end_object();
  reports_ticket_ =
      http_.start({.method = "POST", .path = "/v1/reports", .body = std::move(body), .timeout = kRequestTimeout});
}

Duration WorkLoop::time_to_next(Moment now) const {
  Moment next = now + kLeaseWait;
  auto const consider = [&next](Moment at) { next = std::min(next, at); };
  if (now < next_try_) consider(next_try_);
  if (now < next_lease_) consider(next_lease_);
  if (give_up_at_) consider(*give_up_at_);
  if (progress_.enabled()) consider(now + kReportProgressEvery);
  for (auto const& running : running_) {
    if (running.child.has_ended()) return Duration{0};  // While it was started: nothing will tell of it any more.
    if (!running.extend_waits && !running.is_lost) consider(running.extend_at);
    if (running.checkpoint && !running.checkpoint_waits) consider(running.checkpoint_at);
    if (!running.log_waits && running.child.errors().has_lines()) consider(running.log_at);
    if (running.kill_at) consider(*running.kill_at);
    if (running.child.needs_looking_after()) consider(now + kLookAfterEvery);
  }
  return std::max(next - now, Duration{0});
}

std::optional<JsonDocument> WorkLoop::read_answer(Result<HttpReply> reply, std::vector<OutboxItem>& sent) {
  auto const document = [&reply]() -> Result<JsonDocument> {
    if (!reply) return std::unexpected(reply.error());
    return read_reply(*reply);
  };
  auto answer = document();
  if (answer) {
    on_server_back();
    return std::move(*answer);
  }
  auto const& error = answer.error();
  auto items = std::exchange(sent, {});
  if (error.code == ErrorCode::payload_too_large && !items.empty()) {
    if (items.size() == 1) {
      on_report_refused(std::move(items.front()), error);
    } else {
      outbox_.shrink_below(items.size());
      outbox_.put_back(std::move(items), false);
    }
    return std::nullopt;
  }
  outbox_.put_back(std::move(items), may_have_happened(error.code));
  if (class_of(error.code) == ErrorClass::retryable) {
    on_server_away(error, reply ? reply->retry_after : std::nullopt);
  } else {
    // Not even the running ones can be reported to a server that does not understand us; but it may be the leasing
    // alone that it refuses, so they get the time of a drain.
    if (is_stopping_ && !give_up_at_) give_up_at_ = moment() + kGiveUpAfter;
    on_server_away(error, std::nullopt);
    stop(error);
  }
  return std::nullopt;
}

void WorkLoop::on_server_away(Error const& error, std::optional<Duration> retry_after) {
  if (!was_connected_ && error.code == ErrorCode::no_server) {
    stop(error);
    return;
  }
  auto const doubled = kBackoffFirst * (1 << std::min(failures_, 10));
  next_try_ = moment() + std::max(std::min(doubled, kBackoffMax), retry_after.value_or(Duration{0}));
  ++failures_;
  if (std::exchange(is_away_, true) || is_stopping_) return;
  say(fmt::format("{}: {}; trying again until it answers", server_url_, describe(error)));
}

void WorkLoop::on_server_back() {
  was_connected_ = true;
  failures_ = 0;
  if (std::exchange(is_away_, false)) say(fmt::format("{} answers again", server_url_));
}

// ---- Its answers ----

void WorkLoop::on_lease_answer(Result<HttpReply> reply) {
  lease_ticket_ = HttpMulti::Ticket::none;
  auto sent = std::exchange(lease_reports_, {});
  auto const answer = read_answer(std::move(reply), sent);
  if (!answer) return;
  if (!sent.empty()) on_report_results(answer->root(), std::move(sent));
  auto const* jobs = answer->root().find("jobs");
  if (jobs == nullptr) return;
  seen_empty_ = jobs->items.empty();
  for (auto const& item : jobs->items) {
    auto job = read_leased_job(item, options_.payload_as);
    if (job) {
      start_job(std::move(*job));
    } else {
      say(describe(job.error()));
    }
  }
}

void WorkLoop::on_reports_answer(Result<HttpReply> reply) {
  reports_ticket_ = HttpMulti::Ticket::none;
  auto sent = std::exchange(sent_reports_, {});
  auto const answer = read_answer(std::move(reply), sent);
  if (answer) on_report_results(answer->root(), std::move(sent));
}

void WorkLoop::on_report_results(JsonValue const& answer, std::vector<OutboxItem> sent) {
  auto const* results = answer.find("reports");
  if (results == nullptr || results->items.size() != sent.size()) {
    outbox_.put_back(std::move(sent), true);
    stop(Error{.code = ErrorCode::protocol_error, .message = "the answer does not fit the reports that were sent"});
    give_up_at_ = moment() + kGiveUpAfter;
    return;
  }
  std::vector<OutboxItem> again;
  for (std::size_t i = 0; i < sent.size(); ++i) {
    auto const& result = results->items[i];
    if (result.flag_at("ok")) {
      on_accepted(sent[i], result.flag_at("cancel_requested"));
      continue;
    }
    auto const* problem = result.find("error");
    auto const error = problem != nullptr ? error_of_problem(*problem)
                                          : Error{.code = ErrorCode::protocol_error, .message = "refused"};
    if (class_of(error.code) == ErrorClass::retryable) {
      again.push_back(std::move(sent[i]));
    } else {
      on_report_refused(std::move(sent[i]), error);
    }
  }
  if (again.empty()) return;
  next_try_ = moment() + kBackoffFirst;
  outbox_.put_back(std::move(again), false);
}

void WorkLoop::on_accepted(OutboxItem const& item, bool cancel_requested) {
  switch (item.kind) {
    case OutboxItem::Kind::completed: ++summary_.completed; return;
    case OutboxItem::Kind::failed: ++summary_.failed; return;
    case OutboxItem::Kind::released: ++summary_.released; return;
    case OutboxItem::Kind::log:
    case OutboxItem::Kind::extend:
    case OutboxItem::Kind::checkpoint: break;
  }
  auto* const running = find_running(item.job);
  if (running == nullptr) return;
  if (item.kind == OutboxItem::Kind::log) running->log_waits = false;
  if (item.kind == OutboxItem::Kind::extend) running->extend_waits = false;
  if (item.kind == OutboxItem::Kind::checkpoint) running->checkpoint_waits = false;
  if (cancel_requested && !std::exchange(running->is_cancelled, true)) ask_to_end(*running);
}

void WorkLoop::on_report_refused(OutboxItem item, Error const& error) {
  if (error.code == ErrorCode::lease_lost || error.code == ErrorCode::job_not_found) {
    if (item.is_final()) {
      // The first try may well have been accepted, and its answer lost. A job's own record tells which.
      ++summary_.lost;
      say(fmt::format("job {}: its lease was over {}", item.job.id,
                      item.sent_before ? "when its report was repeated" : "before its report: the result is dropped"));
      return;
    }
    auto* const running = find_running(item.job);
    if (running == nullptr || std::exchange(running->is_lost, true)) return;
    say(fmt::format("job {}: its lease is lost, so its command is ended", item.job.id));
    ask_to_end(*running);
    return;
  }
  say(fmt::format("job {}: report refused: {}", item.job.id, describe(error)));
  if (item.kind == OutboxItem::Kind::completed) {
    add_final(OutboxItem::Kind::failed, item.job,
              failed_report(item.job, "user", "result_refused",
                            fmt::format("the server refused the result: {}", describe(error))));
    return;
  }
  if (auto* const running = find_running(item.job)) {
    running->log_waits = false;
    running->extend_waits = false;
    running->checkpoint_waits = false;
  } else if (item.is_final()) {
    ++summary_.lost;
  }
}

// ---- Jobs ----

void WorkLoop::start_job(LeasedJob job) {
  LeaseName name{job.id, job.lease};
  if (is_stopping_) {
    add_final(OutboxItem::Kind::released, name, released_report(name));
    return;
  }
  ChildProcess::Spec spec;
  spec.command = options_.command;
  spec.environment = {{"WORKMILL_JOB_ID", job.id},
                      {"WORKMILL_ATTEMPT", std::to_string(job.attempt)},
                      {"WORKMILL_MAX_ATTEMPTS", std::to_string(job.max_attempts)},
                      {"WORKMILL_QUEUE", job.queue},
                      {"WORKMILL_TYPE", job.type},
                      {"WORKMILL_URL", server_url_}};
  if (!job.traceparent.empty()) {
    spec.environment.emplace_back("TRACEPARENT", job.traceparent);
    spec.environment.emplace_back("TRACESTATE", job.tracestate);  // Empty too: ours must not stay beside the job's.
  }
  auto checkpoint = make_checkpoint(job);
  if (!checkpoint) return add_final(OutboxItem::Kind::released, name, released_report(name));
  spec.environment.emplace_back("WORKMILL_CHECKPOINT", checkpoint->path());
  spec.input = std::move(job.input);
  spec.output_bytes_max = kOutputBytesMax;
  auto child = ChildProcess::start(std::move(spec));
  if (!child) {
    add_final(OutboxItem::Kind::released, name, released_report(name));
    if (child.error().code == ErrorCode::not_found) {
      stop(child.error());
    } else {
      next_lease_ = moment() + kSpawnPause;
      say(describe(child.error()));
    }
    return;
  }
  auto const seen = std::clamp(job.lease_expires_at - clock_.now(), kLeaseSeenMin, kLeaseSeenMax);
  auto const now = moment();
  auto& running = running_.emplace_back(std::move(name), std::move(*child));
  running.lease = options_.lease.value_or(seen);
  running.extend_at = now + running.lease / 2;
  running.log_at = now + kLogEvery;
  running.checkpoint.emplace(*std::move(checkpoint));
  running.checkpoint_at = now + kCheckpointEvery;
  running.child.pump();  // Small payloads are written, and the pipe closed, before anybody has to poll for it.
}

// Nothing: the machine has no room for it, and the job is better off elsewhere.
std::optional<CheckpointFile> WorkLoop::make_checkpoint(LeasedJob const& job) {
  auto const make = [&]() -> Result<CheckpointFile> {
    if (!checkpoints_) {
      WM_TRY(auto folder, CheckpointFolder::make());
      checkpoints_.emplace(std::move(folder));
    }
    return CheckpointFile::make(*checkpoints_, std::to_string(++checkpoints_made_), job.checkpoint);
  };
  auto made = make();
  if (made) return std::move(*made);
  next_lease_ = moment() + kSpawnPause;
  say(describe(made.error()));
  return std::nullopt;
}

void WorkLoop::take_checkpoint(Running& running) {
  auto const data = running.checkpoint ? running.checkpoint->take_new() : std::nullopt;
  if (!data) return;
  outbox_.add(
      {.job = running.job, .kind = OutboxItem::Kind::checkpoint, .report = checkpoint_report(running.job, *data)});
  running.checkpoint_waits = true;
}

void WorkLoop::end_ended_jobs() {
  for (auto running = running_.begin(); running != running_.end();) {
    if (running->child.has_ended()) {
      end_job(*running);
      running = running_.erase(running);
      seen_empty_ = false;
    } else {
      ++running;
    }
  }
}

void WorkLoop::end_job(Running& running) {
  auto& child = running.child;
  auto const last_line = child.errors().last_line();
  if (running.is_lost) {
    ++summary_.lost;
    return;
  }
  if (child.errors().has_lines()) {
    outbox_.add(
        {.job = running.job, .kind = OutboxItem::Kind::log, .report = log_report(running.job, child.errors().take())});
  }
  auto outcome = outcome_of(running.job, child.end(), child.output(), child.output_is_cut(), last_line);
  if (!outcome.completed) take_checkpoint(running);  // Else nobody would go on from it.
  if (running.is_released && !outcome.completed) {
    add_final(OutboxItem::Kind::released, running.job, released_report(running.job));
    return;
  }
  if (running.is_cancelled && !outcome.completed) {
    outcome.why = "cancelled: the command was ended";
    outcome.report = failed_report(running.job, "user", "cancelled", outcome.why);
  }
  if (options_.verbose) {
    say(fmt::format("job {}: {}", running.job.id, outcome.completed ? "completed" : outcome.why));
  }
  add_final(outcome.completed ? OutboxItem::Kind::completed : OutboxItem::Kind::failed, running.job,
            std::move(outcome.report));
}

void WorkLoop::add_final(OutboxItem::Kind kind, LeaseName job, std::string report) {
  outbox_.add({.job = std::move(job), .kind = kind, .report = std::move(report)});
}

void WorkLoop::on_timers(Moment now) {
  for (auto& running : running_) {
    if (running.is_lost || running.is_released) continue;
    if (now >= running.extend_at && !running.extend_waits) {
      outbox_.add(
          {.job = running.job, .kind = OutboxItem::Kind::extend, .report = extend_report(running.job, running.lease)});
      running.extend_waits = true;
      running.extend_at = now + running.lease / 2;
    }
    if (now >= running.log_at && !running.log_waits && running.child.errors().has_lines()) {
      outbox_.add({.job = running.job,
                   .kind = OutboxItem::Kind::log,
                   .report = log_report(running.job, running.child.errors().take())});
      running.log_waits = true;
      running.log_at = now + kLogEvery;
    }
    if (now >= running.checkpoint_at && !running.checkpoint_waits) {
      take_checkpoint(running);
      running.checkpoint_at = now + kCheckpointEvery;
    }
  }
  for (auto& running : running_) {
    if (running.kill_at && now >= *running.kill_at) {
      running.child.send_signal(SIGKILL);
      running.kill_at.reset();
    }
  }
}

void WorkLoop::ask_to_end(Running& running) {
  running.child.send_signal(SIGTERM);
  running.kill_at = moment() + kKillAfter;
}

WorkLoop::Running* WorkLoop::find_running(LeaseName const& job) {
  auto const found = std::find_if(running_.begin(), running_.end(), [&job](Running const& running) {
    return running.job.lease == job.lease && running.job.id == job.id;
  });
  return found == running_.end() ? nullptr : &*found;
}

// ---- The end ----

void WorkLoop::on_signals() {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    ++signals_seen_;
    if (signals_seen_ == 1) {
      if (!running_.empty()) {
        say(fmt::format("stopping after the {} that run; a second signal gives them back", running_.size()));
      }
      stop(std::nullopt);
    } else if (signals_seen_ == 2) {
      stop(std::nullopt);
      say(fmt::format("ending {} and giving the jobs back", counted(running_.size(), "command")));
      give_up_at_ = moment() + kGiveUpAfter;
      for (auto& running : running_) {
        running.is_released = true;
        ask_to_end(running);
      }
    } else {
      give_up_at_ = moment();
      for (auto& running : running_) running.child.send_signal(SIGKILL);
    }
  }
}

void WorkLoop::stop(std::optional<Error> error) {
  if (error && !summary_.error) summary_.error = std::move(error);
  is_stopping_ = true;
  // A call that waits for jobs would bring some that nobody wants. One that carries reports is answered at once.
  if (lease_ticket_ != HttpMulti::Ticket::none && lease_reports_.empty()) {
    http_.abort(lease_ticket_);
    lease_ticket_ = HttpMulti::Ticket::none;
  }
}

void WorkLoop::say(std::string const& line) {
  progress_.clear();
  fmt::print(stderr, "workmill work: {}\n", one_line(line));
}

void WorkLoop::show_progress() {
  auto const now = clock_.now();
  if (!progress_.is_due(now)) return;
  auto const ended = summary_.completed + summary_.failed;
  auto line = progress_line(fmt::format("{} running", running_.size()), ended, std::nullopt, moment() - started_at_, 0);
  if (summary_.failed > 0) line.append(fmt::format("  {} failed", with_commas(summary_.failed)));
  if (is_away_) line.append("  (no server)");
  progress_.show(cut_to(line, std::max<std::size_t>(terminal_width(stderr), 2) - 1), now);
}

}  // namespace workmill::app
