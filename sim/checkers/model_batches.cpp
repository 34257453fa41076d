#include "sim/checkers/model_batches.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sim/checkers/model_detail.h"

// Batches: what is asked of them, when their callbacks come, and for how long they are kept.
namespace workmill::sim {
namespace {

constexpr int kGoneForOne = 2;  // So many finished ones give way to one that is made.

std::uint64_t as_number(BatchNumber number) { return std::to_underlying(number); }

// May it be seen by whoever is for these queues? Where nothing is said, he is for all.
bool is_among(ModelBatch const& batch, AllowedQueues const& allowed) {
  return allowed == nullptr || std::ranges::all_of(batch.specs, [&](Bytes const& bytes) {
           JobSpecView spec;
           return bytes.empty() || (decode_spec(bytes, spec) && allowed->contains(spec.queue));
         });
}

}  // namespace

// ---- What follows from what is known.

ModelBatch* Model::batch_of(ModelJob const& job) {
  auto const found = batches_.find(job.batch);
  return found == batches_.end() || !found->second.jobs.contains(raw(job.number)) ? nullptr : &found->second;
}

std::map<std::string, ModelBatch>::iterator Model::find_batch(BatchNumber number) {
  return std::ranges::find_if(batches_, [&](auto const& known) { return known.second.number == as_number(number); });
}

BatchCounts Model::counts_of(ModelBatch const& batch) const {
  BatchCounts counts{.completed = batch.gone.completed,
                     .dead = batch.gone.dead,
                     .cancelled = batch.gone.cancelled,
                     .deleted = batch.gone.deleted};
  for (std::uint64_t const number : batch.jobs) {
    switch (jobs_.at(number).state) {
      case JobState::scheduled:
      case JobState::ready:
      case JobState::leased: ++counts.pending; break;
      case JobState::completed: ++counts.completed; break;
      case JobState::dead: ++counts.dead; break;
      case JobState::cancelled: ++counts.cancelled; break;
    }
  }
  counts.total = counts.pending + counts.completed + counts.dead + counts.cancelled + counts.deleted;
  return counts;
}

CallbackState Model::callback_state(ModelBatch const& batch, CallbackKind kind) {
  auto const i = static_cast<std::size_t>(kind);
  if (batch.specs[i].empty()) return CallbackState::none;
  if (batch.called[i] != 0) return CallbackState::enqueued;
  bool const is_lost = batch.gone.deleted + batch.gone.dead + batch.gone.cancelled > 0;
  return kind == CallbackKind::success && is_lost ? CallbackState::not_coming : CallbackState::waiting;
}

bool Model::is_due(ModelBatch const& batch, CallbackKind kind) const {
  BatchCounts const counts = counts_of(batch);
  if (!batch.closed_at || counts.pending > 0 || callback_state(batch, kind) != CallbackState::waiting) return false;
  return kind == CallbackKind::finish || counts.completed == counts.total;
}

// It waits for nothing, and is kept to be looked at.
bool Model::is_over(ModelBatch const& batch) const {
  return batch.closed_at && counts_of(batch).pending == 0 &&
         callback_state(batch, CallbackKind::success) != CallbackState::waiting &&
         callback_state(batch, CallbackKind::finish) != CallbackState::waiting;
}

BatchState Model::state_of(ModelBatch const& batch) const {
  if (!batch.closed_at) return BatchState::open;
  return is_over(batch) ? BatchState::over : BatchState::closed;
}

bool Model::compare_batch(std::string const& id, ModelBatch const& batch, BatchView const& view) {
  WM_SIM_HOLD(view.id == id && view.meta == batch.meta, "batch {} is shown as {}", id, view.id);
  WM_SIM_HOLD(view.created_at == created_at(JobNumber{batch.number}) && view.closed_at == batch.closed_at,
              "batch {} is of another time, or closed: {} instead of {}", id, view.closed_at.has_value(),
              batch.closed_at.has_value());
  BatchCounts const want = counts_of(batch);
  BatchCounts const& got = view.jobs;
  WM_SIM_HOLD(got == want,
              "batch {} counts {} jobs, {} pending, {} completed, {} dead, {} cancelled, {} deleted instead of {}, {}, "
              "{}, {}, {}, {}",
              id, got.total, got.pending, got.completed, got.dead, got.cancelled, got.deleted, want.total, want.pending,
              want.completed, want.dead, want.cancelled, want.deleted);
  for (CallbackKind const kind : kAllCallbackKinds) {
    CallbackView const& callback = view.callback(kind);
    WM_SIM_HOLD(callback.state == callback_state(batch, kind) &&
                    raw(callback.job) == batch.called[static_cast<std::size_t>(kind)],
                "{} of batch {} is {} as job {:x} instead of {} as {:x}", to_string(kind), id,
                to_string(callback.state), raw(callback.job), to_string(callback_state(batch, kind)),
                batch.called[static_cast<std::size_t>(kind)]);
  }
  return true;
}

bool Model::compare_batches(std::span<BatchView const> views) {
  WM_SIM_HOLD(views.size() == batches_.size(), "there are {} batches instead of {}", views.size(), batches_.size());
  for (BatchView const& view : views) {
    auto const known = batches_.find(view.id);
    WM_SIM_HOLD(known != batches_.end(), "batch {} is there, and nobody made it", view.id);
    WM_SIM_STEP(compare_batch(known->first, known->second, view));
  }
  return true;
}

// ---- Commands.

bool Model::answer_batch(shard::Cookie cookie, std::string const& id, bool is_created) {
  BatchReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(reply->created == is_created && !reply->replayed, "batch {} is said to be made: {}", id, reply->created);
  return compare_batch(id, batches_.at(id), reply->batch);
}

bool Model::run(shard::Cookie cookie, MakeBatch const& command) {
  auto const known = command.id.empty() ? batches_.end() : batches_.find(command.id);
  if (known != batches_.end()) {
    ModelBatch const& batch = known->second;
    bool const is_same =
        batch.specs[0] == command.on_success && batch.specs[1] == command.on_finish && batch.meta == command.meta;
    ++figures_[is_same ? Figure::batch_repeated : Figure::batch_id_taken];
    return is_same ? answer_batch(cookie, known->first, false) : expect_error(cookie, ErrorCode::batch_exists);
  }
  bool const gives_way = std::ranges::any_of(batches_, [this](auto const& one) { return is_over(one.second); });
  if (batches_.size() >= options_.batches_max && !gives_way) {
    ++figures_[Figure::batches_full];
    return expect_error(cookie, ErrorCode::batches_full);
  }
  for (int i = 0; i < kGoneForOne && batches_.size() >= options_.batches_max && next<effect::BatchForgotten>(); ++i) {
    auto const goes = find_batch(take<effect::BatchForgotten>()->batch);
    WM_SIM_HOLD(goes != batches_.end() && is_over(goes->second), "a batch gives way that is not over");
    ++figures_[Figure::batch_gone_early];
    batches_.erase(goes);
  }
  auto const* made = take<effect::BatchMade>();
  if (made == nullptr) return false;
  std::string const id{made->id};
  std::uint64_t const number = as_number(made->batch);
  WM_SIM_HOLD(command.id.empty() ? id.size() == 36 && !batches_.contains(id) : id == command.id,
              "batch {} was made as {}", command.id, id);
  WM_SIM_HOLD(number > last_number_ && created_at(made->batch) >= now_, "batch number {:x} comes after {:x}", number,
              last_number_);
  WM_SIM_HOLD(made->on_success == command.on_success && made->on_finish == command.on_finish &&
                  made->meta == command.meta && made->traceparent == command.traceparent &&
                  made->tracestate == command.tracestate,
              "batch {} is written down wrongly", id);
  last_number_ = number;
  ++figures_[command.id.empty() ? Figure::batch_made_unnamed : Figure::batch_made];
  batches_.emplace(id, ModelBatch{.number = number,
                                  .closed_at = {},
                                  .changed_at = created_at(made->batch),
                                  .jobs = {},
                                  .gone = {},
                                  .specs = {command.on_success, command.on_finish},
                                  .meta = command.meta,
                                  .traceparent = command.traceparent,
                                  .tracestate = command.tracestate});
  return answer_batch(cookie, id, true);
}

bool Model::run(shard::Cookie cookie, CloseBatch const& command) {
  auto const known = batches_.find(command.id);
  if (known == batches_.end()) return expect_error(cookie, ErrorCode::batch_not_found);
  ModelBatch& batch = known->second;
  if (!batch.closed_at) {
    auto const* closed = take<effect::BatchClosed>();
    if (closed == nullptr) return false;
    WM_SIM_HOLD(as_number(closed->batch) == batch.number && closed->at == now_,
                "the end of batch {} is written wrongly", command.id);
    batch.closed_at = batch.changed_at = now_;
    ++figures_[batch.jobs.empty() && batch.gone == GoneJobs{} ? Figure::batch_closed_empty : Figure::batch_closed];
  }
  return answer_batch(cookie, known->first, false);
}

bool Model::run(shard::Cookie cookie, ForgetBatch const& command) {
  auto const known = batches_.find(command.id);
  if (known == batches_.end()) return expect_error(cookie, ErrorCode::batch_not_found);
  auto const* gone = take<effect::BatchForgotten>();
  if (gone == nullptr) return false;
  WM_SIM_HOLD(as_number(gone->batch) == known->second.number, "another batch than {} was forgotten", command.id);
  if (!known->second.jobs.empty()) ++figures_[Figure::batch_forgotten_with_jobs];
  batches_.erase(known);
  return expect_done(cookie);
}

bool Model::run(shard::Cookie cookie, GetBatch const& command) {
  if (!batches_.contains(command.id)) return expect_error(cookie, ErrorCode::batch_not_found);
  return answer_batch(cookie, command.id, false);
}

// A page shows all that it has come by and that were asked for, and says where it has ended, unless that was the end of
// all. Whoever goes on there is shown the rest: so none is left out, and none is shown twice.
bool Model::run(shard::Cookie cookie, ListBatches const& command) {
  BatchesReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  std::map<std::uint64_t, std::string> ids;
  for (auto const& [id, batch] : batches_) ids.emplace(batch.number, id);
  std::optional<std::uint64_t> end;
  std::size_t shown = 0;
  std::uint32_t looked_at = 0;
  auto older = command.before ? ids.lower_bound(as_number(*command.before)) : ids.end();
  for (; older != ids.begin() && shown < command.limit && looked_at < options_.steps_max; ++looked_at) {
    auto const& [number, id] = *--older;
    end = number;
    ModelBatch const& batch = batches_.at(id);
    if ((command.state && *command.state != state_of(batch)) || !is_among(batch, command.among)) continue;
    WM_SIM_HOLD(shown < reply->batches.size(), "a page of batches lacks {}", id);
    WM_SIM_STEP(compare_batch(id, batch, reply->batches[shown++]));
  }
  WM_SIM_HOLD(shown == reply->batches.size(), "a page of batches has {}, which does not belong there",
              reply->batches[shown].id);
  bool const is_all = older == ids.begin();
  WM_SIM_HOLD(reply->next.has_value() == !is_all, "a list of batches {}", is_all ? "has no end" : "ends too soon");
  WM_SIM_HOLD(is_all || as_number(*reply->next) == end, "a list of batches goes on behind {:x} instead of {:x}",
              as_number(*reply->next), end.value_or(0));
  if (command.state && shown > 0) ++figures_[Figure::batches_listed];
  if (command.among && !command.state && shown < looked_at) ++figures_[Figure::batch_list_among];
  if (command.before && shown > 0) ++figures_[Figure::batch_list_goes_on];
  if (!is_all && shown < command.limit) ++figures_[Figure::batch_list_cut_short];
  return true;
}

// What a job of these that is not there yet says of its batch: none may be unknown or closed. The first counts.
std::optional<ErrorCode> Model::refuse_batches(std::vector<Bytes> const& specs) {
  for (Bytes const& bytes : specs) {
    JobSpecView spec;
    if (!decode_spec(bytes, spec) || spec.batch.empty()) continue;
    // What a job that is there already names makes no difference, unless another of the bulk may drop it.
    if (ModelJob const* const same = find_same(spec)) {
      QueueSettings const& settings = queues_[same->queue].settings;
      if (specs.size() == 1 || !settings.max_depth || settings.when_full != WhenFull::drop_oldest) continue;
      ++figures_[Figure::batch_of_one_that_may_go];
    }
    auto const batch = batches_.find(std::string{spec.batch});
    if (batch == batches_.end()) return ErrorCode::batch_not_found;
    if (batch->second.closed_at) return ErrorCode::batch_closed;
  }
  return std::nullopt;
}

// ---- Jobs come and go.

void Model::join_batch(ModelJob const& job) {
  auto const batch = batches_.find(job.batch);
  if (batch == batches_.end()) return;
  batch->second.jobs.insert(raw(job.number));
  ++figures_[Figure::batch_joined];
}

void Model::leave_batch(ModelJob const& job) {
  ModelBatch* const batch = batch_of(job);
  if (batch == nullptr) return;
  bool const was_lost = callback_state(*batch, CallbackKind::success) == CallbackState::not_coming;
  batch->jobs.erase(raw(job.number));
  batch->gone.count(job.state);
  if (job.state == JobState::completed) return;
  batch->changed_at = now_;
  if (!was_lost && callback_state(*batch, CallbackKind::success) == CallbackState::not_coming) {
    ++figures_[Figure::batch_cannot_succeed];
  }
}

// The next two records say that a callback is enqueued.
bool Model::take_callback(effect::JobEnqueued const& made, effect::BatchFired const& fired) {
  auto const known = find_batch(fired.batch);
  WM_SIM_HOLD(known != batches_.end(), "a batch {:x} calls back, and is not there", as_number(fired.batch));
  ModelBatch& batch = known->second;
  auto const i = static_cast<std::size_t>(fired.callback);
  WM_SIM_HOLD(batch.closed_at.has_value(), "batch {} calls back, and is open", known->first);
  WM_SIM_HOLD(batch.called[i] == 0, "{} of batch {} comes twice", to_string(fired.callback), known->first);
  BatchCounts const counts = counts_of(batch);
  WM_SIM_HOLD(is_due(batch, fired.callback),
              "{} of batch {} comes with {} jobs of which {} are pending and {} completed", to_string(fired.callback),
              known->first, counts.total, counts.pending, counts.completed);
  WM_SIM_HOLD(fired.job == made.number && fired.at == now_, "{} of batch {} is written down wrongly",
              to_string(fired.callback), known->first);
  bool const was_finished = batch.called[static_cast<std::size_t>(CallbackKind::finish)] != 0;
  if (fired.callback == CallbackKind::success) {
    ++figures_[was_finished ? Figure::batch_succeeded_late : Figure::batch_succeeded];
  } else {
    ++figures_[counts.completed == counts.total ? Figure::batch_finished_well : Figure::batch_finished_badly];
  }
  at_ += 2;

  JobSpecView spec;
  WM_SIM_HOLD(decode_spec(batch.specs[i], spec).has_value(), "a spec that the workload made cannot be read");
  if (spec.traceparent.empty() && !batch.traceparent.empty()) {
    spec.traceparent = batch.traceparent;
    spec.tracestate = batch.tracestate;
  }
  Bytes wanted;
  encode_spec(spec, wanted);
  WM_SIM_HOLD(made.spec == wanted, "{} of batch {} is enqueued as another job", to_string(fired.callback),
              known->first);
  WM_SIM_HOLD(raw(made.number) > last_number_, "job number {:x} comes after {:x}", raw(made.number), last_number_);
  last_number_ = raw(made.number);
  ModelJob job;
  job.number = made.number;
  read_spec(job, wanted);
  job.due = now_ + spec.delay.value_or(Duration{0});
  job.state = job.due > now_ ? JobState::scheduled : JobState::ready;
  WM_SIM_HOLD(made.scheduled == (job.state == JobState::scheduled) && made.ready_at == job.due,
              "a callback becomes ready at {} instead of {}", to_ms(made.ready_at), to_ms(job.due));
  batch.called[i] = raw(made.number);
  batch.changed_at = now_;
  ++figures_[Figure::jobs_enqueued];
  ++queues_[job.queue].counters.enqueued;
  add(std::move(job));
  return true;
}

// The next record says that a batch was kept for its time.
bool Model::take_end_of_batch(effect::BatchForgotten const& gone) {
  auto const known = find_batch(gone.batch);
  WM_SIM_HOLD(known != batches_.end(), "batch {:x} was forgotten twice", as_number(gone.batch));
  WM_SIM_HOLD(is_over(known->second), "batch {} was forgotten, and is needed", known->first);
  WM_SIM_HOLD(known->second.changed_at + options_.batch_kept <= now_, "batch {} was forgotten {} ms early",
              known->first, (known->second.changed_at + options_.batch_kept - now_).count());
  ++at_;
  ++figures_[Figure::batch_kept_long_enough];
  batches_.erase(known);
  return true;
}

bool Model::check_batches() {
  for (auto const& [id, batch] : batches_) {
    for (CallbackKind const kind : kAllCallbackKinds) {
      WM_SIM_HOLD(!is_due(batch, kind), "{} of batch {} is due, and does not come", to_string(kind), id);
    }
    // It is kept from when the last of its jobs ended, or, where that was before a restart, from there on.
    Instant const from = std::max(batch.changed_at, batch.touched_at);
    WM_SIM_HOLD(!is_over(batch) || from + options_.batch_kept > now_, "batch {} is kept {} ms too long", id,
                (now_ - from - options_.batch_kept).count());
  }
  return true;
}

// With the records of a turn: what is in them has happened.
void Model::note_touched_batches() {
  auto const touch = [this](auto const& record) {
    if constexpr (requires { record.batch; }) {
      if (auto const batch = find_batch(record.batch); batch != batches_.end()) batch->second.touched_at = now_;
    }
    if constexpr (requires { record.number; }) {
      auto const job = jobs_.find(raw(record.number));
      if (job == jobs_.end()) return;
      if (ModelBatch* const batch = batch_of(job->second)) batch->touched_at = now_;
    }
  };
  if (batches_.empty()) return;
  for (Effect const& effect : effects_) std::visit(touch, effect);
}

void Model::note_due_batches() {
  for (auto const& [id, batch] : batches_) {
    if (is_due(batch, CallbackKind::success) || is_due(batch, CallbackKind::finish))
      ++figures_[Figure::batch_due_later];
  }
}

void Model::restart_batches() {
  for (auto& [id, batch] : batches_) {
    batch.touched_at = now_;
    for (CallbackKind const kind : kAllCallbackKinds) {
      if (is_due(batch, kind)) ++figures_[Figure::batch_due_at_start];
    }
  }
}

bool Model::take_batch_copy(effect::BatchCopied const& copy) {
  auto const known = find_batch(copy.batch);
  WM_SIM_HOLD(known != batches_.end() && known->first == copy.id, "batch {} was copied ahead, and is not there",
              copy.id);
  ModelBatch const& batch = known->second;
  bool is_right = copy.closed_at == batch.closed_at && copy.changed_at == batch.changed_at && copy.gone == batch.gone &&
                  copy.meta == batch.meta && copy.traceparent == batch.traceparent &&
                  copy.tracestate == batch.tracestate;
  for (CallbackKind const kind : kAllCallbackKinds) {
    auto const i = static_cast<std::size_t>(kind);
    bool const waits = callback_state(batch, kind) == CallbackState::waiting;
    is_right = is_right && raw(copy.callbacks[i].job) == batch.called[i] &&
               copy.callbacks[i].spec == (waits ? BytesView{batch.specs[i]} : BytesView{});
  }
  WM_SIM_HOLD(is_right, "batch {} was copied ahead wrongly", copy.id);
  ++figures_[batch.closed_at ? Figure::batch_copied_closed : Figure::batch_copied_open];
  return true;
}

}  // namespace workmill::sim
