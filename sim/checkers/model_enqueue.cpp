#include "base/variant.h"
#include "sim/checkers/model_detail.h"

#include <algorithm>

namespace workmill::sim {

bool Model::run(shard::Cookie cookie, Enqueue const& command) {
  if (command.idempotency) {
    auto const kept = answers_.find(command.idempotency->key);
    if (kept != answers_.end() && kept->second.until > now_) {
      if (kept->second.fingerprint != command.idempotency->fingerprint) {
        ++figures_[Figure::idempotent_key_reused];
        return expect_error(cookie, ErrorCode::idempotency_key_reused);
      }
      ++figures_[Figure::idempotent_replay];
      if (kept->second.is_of_earlier_life) ++figures_[Figure::idempotent_replay_after_restart];
      EnqueueReply const* reply = nullptr;
      WM_SIM_STEP(expect(cookie, reply));
      if (reply == nullptr) return true;
      WM_SIM_HOLD(reply->replayed, "the answer to a repeated request is not marked as replayed");
      WM_SIM_HOLD(reply->jobs.size() == kept->second.reply.jobs.size(), "a repeated request got another answer");
      for (std::size_t i = 0; i < reply->jobs.size(); ++i) {
        EnqueuedJob const& got = reply->jobs[i];
        EnqueuedJob const& first = kept->second.reply.jobs[i];
        WM_SIM_HOLD(got.number == first.number && got.client_id == first.client_id && got.state == first.state &&
                        got.duplicate == first.duplicate,
                    "a repeated request got another answer: job {:x} instead of {:x}", raw(got.number),
                    raw(first.number));
      }
      return true;
    }
  }
  if (auto const refused = refuse_batches(command.specs)) {
    ++figures_[*refused == ErrorCode::batch_closed ? Figure::batch_was_closed : Figure::batch_was_unknown];
    return expect_error(cookie, *refused);
  }
  bool const is_limited = std::any_of(queues_.begin(), queues_.end(),
                                      [](auto const& q) { return q.second.settings.max_depth.has_value(); });
  if (is_limited && !is_let_in(cookie, command)) {
    ++figures_[Figure::queue_full_refused];
    return expect_error(cookie, ErrorCode::queue_full);
  }
  EnqueueReply wanted;
  for (Bytes const& spec : command.specs) {
    ++moment_;
    WM_SIM_STEP(enqueue_one(spec, wanted.jobs.emplace_back()));
    EnqueuedJob const& last = wanted.jobs.back();
    if (last.duplicate && std::any_of(wanted.jobs.begin(), wanted.jobs.end() - 1, [&](EnqueuedJob const& other) {
          return other.number == last.number && !other.duplicate;
        })) {
      ++figures_[Figure::duplicate_in_one_bulk];
    }
  }
  if (command.idempotency) {
    auto const* remembered = take<effect::RequestRemembered>();
    if (remembered == nullptr) return false;
    WM_SIM_HOLD(remembered->key == command.idempotency->key &&
                    remembered->fingerprint == command.idempotency->fingerprint &&
                    remembered->until == now_ + kIdempotencyKept,
                "an answer is remembered wrongly");
    if (auto const old = answers_.find(command.idempotency->key); old != answers_.end()) answers_.erase(old);
    while (answers_.size() >= options_.idempotency_keys_max && !answers_by_age_.empty()) {
      auto const [until, key] = answers_by_age_.front();
      answers_by_age_.pop_front();
      auto const oldest = answers_.find(key);
      if (oldest != answers_.end() && oldest->second.until == until) {
        if (until > now_) ++figures_[Figure::answer_forgotten_early];
        answers_.erase(oldest);
      }
    }
    Instant const until = now_ + kIdempotencyKept;
    answers_by_age_.emplace_back(until, command.idempotency->key);
    answers_.emplace(command.idempotency->key,
                     Answer{.fingerprint = command.idempotency->fingerprint, .until = until, .reply = wanted});
  }
  EnqueueReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(!reply->replayed, "a first answer is marked as replayed");
  WM_SIM_HOLD(reply->jobs.size() == wanted.jobs.size(), "{} jobs answered of {}", reply->jobs.size(),
              wanted.jobs.size());
  for (std::size_t i = 0; i < wanted.jobs.size(); ++i) {
    EnqueuedJob const& got = reply->jobs[i];
    EnqueuedJob const& want = wanted.jobs[i];
    WM_SIM_HOLD(got.duplicate == want.duplicate, "job {:x} is answered as duplicate: {}, and is: {}", raw(got.number),
                got.duplicate, want.duplicate);
    WM_SIM_HOLD(got.number == want.number, "job {:x} is answered as {:x}", raw(want.number), raw(got.number));
    WM_SIM_HOLD(got.client_id == want.client_id && got.state == want.state, "job {:x} is answered wrongly",
                raw(want.number));
  }
  return true;
}

bool Model::enqueue_one(Bytes const& spec, EnqueuedJob& answer) {
  ModelJob job;
  JobSpecView view;
  WM_SIM_HOLD(decode_spec(spec, view).has_value(), "a spec that the workload made cannot be read");
  if (ModelJob const* same = find_same(view)) {
    ++queues_[same->queue].counters.duplicates;
    ++figures_[!view.id.empty() && same->client_id == view.id ? Figure::duplicate_by_id : Figure::duplicate_by_key];
    if (raw(same->number) > last_number_before_) ++figures_[Figure::duplicate_while_first_undurable];
    answer = {.number = same->number, .client_id = same->client_id, .state = same->state, .duplicate = true};
    return true;
  }
  bool has_room = false;
  WM_SIM_STEP(make_room(std::string(view.queue), has_room));

  auto const* made = take<effect::JobEnqueued>();
  if (made == nullptr) return false;
  job.number = made->number;
  WM_SIM_HOLD(raw(job.number) > last_number_, "job number {:x} comes after {:x}", raw(job.number), last_number_);
  WM_SIM_HOLD(created_at(job.number) >= now_, "job number {:x} is of {} ms, and it is {}", raw(job.number),
              to_ms(created_at(job.number)), to_ms(now_));
  last_number_ = raw(job.number);
  WM_SIM_HOLD(made->spec == spec, "job {:x} is written down with another spec", raw(job.number));
  read_spec(job, spec);
  Instant ready_at = now_;
  if (view.run_at) ready_at = std::max(now_, *view.run_at);
  if (view.delay) ready_at = now_ + *view.delay;
  job.state = ready_at > now_ ? JobState::scheduled : JobState::ready;
  job.due = ready_at;
  WM_SIM_HOLD(made->scheduled == (job.state == JobState::scheduled) && made->ready_at == ready_at,
              "job {:x} becomes ready at {} and was asked for at {}", raw(job.number), to_ms(made->ready_at),
              to_ms(ready_at));
  answer = {.number = job.number, .client_id = job.client_id, .state = job.state, .duplicate = false};
  ++figures_[Figure::jobs_enqueued];
  ++queues_[job.queue].counters.enqueued;
  add(std::move(job));
  return true;
}

// Is there room for all of them? Where that depends on how many jobs wait for gates behind others, the server decides.
bool Model::is_let_in(shard::Cookie cookie, Enqueue const& command) const {
  Fits const fits_in = fits(command.specs);
  if (fits_in != Fits::maybe) return fits_in == Fits::yes;
  if (replies_ != nullptr) {
    auto const reply = replies_->find(cookie);
    return reply == replies_->end() || !holds<Error>(reply->second);
  }
  return std::any_of(effects_.begin() + static_cast<std::ptrdiff_t>(at_), effects_.end(), [&](Effect const& effect) {
    auto const* const made = std::get_if<effect::JobEnqueued>(&effect);
    return made != nullptr && std::ranges::find(command.specs, made->spec) != command.specs.end();
  });
}

Model::Fits Model::fits(std::vector<Bytes> const& specs) const {
  if (fits_with(specs, Fits::yes)) return Fits::yes;
  return !closed_.empty() && fits_with(specs, Fits::maybe) ? Fits::maybe : Fits::no;
}

// All of the bulk or nothing: played through on figures, with what of it is a duplicate left out. `how` says which of
// the ready jobs are taken for such as may be dropped: those that surely may, or that perhaps may.
bool Model::fits_with(std::vector<Bytes> const& specs, Fits how) const {
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> rooms;  // Unfinished, and ready to be dropped.
  std::set<std::string> ids;
  std::set<std::pair<std::string, std::string>> keys;
  for (Bytes const& bytes : specs) {
    JobSpecView spec;
    if (!decode_spec(bytes, spec)) return true;
    if (const_cast<Model*>(this)->find_same(spec) != nullptr) continue;
    if (!spec.id.empty() && ids.contains(std::string(spec.id))) continue;
    std::pair<std::string, std::string> const key{spec.queue, spec.unique_key};
    if (!spec.unique_key.empty() && keys.contains(key)) continue;
    bool const is_scheduled = (spec.run_at && *spec.run_at > now_) || (spec.delay && *spec.delay > Duration{0});
    auto const found = queues_.find(key.first);
    if (found != queues_.end() && found->second.settings.max_depth) {
      ModelQueue const& queue = found->second;
      auto& [unfinished, ready] = rooms.try_emplace(key.first, queue.unfinished(), droppable(queue, how)).first->second;
      if (unfinished >= queue.settings.max_depth.value_or(UINT64_MAX)) {
        if (queue.settings.when_full == WhenFull::refuse || ready == 0) return false;
        --ready;
        --unfinished;
      }
      ++unfinished;
      if (!is_scheduled && (closed_.empty() || !is_gated(std::string(spec.type)))) ++ready;
    }
    if (!spec.id.empty()) ids.insert(std::string(spec.id));
    if (!spec.unique_key.empty() && (is_scheduled || spec.unique_while != UniqueWhile::scheduled)) keys.insert(key);
  }
  return true;
}

bool Model::make_room(std::string const& name, bool& has_room) {
  has_room = true;
  auto const found = queues_.find(name);
  if (found == queues_.end()) return true;
  ModelQueue& queue = found->second;
  if (!queue.settings.max_depth || queue.unfinished() < *queue.settings.max_depth) return true;
  has_room = false;
  if (queue.settings.when_full == WhenFull::refuse || queue.depth_in(JobState::ready) == 0) return true;
  auto const* cancelled = next<effect::JobCancelled>();
  ModelJob* const victim = cancelled == nullptr ? nullptr : find(JobRef{.number = cancelled->number, .text = {}});
  bool const is_its = victim != nullptr && victim->queue == name && victim->state == JobState::ready;
  bool const is_sure = queue.lines_with(Offer::yes) > 0;
  if (!is_sure && !(is_its && queue.lines_with(Offer::maybe) > 0)) {
    ++figures_[Figure::gated_jobs_not_dropped];
    return true;
  }
  has_room = true;
  ++figures_[Figure::queue_full_dropped_oldest];
  WM_SIM_HOLD(cancelled != nullptr, "a full queue dropped nothing");
  WM_SIM_HOLD(is_its, "a full queue dropped job {:x}, which is none of its ready ones", raw(cancelled->number));
  WM_SIM_HOLD(!is_closed(victim->type_index), "a full queue dropped job {:x}, which waits for a gate",
              raw(victim->number));
  bool const is_any_unsure = queue.lines_with(Offer::maybe) > 0;
  std::size_t lowest = 0;
  while (is_sure && queue.offers[lowest][static_cast<std::size_t>(Offer::yes)] == 0) ++lowest;
  std::uint64_t oldest = UINT64_MAX;
  for (auto const& [group, line] : queue.lines[lowest]) {
    if (auto const* const job = next_of(line)) oldest = std::min(oldest, job->place);
  }
  WM_SIM_HOLD(is_any_unsure || (victim->priority == lowest && victim->place == oldest),
              "a full queue dropped job {:x}, which is not the oldest of the lowest priority", raw(victim->number));
  return cancel_now(*victim);
}

}  // namespace workmill::sim
