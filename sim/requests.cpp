#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <utility>

#include "base/variant.h"
#include "sim/simulator.h"

// What the simulated clients do to the front end: ask, hang up, and give back what came too late.
namespace workmill::sim {
namespace {

constexpr std::size_t kUnansweredMax = 100;
constexpr std::size_t kOpenMax = 200;
constexpr std::size_t kIdsRemembered = 8;

}  // namespace

void Simulator::send_requests() {
  // Nobody asks for ever more while nothing is answered.
  bool const is_stuck = sent_.size() > kUnansweredMax || open_.size() > kOpenMax;
  std::uint64_t const count = is_stuck ? 0 : chance_.below(setup_.requests_per_turn_max + 1);
  for (std::uint64_t i = 0; i < count; ++i) {
    shard::Cookie const cookie = next_cookie_++;
    send(clients_.next(model_, std::max(now_, clock_.now()), cookie), cookie);
  }
  if (flipped_ && !damaged_.empty() && !is_stuck && chance_.chance(200)) {
    JobRef job{.number = JobNumber{damaged_[chance_.below(damaged_.size())]}, .text = {}};
    Command look = GetJob{.job = job, .wait = {}};
    if (chance_.chance(500)) look = GetJobLog{job};
    send(std::move(look), next_cookie_++);
  }
  if (flipped_ && !damaged_keys_.empty() && !is_stuck && chance_.chance(200)) look_at_damaged();
  if (!stream_workers_.empty() && !is_stuck) send_on_streams();
  if (!cache_callers_.empty() && !is_stuck) use_cache();
  if (!flag_callers_.empty() && !is_stuck) use_flags();
  if (!batch_callers_.empty() && !is_stuck) use_batches();
  if (chance_.chance(15)) hang_up();
  if (!set_aside_.empty() && fetch_chance_.chance(20)) {
    ++figures_[Figure::hung_up_while_fetching];
    hang_up(*std::next(set_aside_.begin(), static_cast<std::ptrdiff_t>(fetch_chance_.below(set_aside_.size()))));
  }
}

void Simulator::send_on_streams() {
  for (std::uint64_t i = chance_.below(setup_.requests_per_turn_max / 2 + 2); i > 0; --i) {
    StreamWorkers::Step step = stream_workers_.next(next_cookie_);
    if (step.hangs_up) hang_up(*step.hangs_up);
    if (!step.sends) continue;
    if (step.cookie == next_cookie_) ++next_cookie_;
    send(*std::move(step.sends), step.cookie);
  }
}

// A connection is closed: of a worker, or of anybody whose request is under way.
void Simulator::hang_up() {
  auto const is = [](shard::Cookie cookie) { return [cookie](Asked const& asked) { return asked.cookie == cookie; }; };
  std::optional<shard::Cookie> cookie;
  if (chance_.chance(500)) {
    cookie = clients_.hang_up();
  } else if (!sent_.empty()) {
    cookie = sent_[chance_.below(sent_.size())].cookie;
  } else if (!open_.empty() && !open_.back().is_answered && !open_.back().asked.empty()) {
    cookie = open_.back().asked[chance_.below(open_.back().asked.size())].cookie;
  }
  if (!cookie || quiet_.contains(*cookie)) return;
  if (std::ranges::any_of(sent_, is(*cookie))) {
    ++figures_[Figure::hung_up_before_turn];
  } else if (std::ranges::any_of(
                 open_, [&](Open const& o) { return !o.is_answered && std::ranges::any_of(o.asked, is(*cookie)); })) {
    ++figures_[Figure::hung_up_before_answer];
  } else {
    ++figures_[Figure::waiter_abandoned];
  }
  hang_up(*cookie);
}

void Simulator::hang_up(shard::Cookie cookie) {
  trace(fmt::format("{} hangs up", cookie));
  clients_.refused(cookie);
  stream_workers_.hung_up(cookie);
  set_aside_.erase(cookie);
  front_->hang_up(cookie);
  abandoned_.push_back({.cookie = cookie, .at = std::max(now_, clock_.now())});
}

// As an adapter does it for a client that went while its lease was being decided.
void Simulator::give_back(LeaseReply const& leased) {
  if (leased.jobs.empty()) return;
  ReportBatch batch;
  for (LeasedJob const& job : leased.jobs) {
    batch.reports.push_back({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Released{}});
  }
  ++figures_[Figure::lease_given_back];
  send(std::move(batch), next_cookie_++);
}

void Simulator::remember_ids(EnqueueReply const& reply) {
  for (EnqueuedJob const& job : reply.jobs) {
    if (!job.client_id.empty()) continue;
    std::pair id{job.number, front_->id(job.number)};
    if (ids_.size() < kIdsRemembered) {
      ids_.push_back(std::move(id));
    } else if (chance_.chance(50)) {
      ids_[chance_.below(kIdsRemembered)] = std::move(id);
    }
    return;
  }
}

void Simulator::check_ids() {
  // What a power cut may take under other durabilities, is the store itself too, and what ids are made with.
  if (setup_.log.segments.durability != log::Durability::sync) return;
  for (auto const& [number, text] : ids_) {
    if (front_->ref(text).number != number) return complain("an id that was given out names another job");
  }
}

// Some reports bring values for the cache.
void Simulator::set_keys(Command& command) {
  if (cache_callers_.empty()) return;
  std::vector<Report>* reports = nullptr;
  if (auto* batch = std::get_if<ReportBatch>(&command)) reports = &batch->reports;
  if (auto* lease = std::get_if<Lease>(&command)) reports = &lease->reports;
  for (std::size_t i = 0; reports != nullptr && i < reports->size(); ++i) {
    if (auto* completed = std::get_if<Completed>(&(*reports)[i].outcome)) completed->cache = cache_callers_.make_sets();
  }
}

// Some of those who ask for a cached value wait for so long and no longer.
Instant Simulator::draw_end_of_patience(Command const& command) {
  auto const* const compute = std::get_if<ComputeCached>(&command);
  bool const may_be_hurried = holds<ReadCached>(command) || (compute != nullptr && !compute->quiet);
  if (!may_be_hurried || !fetch_chance_.chance(setup_.hurried_permille)) return shard::kNever;
  std::uint64_t const ms = 1 + fetch_chance_.below(fetch_chance_.chance(500) ? 20 : 2'000);
  return std::max(now_, clock_.now()) + Duration{static_cast<Duration::rep>(ms)};
}

void Simulator::send(Command command, shard::Cookie cookie) {
  ++figures_[Figure::operations];
  // Which of two answers of one millisecond goes first where only some are kept, nobody has promised.
  if (auto* enqueue = std::get_if<Enqueue>(&command);
      enqueue != nullptr && enqueue->idempotency && setup_.engine.idempotency_keys_max < 1'000'000) {
    if (now_ <= idempotent_at_ && clock_.now() <= idempotent_at_) enqueue->idempotency.reset();
    idempotent_at_ = Instant::max();
  }
  if (flipped_) {  // Who is meant by a tag or a text that cannot be read, nobody can say.
    if (auto* bulk = std::get_if<BulkJobs>(&command)) bulk->filter.tag.clear();
    if (auto* list = std::get_if<ListJobs>(&command)) {
      list->filter.tag.clear();
      list->filter.text.clear();
    }
  }
  if (holds<ForgetCachedBy>(command)) forgetting_by_ = cookie;
  if (auto const* compute = std::get_if<ComputeCached>(&command); compute != nullptr && compute->quiet) {
    quiet_.insert(cookie);
  }
  set_keys(command);
  Instant const give_up_at = draw_end_of_patience(command);
  Asked asked{.cookie = cookie, .command = std::move(command), .give_up_at = give_up_at};
  Asked mutated = asked;
  if (options_.mutation != Mutation::none) mutate(mutated);
  if (is_draining_) ++figures_[Figure::asked_while_draining];
  auto const taken = front_->submit(cookie, std::move(mutated.command), asked.give_up_at);
  if (taken) {
    sent_.push_back(std::move(asked));
    return;
  }
  clients_.refused(cookie);
  stream_workers_.refused(cookie, asked.command);
  if (forgetting_by_ == cookie) forgetting_by_.reset();
  switch (taken.error().code) {
    case ErrorCode::overloaded:
      ++figures_[Figure::inbox_full];
      if (sent_.size() < setup_.shard.inbox_max) complain("a request was refused as too many, and they were not");
      return;
    case ErrorCode::disk_full:
      ++figures_[Figure::disk_low_refused];
      if (!holds<Enqueue>(asked.command) && !holds<PutCache>(asked.command) && !holds<MakeBatch>(asked.command)) {
        complain("something else than an enqueue, a value or a batch was refused");
      }
      return;
    default: return complain(fmt::format("a request was refused: {}", describe(taken.error())));
  }
}

}  // namespace workmill::sim
