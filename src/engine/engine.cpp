#include "engine/engine.h"

#include <utility>
#include <variant>

#include "base/assert.h"
#include "base/mutation.h"
#include "engine/commands/decide.h"
#include "engine/effects.h"
#include "engine/state.h"

namespace workmill::engine {

struct Engine::Impl {
  explicit Impl(EngineOptions const& options) : state(options) {}

  // Time does not go back, whatever the caller's clock does.
  Context guarded(Context const& context) const {
    return {.now = std::max(context.now, state.floor()), .chance = context.chance};
  }

  State state;
};

Engine::Engine(EngineOptions options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;

Result<> Engine::replay(Effect const& effect, EffectSink::Written at, Instant batch_at) {
  return impl_->state.replay(effect, at, batch_at);
}

void Engine::finish_replay(Instant now) { impl_->state.finish_replay(std::max(now, impl_->state.floor())); }

void Engine::create_store(std::uint64_t salt, EffectSink& sink) {
  WM_ASSERT(impl_->state.by_number().size() == 0);
  Effects{impl_->state, sink, impl_->state.floor()}.emit(effect::StoreCreated{.salt = salt});
}

void Engine::resume(Duration down, Context const& context, EffectSink& sink) {
  Effects{impl_->state, sink, impl_->guarded(context).now}.emit(effect::ServerResumed{.down = down});
}

std::uint64_t Engine::salt() const { return impl_->state.salt(); }

void Engine::begin_batch(Position base, EffectSink& sink) {
  if (impl_->state.store_at().segment >= base.segment || WM_MUTATION(only_first_segment_has_salt)) return;
  Effects{impl_->state, sink, impl_->state.floor()}.emit(impl_->state.store());
}

Reply Engine::execute(Command const& command, Context const& context, EffectSink& sink, bool* again) {
  Context const guarded = impl_->guarded(context);
  State const& state = impl_->state;
  Effects out{impl_->state, sink, guarded.now};
  *again = false;
  return std::visit(
      [&](auto const& asked) -> Reply {
        using Asked = std::remove_cvref_t<decltype(asked)>;
        if constexpr (std::is_same_v<Asked, GetStatus> || std::is_same_v<Asked, OpenStream> ||
                      std::is_same_v<Asked, TellStream> || std::is_same_v<Asked, ComputeCached> ||
                      std::is_same_v<Asked, ReadCached> || std::is_same_v<Asked, ForgetCachedBy>) {
          WM_ASSERT(false);  // The shard does that itself.
          return DoneReply{};
        } else if constexpr (requires { look(asked, state); }) {
          return look(asked, state);
        } else if constexpr (requires { decide(asked, state, guarded, out, *again); }) {
          return decide(asked, state, guarded, out, *again);
        } else {
          return decide(asked, state, guarded, out);
        }
      },
      command);
}

bool Engine::advance(Context const& context, EffectSink& sink) {
  Context const guarded = impl_->guarded(context);
  impl_->state.turn(guarded.now, impl_->state.options().steps_max);
  Effects out{impl_->state, sink, guarded.now};
  decide_due(impl_->state, guarded, out);
  auto const due = impl_->state.next_due();
  return due && *due <= guarded.now;
}

std::optional<Instant> Engine::next_due() const { return impl_->state.next_due(); }

void Engine::note_alive(EffectSink& sink) { Effects{impl_->state, sink, impl_->state.floor()}.emit(effect::Alive{}); }

bool Engine::has_ready(Lease const& request) const {
  for (QueueChoice const& choice : request.queues) {
    QueueIndex const queue = impl_->state.find_queue(choice.name);
    if (queue != kNone<QueueIndex> && impl_->state.queue(queue).can_lease()) return true;
  }
  return false;
}

std::uint64_t Engine::count_ready(Lease const& request) const {
  std::uint64_t ready = 0;
  for (QueueChoice const& choice : request.queues) {
    QueueIndex const index = impl_->state.find_queue(choice.name);
    if (index == kNone<QueueIndex>) continue;
    Queue const& queue = impl_->state.queue(index);
    if (queue.can_lease()) ready += queue.depth_in(JobState::ready) - queue.held_back;
  }
  return ready;
}

std::optional<LeasedJob> Engine::leased_job(JobNumber job) const {
  JobIndex const index = impl_->state.find(job);
  if (index == kNone<JobIndex>) return std::nullopt;
  JobSlot const& slot = impl_->state.job(index);
  if (slot.state != JobState::leased) return std::nullopt;
  JobExtra const* const more = impl_->state.extra(slot);
  return LeasedJob{.number = job,
                   .token = slot.token(),
                   .lease_expires_at = slot.due,
                   .attempt = slot.attempt,
                   .max_attempts = impl_->state.policy(slot).max_attempts,
                   .spec_at = slot.spec_at,
                   .spec_bytes = slot.spec_bytes,
                   .checkpoint_at = more != nullptr ? more->checkpoint_at : Position{}};
}

bool Engine::end_lease(JobNumber job, LeaseToken token, Context const& context, EffectSink& sink) {
  JobIndex const index = impl_->state.find(job);
  if (index == kNone<JobIndex>) return false;
  JobSlot const& slot = impl_->state.job(index);
  if (slot.state != JobState::leased || slot.token() != token) return false;
  Context const guarded = impl_->guarded(context);
  Effects out{impl_->state, sink, guarded.now};
  engine::end_lease(index, impl_->state, guarded, out);
  return true;
}

void Engine::watch(JobNumber job) { impl_->state.watch(job); }
void Engine::unwatch(JobNumber job) { impl_->state.unwatch(job); }
Happenings Engine::take_happenings() { return impl_->state.take_happenings(); }

std::optional<JobNumber> Engine::find(JobRef const& job) const {
  JobIndex const found = impl_->state.find(job);
  if (found == kNone<JobIndex>) return std::nullopt;
  return impl_->state.job(found).number;
}

std::optional<JobView> Engine::view(JobNumber job) const {
  JobIndex const found = impl_->state.find(job);
  if (found == kNone<JobIndex>) return std::nullopt;
  return impl_->state.view(found);
}

std::optional<std::string_view> Engine::queue_of(JobRef const& job) const {
  JobIndex const found = impl_->state.find(job);
  if (found == kNone<JobIndex>) return std::nullopt;
  return impl_->state.queue_of(impl_->state.job(found)).name;
}

std::optional<QueueView> Engine::queue_view(std::string_view name) const {
  QueueIndex const found = impl_->state.find_queue(name);
  if (found == kNone<QueueIndex>) return std::nullopt;
  return impl_->state.queue_view(impl_->state.queue(found));
}

Engine::Survival Engine::survive(Effect const& record, Position at, EffectSink& sink) {
  Effects out{impl_->state, sink, impl_->state.floor()};
  return decide_survival(record, at, impl_->state, out);
}

void Engine::copy_ahead(JobNumber job, BytesView spec, BytesView history, JobCheckpoint const& checkpoint,
                        EffectSink& sink) {
  JobIndex const index = impl_->state.find(job);
  WM_ASSERT(index != kNone<JobIndex>);
  JobSlot const& slot = impl_->state.job(index);
  bool const is_leased = slot.state == JobState::leased;
  // The spec is what it was, or is lost: there is no need to look into it.
  JobSpecView known;
  if (is_payload_lost(spec)) known.payload_kind = PayloadKind::lost;
  Effects{impl_->state, sink, impl_->state.floor()}.emit(
      effect::JobSnapshot{.number = job,
                          .patched = false,
                          .state = slot.state,
                          .cancel_requested = slot.cancel_requested,
                          .order = is_leased ? std::to_underlying(job) : slot.order,
                          .due = slot.due,
                          .token = is_leased ? slot.token() : LeaseToken{},
                          .attempt = slot.attempt,
                          .spec = spec,
                          .history = history,
                          .checkpoint = WM_MUTATION(copy_loses_checkpoint) ? BytesView{} : BytesView{checkpoint.data},
                          .checkpoint_lost = checkpoint.is_lost,
                          .is_overtaken = impl_->state.is_overtaken(slot)},
      known, index);
}

void Engine::end_damaged(JobNumber job, DamagedPart part, Context const& context, EffectSink& sink) {
  Context const guarded = impl_->guarded(context);
  Effects out{impl_->state, sink, guarded.now};
  JobIndex const index = impl_->state.find(job);
  WM_ASSERT(index != kNone<JobIndex>);
  decide_damaged(index, part, impl_->state, guarded, out);
}

Bytes Engine::known_spec(JobNumber job) const {
  JobIndex const index = impl_->state.find(job);
  if (index != kNone<JobIndex>) return impl_->state.known_spec(index);
  JobSpecView nothing;
  nothing.payload_kind = PayloadKind::lost;
  Bytes bytes;
  encode_spec(nothing, bytes);
  return bytes;
}

bool Engine::jobs_standing_in(Position from, Position until, JobNumber& before, std::vector<JobNumber>& out) const {
  std::uint32_t looked_at = 0;
  bool more = false;
  impl_->state.by_number().walk_older(before, [&](JobNumber number, JobIndex index) {
    if (looked_at == impl_->state.options().steps_max) {
      more = true;
      return false;
    }
    ++looked_at;
    before = number;
    Position const at = impl_->state.job(index).spec_at;
    if (at >= from && at < until) out.push_back(number);
    return true;
  });
  return more;
}

void Engine::rewrite_standing_in(Position from, Position until, EffectSink& sink) {
  State& state = impl_->state;
  Effects out{state, sink, state.floor()};
  auto const stands_there = [&](Position at) { return at >= from && at < until; };
  if (stands_there(state.store_at())) out.emit(state.store());
  state.queues().walk({}, [&](QueueIndex index) {
    Queue const& queue = state.queue(index);
    if (stands_there(queue.settings_at)) {
      out.emit(effect::QueueChanged{.name = queue.name, .settings = queue.settings});
    }
    return true;
  });
  state.flags().walk([&](std::string_view key, FlagTable::Changes const& changes) {
    for (FlagTable::Change const& change : changes) {
      if (stands_there(change.stands_at)) out.emit(change.effect(key));
    }
  });
}

std::optional<BatchNumber> Engine::rewrite_batches_standing_in(Position from, Position until, BatchNumber first,
                                                               std::size_t bytes_max, EffectSink& sink) {
  State& state = impl_->state;
  Effects out{state, sink, state.floor()};
  std::size_t bytes = 0;
  std::optional<BatchNumber> next;
  state.batches().walk_from(first, [&](BatchTable::Batch const& batch) {
    if (batch.stands_at < from || batch.stands_at >= until) return true;
    if (bytes >= bytes_max) {
      next = batch.number;
      return false;
    }
    out.emit(batch.copy());
    bytes += batch.bytes;
    return true;
  });
  return next;
}

std::optional<BatchNumber> Engine::find_batch(std::string_view id) const {
  BatchTable::Batch const* const batch = impl_->state.find_batch(id);
  if (batch == nullptr) return std::nullopt;
  return batch->number;
}

bool Engine::has_batch(BatchNumber number) const { return impl_->state.batches().find(number) != nullptr; }

std::optional<std::vector<std::string_view>> Engine::batch_queues(std::string_view id) const {
  BatchTable::Batch const* const batch = impl_->state.find_batch(id);
  if (batch == nullptr) return std::nullopt;
  std::vector<std::string_view> queues;
  for (BatchTable::Callback const& callback : batch->callbacks) {
    if (callback.exists()) queues.push_back(callback.queue);
  }
  return queues;
}
void Engine::batch_views(std::vector<BatchView>& out) const {
  out.clear();
  impl_->state.batches().walk([&out](BatchTable::Batch const& batch) { out.push_back(batch.view()); });
}

std::optional<JobNumber> Engine::flight_of(std::string_view cache_key) const {
  JobIndex const flight = impl_->state.find_flight(cache_key);
  if (flight == kNone<JobIndex>) return std::nullopt;
  return impl_->state.job(flight).number;
}
bool Engine::is_being_computed(std::string_view cache_key) const {
  return impl_->state.begun_flights().contains(cache_key);
}
bool Engine::is_overtaken(JobNumber job) const {
  JobIndex const found = impl_->state.find(job);
  return found != kNone<JobIndex> && impl_->state.is_overtaken(impl_->state.job(found));
}
std::size_t Engine::overtake_flights(std::string_view prefix, FlightFilter const& is_meant, EffectSink& sink) {
  Effects out{impl_->state, sink, impl_->state.floor()};
  return engine::overtake_flights(prefix, is_meant, impl_->state, out);
}
void Engine::note_cached_gone(std::string_view cache_key, EffectSink& sink) {
  Effects out{impl_->state, sink, impl_->state.floor()};
  engine::note_cached_gone(cache_key, impl_->state, out);
}
flags::FlagSetPtr const& Engine::flags() const { return impl_->state.flags().set(); }
std::uint64_t Engine::flags_revision() const { return impl_->state.flags().revision(); }

std::uint64_t Engine::live_records_in(std::uint32_t segment) const { return impl_->state.live_records_in(segment); }
std::uint64_t Engine::live_bytes() const { return impl_->state.live_bytes(); }
EngineStatus Engine::status() const { return impl_->state.status(); }
EngineOptions const& Engine::options() const { return impl_->state.options(); }
JobStageFigures const& Engine::job_stages() const { return impl_->state.job_stages(); }
std::vector<TypeFigures> const& Engine::types() const { return impl_->state.types(); }

void Engine::queue_views(std::vector<QueueView>& out) const {
  out.clear();
  impl_->state.queues().walk({}, [&](QueueIndex index) {
    out.push_back(impl_->state.queue_view(impl_->state.queue(index)));
    return true;
  });
}

std::string Engine::check_invariants() const { return impl_->state.check_invariants(); }

}  // namespace workmill::engine
