#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/mutation.h"
#include "engine/commands/decide.h"
#include "model/job.h"

namespace workmill::engine {
namespace {

Instant ready_at(JobSpecView const& spec, Instant now) {
  if (spec.run_at) return std::max(*spec.run_at, now);
  return now + spec.delay.value_or(Duration{0});
}

// The job that is there already for this one: by its id, by its key, or by that of the value that it computes.
JobIndex find_same(JobSpecView const& spec, State const& state, Instant now) {
  if (!spec.id.empty()) {
    JobRef ref{.number = JobIdCodec{state.salt()}.decode(spec.id), .text = {}};
    if (!ref.number) ref.text = spec.id;
    JobIndex const same = state.find(ref);
    if (same != kNone<JobIndex>) return same;
  }
  if (!spec.cache_key.empty()) return state.find_flight(spec.cache_key);
  return spec.unique_key.empty() ? kNone<JobIndex> : state.find_unique(spec.queue, spec.unique_key, now);
}

// How many jobs of a queue could be dropped for others: those that may be leased. Of those that a gate holds back
// behind others it is known only when the others have gone; until then they count, so that a bulk which drops many may
// be let into a queue that has less room.
std::uint64_t droppable(Queue const& queue) {
  return queue.filled == 0 ? 0 : queue.depth_in(JobState::ready) - queue.held_back;
}

bool drops_oldest(Queue const& queue) {
  return queue.settings.max_depth && queue.settings.when_full == WhenFull::drop_oldest;
}

// Would every queue have room for its share? Plays the bulk through on figures alone, duplicates inside it included,
// so that all of it is taken or nothing. Only asked where some queue has a bound.
Result<> check_room(std::vector<Bytes> const& specs, State const& state, Instant now, JobSpecView& spec) {
  struct Room {
    std::uint64_t unfinished = 0;
    std::uint64_t droppable = 0;
  };
  absl::flat_hash_map<QueueIndex, Room> rooms;
  absl::flat_hash_set<std::string_view> ids;  // Borrowed from the specs.
  absl::flat_hash_set<std::pair<std::string_view, std::string_view>> keys;
  for (Bytes const& bytes : specs) {
    WM_TRY_VOID(decode_spec(bytes, spec));
    if (find_same(spec, state, now) != kNone<JobIndex>) continue;
    if (!spec.id.empty() && ids.contains(spec.id)) continue;
    bool const is_scheduled = ready_at(spec, now) > now;
    bool const claims_key = !spec.unique_key.empty() && (is_scheduled || spec.unique_while != UniqueWhile::scheduled);
    if (!spec.unique_key.empty() && keys.contains({spec.queue, spec.unique_key})) continue;

    QueueIndex const index = state.find_queue(spec.queue);
    if (index != kNone<QueueIndex> && state.queue(index).settings.max_depth) {
      Queue const& queue = state.queue(index);
      auto const [found, is_new] = rooms.try_emplace(index, Room{queue.unfinished(), droppable(queue)});
      Room& room = found->second;
      if (room.unfinished >= *queue.settings.max_depth) {
        if (queue.settings.when_full == WhenFull::refuse || room.droppable == 0)
          return std::unexpected(queue_full(queue.name));
        --room.droppable;
        --room.unfinished;
      }
      ++room.unfinished;
      if (!is_scheduled && !state.ready().is_closed(spec.type)) ++room.droppable;
    }
    if (!spec.id.empty()) ids.insert(spec.id);
    if (claims_key) keys.insert({spec.queue, spec.unique_key});
  }
  return {};
}

EnqueuedJob answer_for(JobIndex index, State const& state) {
  JobSlot const& job = state.job(index);
  JobExtra const* const more = state.extra(job);
  return {.number = job.number, .client_id = more ? more->client_id : Bytes{}, .state = job.state};
}

EnqueuedJob enqueue_one(Bytes const& bytes, JobSpecView const& spec, State const& state, Context const& context,
                        Effects& out) {
  JobIndex const same = find_same(spec, state, context.now);
  if (same != kNone<JobIndex>) {
    out.count_duplicate(same);
    EnqueuedJob answer = answer_for(same, state);
    answer.duplicate = true;
    return answer;
  }
  if (state.limited_queues() > 0) {
    QueueIndex const queue = state.find_queue(spec.queue);
    // check_room() has looked. Only where this bulk has dropped a job whose key a later one of it brings again, or jobs
    // that wait for gates stand behind those that it drops, can the queue end up over its bound, by those.
    if (queue != kNone<QueueIndex>) (void)make_room(state.queue(queue), state, context, out);
  }
  return enqueue_new(bytes, spec, state, context, out);
}

// All or none: a job that would make an error of the whole is found before any is enqueued. Of a job that is there
// already it makes no difference what it names, if it still is when its turn comes: another of this bulk may drop it
// from a queue that drops its oldest.
Result<> check_batches(std::vector<Bytes> const& specs, State const& state, Instant now, JobSpecView& spec) {
  for (Bytes const& bytes : specs) {
    if (!names_batch(bytes)) continue;
    WM_TRY_VOID(decode_spec(bytes, spec));
    JobIndex const same = find_same(spec, state, now);
    bool const may_go = specs.size() > 1 && same != kNone<JobIndex> && drops_oldest(state.queue_of(state.job(same)));
    if (same == kNone<JobIndex> || may_go) WM_TRY_VOID(check_batch(spec.batch, state));
  }
  return {};
}

}  // namespace

EnqueuedJob enqueue_new(BytesView bytes, JobSpecView const& spec, State const& state, Context const& context,
                        Effects& out) {
  Instant const at = ready_at(spec, context.now);
  bool const is_scheduled = at > context.now;
  JobNumber const number = state.next_number(context.now);
  std::uint64_t const order = is_scheduled ? std::to_underlying(number) : state.next_order(context.now);
  out.emit(
      effect::JobEnqueued{.number = number, .order = order, .ready_at = at, .scheduled = is_scheduled, .spec = bytes},
      spec);
  return {.number = number, .client_id = Bytes{spec.id}, .state = is_scheduled ? JobState::scheduled : JobState::ready};
}

Result<> make_room(Queue const& queue, State const& state, Context const& context, Effects& out) {
  if (!queue.settings.max_depth || queue.unfinished() < *queue.settings.max_depth) return {};
  JobIndex const oldest = state.ready().oldest_of_lowest(queue);
  if (queue.settings.when_full == WhenFull::refuse || oldest == kNone<JobIndex>) {
    return std::unexpected(queue_full(queue.name));
  }
  cancel(oldest, state, context, out);
  return {};
}

Reply decide(Enqueue const& command, State const& state, Context const& context, Effects& out) {
  JobSpecView spec;
  if (command.idempotency) {
    auto const* const kept = state.remembered(command.idempotency->key, context.now);
    if (kept && kept->fingerprint != command.idempotency->fingerprint) {
      return Error{.code = ErrorCode::idempotency_key_reused,
                   .message = "this Idempotency-Key came with another request before"};
    }
    if (kept) {
      auto reply = decode_enqueue_reply(kept->reply);
      if (!reply) return std::move(reply).error();
      reply->replayed = true;
      return *std::move(reply);
    }
  }
  if (auto const batches = check_batches(command.specs, state, context.now, spec); !batches) return batches.error();
  if (state.limited_queues() > 0) {
    auto const room = check_room(command.specs, state, context.now, spec);
    if (!room) return room.error();
  }

  EnqueueReply reply;
  reply.jobs.reserve(command.specs.size());
  for (Bytes const& bytes : command.specs) {
    bool const is_spec = decode_spec(bytes, spec).has_value();
    WM_ASSERT(is_spec);  // Who made the command encoded it.
    reply.jobs.push_back(enqueue_one(bytes, spec, state, context, out));
  }
  if (command.idempotency && !WM_MUTATION(forgets_to_remember)) {
    Bytes encoded;
    encode_enqueue_reply(reply, encoded);
    out.emit(effect::RequestRemembered{.key = command.idempotency->key,
                                       .fingerprint = command.idempotency->fingerprint,
                                       .until = context.now + kIdempotencyKept,
                                       .reply = encoded});
  }
  return reply;
}

}  // namespace workmill::engine
