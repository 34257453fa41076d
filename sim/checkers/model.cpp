#include <algorithm>

#include "base/variant.h"
#include "sim/checkers/model_detail.h"

namespace workmill::sim {
namespace {

constexpr std::uint32_t kGuessesMax = 6;  // Of one turn. Each doubles what is tried, and two are rare.

}  // namespace

// ---- A turn.

bool Model::turn(TurnRecord const& record) {
  unlikely_guesses_ = 0;
  if (!leaves_guesses(record)) return explain(record);
  Model const before = *this;
  Figures const counted = figures_.all();
  if (explain(record)) return true;
  std::string const likely_complaint = complaint_;
  std::uint32_t guesses = guesses_;
  for (std::uint32_t other = 1; other < 1U << std::min(guesses, kGuessesMax); ++other) {
    *this = before;
    figures_.all() = counted;
    unlikely_guesses_ = other;
    if (explain(record)) {
      ++figures_[Figure::turn_explained_by_the_less_likely];
      return true;
    }
    guesses = std::max(guesses, guesses_);
  }
  complaint_ = likely_complaint;
  return false;
}

// The likely answer, unless the turn was tried with that before, and is not to be explained so.
bool Model::guess(bool is_likely) {
  bool const is_other = guesses_ < 32 && (unlikely_guesses_ >> guesses_ & 1) != 0;
  ++guesses_;
  return is_likely != is_other;
}

// Perhaps: who overtook a flight that somebody asks for in this turn, a deletion in parts or whoever sets its key. Or
// when somebody got jobs that stood behind closed ones, where somebody looks at jobs.
bool Model::leaves_guesses(TurnRecord const& record) {
  auto const looks = [](Command const& command) { return holds<GetJob>(command) || holds<ListJobs>(command); };
  auto const leases = [](Command const& command) { return holds<Lease>(command); };
  if (!closed_.empty() && std::ranges::any_of(record.asked, looks, &Asked::command) &&
      std::ranges::any_of(record.asked, leases, &Asked::command)) {
    return true;
  }
  auto const is_deletion = [](Command const& command) { return holds<ForgetCachedBy>(command); };
  if (!is_deleting_cached() && std::ranges::none_of(record.asked, is_deletion, &Asked::command)) return false;
  asked_now_ = record.asked;
  set_aside_ = record.set_aside;
  replies_ = record.replies;
  return std::ranges::any_of(record.effects, [&](Effect const& effect) {
    auto const* const overtaken = std::get_if<effect::FlightOvertaken>(&effect);
    ModelJob const* const flight = overtaken == nullptr ? nullptr : find(std::to_underlying(overtaken->number));
    return overtaken != nullptr && (flight == nullptr || is_to_be_set(flight->cache_key));
  });
}

bool Model::explain(TurnRecord const& record) {
  now_ = record.now;
  effects_ = record.effects;
  at_ = 0;
  replies_ = record.replies;
  replies_taken_ = 0;
  set_aside_ = record.set_aside;
  set_aside_taken_ = 0;
  is_draining_ = record.is_draining;
  answered_at_ = record.replies == nullptr ? Instant{} : record.answered_at;
  finished_now_.clear();
  pushes_ = record.replies == nullptr ? nullptr : record.pushes;
  heard_.clear();
  reported_now_.clear();
  last_number_before_ = last_number_;
  serial_before_ = cache_serial_;
  ended_flights_.clear();
  landed_.clear();
  flight_looks_ = 0;
  guesses_ = 0;
  has_gate_opened_ = false;
  perhaps_leased_later_.clear();
  served_early_ = 0;
  evicted_before_ = record.evicted_before;
  evicted_after_ = record.evicted_after;
  oldest_segment_before_ = std::exchange(oldest_segment_, record.oldest_segment);
  is_disk_low_ = record.is_disk_low;

  while (next<effect::StoreCreated>() != nullptr) ++at_;  // At the head of each segment.
  WM_SIM_STEP(take_evictions(record.asked));
  asked_now_ = record.asked;
  if (!bulks_.empty()) {
    Bulk next = std::move(bulks_.front());
    bulks_.pop_front();
    shard::Cookie const cookie = next.cookie;
    bool const is_forget = holds<ForgetCachedBy>(next.command);
    if (!(is_forget ? forget_part(std::move(next)) : bulk_part(std::move(next)))) {
      complaint_ += fmt::format(" (a later part of request {})", cookie);
      return false;
    }
  }
  WM_SIM_STEP(give_up_fetches());
  for (std::string const& key : record.fetched) WM_SIM_STEP(end_fetch(key));
  for (Asked const& asked : record.asked) {
    asked_now_ = asked_now_.subspan(1);
    ++moment_;
    WM_SIM_STEP(execute(asked));
  }
  ++moment_;
  WM_SIM_STEP(advance());
  WM_SIM_STEP(end_streams());
  ++moment_;
  WM_SIM_STEP(serve_waiting(true));
  WM_SIM_STEP(answer_with_stored());
  WM_SIM_STEP(end_overdue());
  WM_SIM_STEP(take_copies());
  if (!finished_now_.empty()) WM_SIM_STEP(serve_waiting(true));  // Some were ended as damaged.
  WM_SIM_STEP(check_streams());
  if (replies_ == nullptr && bulks_.size() > record.unfinished) {  // The one whose end nobody can tell has ended.
    std::erase_if(bulks_, [](Bulk const& bulk) { return holds<ForgetCachedBy>(bulk.command); });
  }
  WM_SIM_HOLD(set_aside_taken_ == set_aside_.size(), "somebody waits for the disk once more");
  note_touched_batches();
  if (replies_ != nullptr) {
    WM_SIM_HOLD(replies_taken_ == replies_->size(), "{} answers in a turn that owed {}", replies_->size(),
                replies_taken_);
    if (record.is_settled) {
      settle_lines();
      return check_settled();
    }
    note_due_batches();
    ++figures_[Figure::advance_in_parts];
  }
  return true;
}

bool Model::restarted(Instant now, Instant last_batch_at, std::uint64_t evicted) {
  waiters_.clear();
  maybe_waiting_ = 0;
  gone_.clear();
  fetching_.clear();
  damaged_specs_.clear();
  damaged_events_.clear();
  bulks_.clear();
  streams_.clear();
  out_on_.clear();
  tokens_before_.merge(tokens_);
  tokens_.clear();
  ++moment_;
  Duration const down = now - last_batch_at;
  for (auto& [number, job] : jobs_) {
    job.has_old_checkpoint = job.checkpoint.is_there();
    if (job.state != JobState::leased) continue;
    timers_.erase({job.due, number});
    job.due += down;
    timers_.emplace(job.due, number);
    if (down > Duration{0}) ++figures_[Figure::lease_lengthened_by_restart];
  }
  for (auto& [key, answer] : answers_) answer.is_of_earlier_life = true;
  restart_cache(evicted);
  for (auto& [name, queue] : queues_) {
    queue.counters = {};
    if (queue.jobs() == 0 && queue.settings == QueueSettings{} && queue.known == ModelQueue::Known::yes) {
      queue.known = ModelQueue::Known::maybe;
    }
  }
  restart_lines();
  now_ = now;
  restart_batches();
  return true;
}

// Nobody would hear what came of it, and nothing is freed by it: a turn passes over it.
bool Model::is_passed_over(Asked const& asked) {
  bool const frees = std::visit(
      []<class T>(T const& command) {
        if constexpr (std::is_same_v<T, Lease>) return !command.reports.empty();
        return !(std::is_same_v<T, Enqueue> || std::is_same_v<T, GetJob> || std::is_same_v<T, GetJobLog> ||
                 std::is_same_v<T, ListJobs> || std::is_same_v<T, ListQueues> || std::is_same_v<T, GetQueue> ||
                 std::is_same_v<T, GetStatus> || std::is_same_v<T, OpenStream> || std::is_same_v<T, ComputeCached> ||
                 std::is_same_v<T, ReadCached> || std::is_same_v<T, GetFlagHistory> || std::is_same_v<T, MakeBatch> ||
                 std::is_same_v<T, GetBatch> || std::is_same_v<T, ListBatches>);
      },
      asked.command);
  return !frees && gone_.erase(asked.cookie) > 0;
}

bool Model::execute(Asked const& asked) {
  if (is_passed_over(asked)) {
    if (holds<OpenStream>(asked.command)) ++figures_[Figure::stream_opened_to_nobody];
    return true;
  }
  if (now_ >= asked.give_up_at) {
    ++figures_[Figure::cache_given_up_before_turn];
    return expect_error(asked.cookie, ErrorCode::deadline_exceeded);
  }
  return std::ranges::find(set_aside_, asked.cookie) != set_aside_.end() ? set_aside(asked) : decide(asked);
}

bool Model::decide(Asked const& asked) {
  give_up_at_ = asked.give_up_at;
  if (std::visit([&](auto const& command) { return run(asked.cookie, command); }, asked.command)) return true;
  complaint_ += fmt::format(" (request {})", asked.cookie);
  return false;
}

// ---- Answers.

Reply const* Model::reply_to(shard::Cookie cookie) {
  if (replies_ == nullptr) return nullptr;
  auto const found = replies_->find(cookie);
  if (found == replies_->end()) return nullptr;
  ++replies_taken_;
  return &found->second;
}

bool Model::expect_error(shard::Cookie cookie, ErrorCode code) {
  Error const* error = nullptr;
  if (replies_ == nullptr) return true;
  Reply const* const reply = reply_to(cookie);
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  error = std::get_if<Error>(reply);
  WM_SIM_HOLD(error != nullptr, "a request was taken that should have been refused with {}", to_string(code));
  WM_SIM_HOLD(error->code == code, "a request was refused with {} instead of {}", to_string(error->code),
              to_string(code));
  return true;
}

bool Model::expect_done(shard::Cookie cookie) {
  DoneReply const* done = nullptr;
  return expect(cookie, done);
}

}  // namespace workmill::sim
