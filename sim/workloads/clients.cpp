#include "sim/workloads/clients.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"

namespace workmill::sim {
namespace {

constexpr std::size_t kRemembered = 64;

template <class T>
void remember(std::vector<T>& ring, T value, Rng& chance, std::size_t most) {
  if (ring.size() < most) {
    ring.push_back(std::move(value));
  } else {
    ring[chance.below(most)] = std::move(value);
  }
}

}  // namespace

Action Clients::choose(Model const& model) {
  std::uint64_t left = below(weight_sum_);
  std::size_t action = 0;
  while (left >= options_.weights[action]) left -= options_.weights[action++];
  auto chosen = static_cast<Action>(action);
  bool const is_enqueue = chosen == Action::enqueue_one || chosen == Action::enqueue_bulk;
  if (is_enqueue && model.unfinished() > options_.backlog) chosen = chance(500) ? Action::lease : Action::report;
  return chosen;
}

Command Clients::next(Model const& model, Instant now, shard::Cookie cookie) {
  switch (choose(model)) {
    case Action::enqueue_one: return make_enqueue(now, 1);
    case Action::enqueue_bulk: return make_enqueue(now, 1 + below(options_.bulk_max));
    case Action::repeat_request: {
      if (sent_.empty()) return make_enqueue(now, 1);
      Sent const& sent = sent_[below(sent_.size())];
      Enqueue again{.specs = sent.specs, .idempotency = sent.idempotency};
      if (chance(100)) {
        again.idempotency->fingerprint ^= 1;
        again.specs = {make_spec(now)};
      }
      return again;
    }
    case Action::lease: return make_lease(cookie);
    case Action::report: {
      Worker& worker = workers_[below(workers_.size())];
      ReportBatch batch{.reports = make_reports(worker, 1 + below(8))};
      if (batch.reports.empty()) return make_lease(cookie);
      return batch;
    }
    case Action::report_stale: return ReportBatch{.reports = {make_stale_report()}};
    case Action::get_job: {
      GetJob get{.job = aim(model), .wait = {}};
      if (chance(options_.long_poll)) get.wait = Duration{1} + ms(5'000);
      return get;
    }
    case Action::get_log: return GetJobLog{aim(model)};
    case Action::list_jobs: {
      ListJobs list{.filter = make_filter(), .limit = static_cast<std::uint32_t>(1 + below(20)), .before = {}};
      if (chance(200)) list.filter.text = fmt::format("\"n\":{}", below(10));
      if (chance(300) && !numbers_.empty()) list.before = numbers_[below(numbers_.size())];
      return list;
    }
    case Action::cancel: return CancelJob{aim(model)};
    case Action::retry: return RetryJob{aim(model)};
    case Action::remove: return DeleteJob{aim(model)};
    case Action::patch: {
      PatchJob patch{.job = aim(model), .changes = {}, .new_spec = {}, .history = {}, .checkpoint = {}};
      JobChanges& changes = patch.changes;
      if (chance(400)) changes.priority = static_cast<std::uint8_t>(below(10));
      if (chance(300)) changes.run_at = now + ms(3'000) - Duration{500};
      if (chance(300)) changes.queue = queue_name();
      if (chance(200)) changes.tags = std::vector<std::string>{"patched"};
      if (chance(200)) changes.max_attempts = static_cast<std::uint32_t>(1 + below(5));
      return patch;
    }
    case Action::bulk: {
      BulkJobs bulk{.action = static_cast<BulkAction>(below(3)), .filter = make_filter(), .before = {}};
      if (bulk.action == BulkAction::remove && !bulk.filter.state) bulk.filter.state = JobState::dead;
      return bulk;
    }
    case Action::list_queues: return ListQueues{.limit = static_cast<std::uint32_t>(1 + below(5)), .after = {}};
    case Action::get_queue: return GetQueue{queue_name()};
    case Action::patch_queue: {
      PatchQueue patch{.name = queue_name(), .paused = {}, .max_depth = {}, .when_full = {}};
      if (chance(500)) patch.paused = chance(300);
      if (chance(400)) {
        patch.max_depth = std::optional<std::uint64_t>{};
        if (chance(500)) *patch.max_depth = options_.backlog / 4 + below(options_.backlog + 1);
      }
      if (chance(300)) patch.when_full = chance(500) ? WhenFull::drop_oldest : WhenFull::refuse;
      return patch;
    }
    case Action::purge: {
      PurgeQueue purge{.name = queue_name(), .state = {}, .before = {}};
      if (chance(800)) purge.state = static_cast<JobState>(below(kJobStates));
      return purge;
    }
    case Action::status: return GetStatus{};
  }
  return GetStatus{};
}

Bytes Clients::make_spec(Instant now) {
  JobSpecView spec;
  std::uint64_t const drawn_type = below(3);
  std::uint64_t const type_number = options_.type_run == 0 ? drawn_type : serial_ / options_.type_run % 3;
  std::string const type = "t" + std::to_string(type_number);
  std::string const queue = queue_name();
  std::string const id = "c" + std::to_string(below(60));
  std::string const key = "k" + std::to_string(below(12));
  std::string const group = "g" + std::to_string(below(std::max<std::uint32_t>(options_.groups, 1)));
  std::string const tag = "tag" + std::to_string(below(4));
  std::string payload = fmt::format("{{\"n\":{},\"pad\":\"", ++serial_);
  payload.append(below(options_.payload_bytes_max + 1), 'x').append("\"}");
  spec.type = type;
  spec.queue = queue;
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  if (chance(options_.priority)) spec.priority = static_cast<std::uint8_t>(below(10));
  if (chance(options_.delay)) {
    if (chance(500)) {
      spec.delay = ms(chance(100) ? 86'400'000 : 3'000);
    } else {
      spec.run_at = now + ms(3'000) - Duration{300};
      if (chance(50)) *spec.run_at += std::chrono::hours{24 * 365};
    }
  }
  if (chance(options_.expiry)) spec.expires_in = Duration{1} + ms(4'000);
  if (chance(options_.id)) spec.id = id;
  if (chance(options_.key)) {
    spec.unique_key = key;
    spec.unique_while = static_cast<UniqueWhile>(below(3));
    if (chance(300)) spec.unique_for = Duration{1} + ms(4'000);
  }
  if (options_.groups > 0 && chance(options_.group)) spec.group = group;
  if (chance(300)) spec.tags.push_back(tag);
  if (chance(options_.retries)) {
    spec.max_attempts = static_cast<std::uint32_t>(1 + below(4));
    Backoff backoff;
    backoff.first = ms(chance(200) ? 0 : 2'000);
    backoff.cap = backoff.first + ms(20'000);
    backoff.factor_permille = static_cast<std::uint32_t>(1'000 + below(3'000));
    backoff.jitter_permille = static_cast<std::uint32_t>(below(1'001));
    spec.backoff = backoff;
  }
  if (chance(700)) spec.lease = kLeaseMin + ms(2'000);
  if (chance(options_.keep)) spec.keep_result = chance(300) ? Duration{0} : ms(chance(500) ? 100 : 5'000);
  WM_ASSERT(check_spec(spec).has_value());
  numbers_.reserve(256);
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

Enqueue Clients::make_enqueue(Instant now, std::size_t jobs) {
  Enqueue enqueue;
  for (std::size_t i = 0; i < jobs; ++i) {
    // The same job twice in one bulk: a caller's list with a double entry.
    if (i > 0 && chance(50)) {
      enqueue.specs.push_back(enqueue.specs.back());
    } else {
      enqueue.specs.push_back(make_spec(now));
    }
  }
  if (chance(options_.idempotent)) {
    enqueue.idempotency = Idempotency{.key = "i" + std::to_string(++keys_), .fingerprint = chance_.next()};
    remember(sent_, Sent{enqueue.specs, *enqueue.idempotency}, chance_, kRemembered);
  }
  return enqueue;
}

Command Clients::make_lease(shard::Cookie cookie) {
  std::size_t place = below(workers_.size());
  for (std::size_t i = 0; i < workers_.size() && workers_[place].asks; ++i) place = (place + 1) % workers_.size();
  if (workers_[place].asks) return GetStatus{};
  Worker& worker = workers_[place];
  if (chance(options_.vanish)) {
    for (Held& held : worker.holds) remember_stale(std::move(held));
    worker.holds.clear();
  }
  Lease lease;
  lease.worker = "w" + std::to_string(cookie);
  lease.max = chance(500) ? 1 : static_cast<std::uint32_t>(1 + below(8));
  std::vector<std::uint32_t> order(options_.queues);
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::size_t const count = 1 + below(options_.queues);
  bool const is_weighted = chance(300);
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + below(order.size() - i)]);
    std::uint32_t const weight = is_weighted && chance(800) ? static_cast<std::uint32_t>(1 + below(5)) : 0;
    lease.queues.push_back({.name = "q" + std::to_string(order[i]), .weight = weight});
  }
  if (chance(options_.long_poll)) lease.wait = Duration{1} + ms(chance(500) ? 50 : 5'000);
  if (chance(300)) lease.lease = kLeaseMin + ms(3'000);
  if (chance(400)) lease.reports = make_reports(worker, 1 + below(5));
  worker.asks = cookie;
  worker.waits = lease.wait > Duration{0};
  asking_.emplace(cookie, place);
  return lease;
}

std::vector<Report> Clients::make_reports(Worker& worker, std::size_t most) {
  std::vector<Report> reports;
  while (reports.size() < most && !worker.holds.empty()) {
    std::size_t const place = below(worker.holds.size());
    Held held = worker.holds[place];
    Report report{.job = {.number = held.number, .text = {}}, .lease = held.token, .outcome = make_outcome()};
    if (!held.client_id.empty() && chance(300)) report.job = {.number = {}, .text = held.client_id};
    bool const goes_on = holds<Extend>(report.outcome) || holds<Progress>(report.outcome) ||
                         holds<LogLines>(report.outcome) || holds<Checkpoint>(report.outcome);
    if (!goes_on && chance(950)) {
      worker.holds.erase(worker.holds.begin() + static_cast<std::ptrdiff_t>(place));
      remember_stale(std::move(held));
    } else if (!goes_on) {
      ++figures_[Figure::report_twice];  // It will report again.
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

Report Clients::make_stale_report() {
  Report report{.job = {}, .lease = LeaseToken{below(5)}, .outcome = make_outcome()};
  if (stale_.empty()) {
    report.job.number = JobNumber{below(1'000)};
    return report;
  }
  Held const& held = stale_[below(stale_.size())];
  report.job.number = held.number;
  report.lease = held.token;
  if (chance(300)) {
    report.lease = stale_[below(stale_.size())].token;
    ++figures_[Figure::report_foreign_token];
  } else {
    ++figures_[Figure::report_late_refused];
  }
  if (chance(50)) report.lease = LeaseToken{};
  return report;
}

Outcome Clients::make_outcome() {
  std::uint64_t const kind = below(100);
  if (kind < 55) {
    if (chance(500)) return Completed{};
    return Completed{
        .result_kind = PayloadKind::json,
        .result = fmt::format("{{\"r\":\"{}\"}}", std::string(below(options_.payload_bytes_max + 1), 'r'))};
  }
  if (kind < 70) {
    Failed failed;
    failed.error_class = chance(700) ? ErrorClass::retryable : chance(500) ? ErrorClass::user : ErrorClass::fatal;
    failed.code = "broken";
    failed.message = fmt::format("for the {}. time", below(1'000));
    if (chance(300)) failed.retry_in = chance(400) ? Duration{0} : ms(2'000);
    return failed;
  }
  if (kind < 76) return Extend{.by = kLeaseMin + ms(4'000)};
  if (kind < 81) {
    return Progress{.percent = static_cast<std::uint8_t>(below(101)), .message = fmt::format("step {}", below(10))};
  }
  if (kind < 87) {
    LogLines log;
    for (std::uint64_t i = below(4); i > 0; --i) log.lines.push_back(fmt::format("line {}", below(100)));
    return log;
  }
  if (kind < 96) {
    return Checkpoint{fmt::format("{{\"at\":{},\"pad\":\"{}\"}}", below(1'000),
                                  std::string(below(options_.payload_bytes_max + 1), 'c'))};
  }
  return Released{};
}

JobRef Clients::aim(Model const& model) {
  if (chance(100)) return {.number = {}, .text = "c" + std::to_string(below(60))};
  if (numbers_.empty() || chance(20)) return {.number = JobNumber{below(1'000)}, .text = {}};
  JobNumber number = numbers_[below(numbers_.size())];
  auto const near = model.jobs().lower_bound(std::to_underlying(number));
  if (near != model.jobs().end() && chance(900)) number = near->second.number;
  return {.number = number, .text = {}};
}

JobFilter Clients::make_filter() {
  JobFilter filter;
  if (chance(500)) filter.state = static_cast<JobState>(below(kJobStates));
  if (chance(700)) filter.queue = queue_name();
  if (chance(300)) filter.type = "t" + std::to_string(below(3));
  if (chance(200)) filter.group = "g" + std::to_string(below(std::max<std::uint32_t>(options_.groups, 1)));
  if (chance(200)) filter.tag = "tag" + std::to_string(below(4));
  return filter;
}

void Clients::remember_stale(Held held) { remember(stale_, std::move(held), chance_, kRemembered); }

void Clients::answered(shard::Cookie cookie, Reply const& reply) {
  bool const is_lost = chance(options_.reply_lost);
  if (is_lost) ++figures_[Figure::reply_lost];
  if (auto const asked = asking_.find(cookie); asked != asking_.end()) {
    Worker& worker = workers_[asked->second];
    asking_.erase(asked);
    worker.asks.reset();
    worker.waits = false;
    auto const* leased = std::get_if<LeaseReply>(&reply);
    for (std::size_t i = 0; leased != nullptr && !is_lost && i < leased->jobs.size(); ++i) {
      worker.holds.push_back({.number = leased->jobs[i].number, .token = leased->jobs[i].token, .client_id = {}});
    }
  }
  if (auto const* enqueued = std::get_if<EnqueueReply>(&reply); enqueued != nullptr && !is_lost) {
    for (EnqueuedJob const& job : enqueued->jobs) remember(numbers_, job.number, chance_, 256);
  }
}

void Clients::refused(shard::Cookie cookie) {
  auto const asked = asking_.find(cookie);
  if (asked == asking_.end()) return;
  workers_[asked->second].asks.reset();
  workers_[asked->second].waits = false;
  asking_.erase(asked);
}

void Clients::server_died() {
  for (auto const& [cookie, place] : asking_) {
    workers_[place].asks.reset();
    workers_[place].waits = false;
  }
  asking_.clear();
}

std::optional<shard::Cookie> Clients::hang_up() {
  for (Worker& worker : workers_) {
    if (!worker.asks || !worker.waits) continue;
    shard::Cookie const cookie = *worker.asks;
    refused(cookie);
    return cookie;
  }
  return std::nullopt;
}

}  // namespace workmill::sim
