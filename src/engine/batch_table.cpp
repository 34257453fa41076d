#include "engine/batch_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "base/assert.h"
#include "base/mutation.h"

namespace workmill::engine {
namespace {

constexpr std::size_t kSuccess = static_cast<std::size_t>(CallbackKind::success);

std::uint64_t hash_on(std::string_view text, std::uint64_t before) {
  return XXH3_64bits_withSeed(text.data(), text.size(), before);
}

}  // namespace

std::uint64_t BatchTable::fingerprint(BytesView on_success, BytesView on_finish, std::string_view meta) {
  return hash_on(meta, hash_on(on_finish, hash_on(on_success, 0)));
}

bool BatchTable::Batch::is_due_for(CallbackKind kind) const {
  bool const is_open = !closed_at && !WM_MUTATION(open_batch_calls_back);
  if (is_open || pending() > 0 || state_of(kind) != CallbackState::waiting) return false;
  if (kind == CallbackKind::finish || WM_MUTATION(dead_job_counts_as_completed)) return true;
  return present_in(JobState::dead) == 0 && present_in(JobState::cancelled) == 0;
}

CallbackState BatchTable::Batch::state_of(CallbackKind kind) const {
  Callback const& of = callback(kind);
  if (!of.exists()) return CallbackState::none;
  if (of.is_enqueued()) return CallbackState::enqueued;
  return kind == CallbackKind::success && gone.lost() > 0 ? CallbackState::not_coming : CallbackState::waiting;
}

BatchView BatchTable::Batch::view() const {
  BatchView view{.id = id,
                 .created_at = created_at(number),
                 .closed_at = closed_at,
                 .jobs = {.pending = pending(),
                          .completed = gone.completed + present_in(JobState::completed),
                          .dead = gone.dead + present_in(JobState::dead),
                          .cancelled = gone.cancelled + present_in(JobState::cancelled),
                          .deleted = gone.deleted},
                 .meta = meta};
  BatchCounts& jobs = view.jobs;
  jobs.total = jobs.pending + jobs.completed + jobs.dead + jobs.cancelled + jobs.deleted;
  for (CallbackKind const kind : kAllCallbackKinds) {
    view.callbacks[static_cast<std::size_t>(kind)] = {.state = state_of(kind), .job = callback(kind).job};
  }
  return view;
}

effect::BatchCopied BatchTable::Batch::copy() const {
  effect::BatchCopied copy{.batch = number,
                           .closed_at = closed_at,
                           .changed_at = changed_at,
                           .gone = WM_MUTATION(copied_batch_forgets_gone_jobs) ? GoneJobs{} : gone,
                           .fingerprint = fingerprint,
                           .id = id,
                           .meta = meta,
                           .traceparent = traceparent,
                           .tracestate = tracestate};
  for (std::size_t i = 0; i < kCallbackKinds; ++i) {
    copy.callbacks[i] = {.queue = callbacks[i].queue, .spec = callbacks[i].spec, .job = callbacks[i].job};
    if (WM_MUTATION(copied_batch_calls_back_again) && callbacks[i].is_enqueued()) copy.callbacks[i].job = {};
  }
  return copy;
}

BatchTable::Batch const* BatchTable::find(BatchNumber number) const {
  auto const found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : found->second.get();
}

BatchTable::Batch const* BatchTable::find(std::string_view id) const {
  auto const found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

BatchTable::Batch const* BatchTable::batch_of(JobNumber job) const {
  auto const found = batch_of_.find(job);
  return found == batch_of_.end() ? nullptr : find(found->second);
}

BatchTable::Batch* BatchTable::at(BatchNumber number) {
  auto const found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : found->second.get();
}

bool BatchTable::can_have_room_for(MakeBatch const& batch) const {
  return needed_bytes() + content_of(batch) <= memory_max_;
}

bool BatchTable::has_room_for(MakeBatch const& batch) const {
  return content_bytes_ + content_of(batch) <= memory_max_;
}

std::size_t BatchTable::content_of(MakeBatch const& batch) {
  return batch.on_success.size() + batch.on_finish.size() + batch.meta.size();
}

std::size_t BatchTable::content_of(Batch const& batch) {
  std::size_t bytes = batch.id.size() + batch.meta.size() + batch.traceparent.size() + batch.tracestate.size();
  for (Callback const& callback : batch.callbacks) bytes += callback.queue.size() + callback.spec.size();
  return bytes;
}

void BatchTable::drop(Bytes& spec, std::size_t& content_bytes) {
  content_bytes -= spec.size();
  spec = Bytes{};
}

BatchTable::Batch& BatchTable::add(BatchNumber number, std::string_view id, EffectSink::Written w) {
  auto owned = std::make_unique<Batch>();
  Batch& batch = *owned;
  batch.number = number;
  batch.id = id;
  batch.stands_at = w.at;
  batch.bytes = w.bytes;
  segments_.add(w.at, w.bytes);
  bool const is_new = by_number_.emplace(number, std::move(owned)).second && by_id_.emplace(batch.id, &batch).second;
  WM_ASSERT(is_new);
  return batch;
}

void BatchTable::apply(effect::BatchMade const& e, std::array<std::string_view, kCallbackKinds> const& queues,
                       EffectSink::Written w) {
  Batch& batch = add(e.batch, e.id, w);
  batch.changed_at = created_at(e.batch);
  batch.fingerprint = fingerprint(e.on_success, e.on_finish, e.meta);
  for (CallbackKind const kind : kAllCallbackKinds) {
    auto const place = static_cast<std::size_t>(kind);
    batch.callbacks[place] = {.queue = std::string{queues[place]}, .spec = Bytes{e.callback(kind)}};
  }
  batch.meta = e.meta;
  batch.traceparent = e.traceparent;
  batch.tracestate = e.tracestate;
  content_bytes_ += content_of(batch);
  refile(batch);
}

void BatchTable::apply(effect::BatchClosed const& e) {
  Batch* const batch = at(e.batch);
  if (batch == nullptr) return;
  if (!batch->closed_at) ++closed_;
  batch->closed_at = batch->changed_at = e.at;
  refile(*batch);
}

void BatchTable::apply(effect::BatchFired const& e) {
  Batch* const batch = at(e.batch);
  if (batch == nullptr || (!is_live_ && WM_MUTATION(restart_forgets_callbacks))) return;
  Callback& callback = batch->callbacks[static_cast<std::size_t>(e.callback)];
  callback.job = e.job;
  drop(callback.spec, content_bytes_);
  batch->changed_at = e.at;
  refile(*batch);
}

void BatchTable::apply(effect::BatchForgotten const& e) {
  auto const found = by_number_.find(e.batch);
  if (found == by_number_.end()) return;
  Batch& batch = *found->second;
  segments_.drop(batch.stands_at, batch.bytes);
  content_bytes_ -= content_of(batch);
  if (batch.is_due) due_.erase(batch.number);
  over_bytes_ -= batch.over_bytes;
  if (batch.keep_until) kept_until_.erase({*batch.keep_until, batch.number});
  by_id_.erase(batch.id);
  if (batch.closed_at) --closed_;
  by_number_.erase(found);
}

void BatchTable::apply(effect::BatchCopied const& e, EffectSink::Written w) {
  if (Batch* const known = at(e.batch)) {
    segments_.add(w.at, w.bytes);
    segments_.drop(known->stands_at, known->bytes);
    known->stands_at = w.at;
    known->bytes = w.bytes;
    return;
  }
  Batch& batch = add(e.batch, e.id, w);
  batch.closed_at = e.closed_at;
  if (batch.closed_at) ++closed_;
  batch.changed_at = e.changed_at;
  batch.gone = e.gone;
  batch.fingerprint = e.fingerprint;
  for (std::size_t i = 0; i < kCallbackKinds; ++i) {
    batch.callbacks[i] = {
        .queue = std::string{e.callbacks[i].queue}, .spec = Bytes{e.callbacks[i].spec}, .job = e.callbacks[i].job};
  }
  batch.meta = e.meta;
  batch.traceparent = e.traceparent;
  batch.tracestate = e.tracestate;
  content_bytes_ += content_of(batch);
  refile(batch);
}

void BatchTable::join(JobNumber job, std::string_view id) {
  if (!is_live_) {
    auto const [place, is_new] = places_.try_emplace(std::string{id}, static_cast<std::uint32_t>(ids_named_.size()));
    if (is_new) ids_named_.emplace_back(id);
    named_.emplace(job, place->second);
    return;
  }
  Batch const* const batch = find(id);
  WM_ASSERT(batch != nullptr && !batch->closed_at);
  batch_of_.emplace(job, batch->number);
}

void BatchTable::enter(JobNumber job, JobState state) {
  auto const found = batch_of_.find(job);
  WM_ASSERT(is_live_ && found != batch_of_.end());
  Batch* const batch = at(found->second);
  if (batch == nullptr) return;
  ++batch->present[static_cast<std::size_t>(state)];
  refile(*batch);
}

void BatchTable::leave(JobNumber job, JobState state) {
  auto const found = batch_of_.find(job);
  WM_ASSERT(is_live_ && found != batch_of_.end());
  Batch* const batch = at(found->second);
  if (batch == nullptr) return;
  WM_ASSERT(batch->present_in(state) > 0);
  --batch->present[static_cast<std::size_t>(state)];
}

void BatchTable::part(JobNumber job) {
  if (is_live_) {
    batch_of_.erase(job);
  } else {
    named_.erase(job);
  }
}

void BatchTable::count_gone(BatchNumber number, JobState last, Instant when) {
  Batch* const batch = at(number);
  if (batch == nullptr) return;
  batch->gone.count(last);
  if (last != JobState::completed) {
    batch->changed_at = when;
    drop(batch->callbacks[kSuccess].spec, content_bytes_);  // It is not coming.
  }
  refile(*batch);
}

void BatchTable::refile(Batch& batch) {
  if (!is_live_) return;
  bool const is_due = batch.is_due_for(CallbackKind::success) || batch.is_due_for(CallbackKind::finish);
  if (is_due && !batch.is_due) due_.insert(batch.number);
  if (!is_due && batch.is_due) due_.erase(batch.number);
  batch.is_due = is_due;

  bool const waits = batch.state_of(CallbackKind::success) == CallbackState::waiting ||
                     batch.state_of(CallbackKind::finish) == CallbackState::waiting;
  bool const is_over = batch.closed_at && !waits && batch.pending() == 0;
  if (!is_over) batch.over_since.reset();
  if (is_over && !batch.over_since) batch.over_since = now_;
  std::size_t const over_bytes = is_over ? content_of(batch) : 0;
  over_bytes_ += over_bytes;
  over_bytes_ -= std::exchange(batch.over_bytes, over_bytes);
  std::optional<Instant> keep_until;
  if (is_over) keep_until = std::max(batch.changed_at, *batch.over_since) + kept_;
  if (keep_until == batch.keep_until) return;
  if (batch.keep_until) kept_until_.erase({*batch.keep_until, batch.number});
  if (keep_until) kept_until_.emplace(*keep_until, batch.number);
  batch.keep_until = keep_until;
}

std::string BatchTable::check() const {
  std::size_t due = 0, kept = 0, content = 0, over = 0;
  for (auto const& [number, batch] : by_number_) {
    if (batch->is_due && !due_.contains(number)) return "a batch with a callback that is due is not in the index";
    if (batch->keep_until && !kept_until_.contains({*batch->keep_until, number})) {
      return "a batch that is over is not in the index";
    }
    due += batch->is_due ? 1U : 0U;
    kept += batch->keep_until ? 1U : 0U;
    content += content_of(*batch);
    over += batch->keep_until ? content_of(*batch) : 0;
  }
  if (due != due_.size() || kept != kept_until_.size()) return "the indexes of batches have too many";
  if (by_id_.size() != by_number_.size()) return "ids of batches lead nowhere";
  std::size_t closed = 0;
  walk([&closed](Batch const& batch) { closed += batch.closed_at ? 1U : 0U; });
  if (closed != closed_) return "closed batches were counted wrongly";
  if (is_live_ && over != over_bytes_) return "what batches that are over hold was counted wrongly";
  return content == content_bytes_ ? std::string{} : "what batches hold was counted wrongly";
}

}  // namespace workmill::engine
