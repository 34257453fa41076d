#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "engine/commands/decide.h"
#include "model/job.h"

// What callers do to batches, and see of them; and what a batch does when its jobs have ended.
namespace workmill::engine {
namespace {

// What a page shows of batches: with one batch more, the most. Their meta, above all.
constexpr std::size_t kPageBytesMax = std::size_t{4} << 20;

// How many batches one that is made can push out. One is the rule; more only where the bound was made smaller.
constexpr int kSurplusPerBatch = 2;
// And so many for its bytes, if those that are over are smaller: what is still too much then goes with the next ones.
constexpr int kSmallOnesPerBatch = 32;

bool is_among(BatchTable::Batch const& batch, AllowedQueues const& allowed) {
  return allowed == nullptr || std::ranges::all_of(batch.callbacks, [&](BatchTable::Callback const& callback) {
           return !callback.exists() || allowed->contains(callback.queue);
         });
}

Error batch_closed() {
  return {.code = ErrorCode::batch_closed,
          .message = "the batch is closed: no job is put into it any more",
          .field = "batch"};
}

}  // namespace

Error no_such_batch(std::string_view field) {
  return {.code = ErrorCode::batch_not_found,
          .message = "there is no such batch, or no longer",
          .field = std::string{field}};
}

Result<> check_batch(std::string_view id, State const& state) {
  BatchTable::Batch const* const batch = state.find_batch(id);
  if (batch == nullptr) return std::unexpected(no_such_batch("batch"));
  if (batch->closed_at) return std::unexpected(batch_closed());
  return {};
}

Reply decide(MakeBatch const& command, State const& state, Context const& context, Effects& out) {
  if (command.idempotency) {
    auto const* const kept = state.remembered(command.idempotency->key, context.now);
    if (kept && kept->fingerprint != command.idempotency->fingerprint) {
      return Error{.code = ErrorCode::idempotency_key_reused,
                   .message = "this Idempotency-Key came with another request before"};
    }
    if (kept) {
      auto const first = decode_enqueue_reply(kept->reply);
      if (!first) return first.error();
      WM_ASSERT(first->jobs.size() == 1);
      auto const* const batch = state.batches().find(BatchNumber{std::to_underlying(first->jobs[0].number)});
      if (batch == nullptr) return no_such_batch();
      return BatchReply{.batch = batch->view(), .replayed = true};
    }
  }

  BatchTable const& batches = state.batches();
  BatchTable::Batch const* batch = command.id.empty() ? nullptr : state.find_batch(command.id);
  bool const is_new = batch == nullptr;
  if (!is_new && batch->fingerprint != BatchTable::fingerprint(command.on_success, command.on_finish, command.meta)) {
    return Error{.code = ErrorCode::batch_exists, .message = "another batch has this id", .field = "id"};
  }
  if (is_new) {
    if (batches.is_full() && !batches.next_to_go()) {
      return Error{.code = ErrorCode::batches_full,
                   .message = "there are " + std::to_string(batches.size()) +
                              " batches, as many as may be, and all are open or wait for jobs"};
    }
    if (!batches.can_have_room_for(command)) {
      return Error{
          .code = ErrorCode::batches_full,
          .message = "the callbacks of batches that are open or wait for jobs take as much memory as they may"};
    }
    // More than one where the bound has become smaller: so it is reached in time.
    for (int i = 0; i < kSurplusPerBatch && batches.is_full() && batches.next_to_go(); ++i) {
      out.emit(effect::BatchForgotten{.batch = batches.first_to_go()});
    }
    for (int i = 0; i < kSmallOnesPerBatch && !batches.has_room_for(command) && batches.next_to_go(); ++i) {
      out.emit(effect::BatchForgotten{.batch = batches.first_to_go()});
    }
    BatchNumber const number{std::to_underlying(state.next_number(context.now))};
    std::string id;
    if (command.id.empty()) {
      JobIdCodec::Text const text = JobIdCodec{state.salt()}.encode(JobNumber{std::to_underlying(number)});
      id.assign(text.data(), text.size());
    } else {
      id = state.spelled(command.id);
    }
    out.emit(effect::BatchMade{.batch = number,
                               .id = id,
                               .on_success = command.on_success,
                               .on_finish = command.on_finish,
                               .meta = command.meta,
                               .traceparent = command.traceparent,
                               .tracestate = command.tracestate});
    batch = batches.find(number);
  }
  if (command.idempotency) {
    Bytes encoded;
    encode_enqueue_reply({.jobs = {{.number = JobNumber{std::to_underlying(batch->number)}}}}, encoded);
    out.emit(effect::RequestRemembered{.key = command.idempotency->key,
                                       .fingerprint = command.idempotency->fingerprint,
                                       .until = context.now + kIdempotencyKept,
                                       .reply = encoded});
  }
  return BatchReply{.batch = batch->view(), .created = is_new};
}

Reply decide(CloseBatch const& command, State const& state, Context const& context, Effects& out) {
  BatchTable::Batch const* const batch = state.find_batch(command.id);
  if (batch == nullptr) return no_such_batch();
  if (!batch->closed_at) out.emit(effect::BatchClosed{.batch = batch->number, .at = context.now});
  return BatchReply{.batch = batch->view()};
}

Reply decide(ForgetBatch const& command, State const& state, Context const&, Effects& out) {
  BatchTable::Batch const* const batch = state.find_batch(command.id);
  if (batch == nullptr) return no_such_batch();
  out.emit(effect::BatchForgotten{.batch = batch->number});
  return DoneReply{};
}

Reply look(GetBatch const& command, State const& state) {
  BatchTable::Batch const* const batch = state.find_batch(command.id);
  if (batch == nullptr) return no_such_batch();
  return BatchReply{.batch = batch->view()};
}

Reply look(ListBatches const& command, State const& state) {
  BatchesReply reply;
  std::size_t bytes = 0;
  std::uint32_t looked_at = 0;
  BatchNumber last{};
  state.batches().walk_older(command.before.value_or(BatchNumber{UINT64_MAX}), [&](BatchTable::Batch const& batch) {
    if (reply.batches.size() == command.limit || looked_at == state.options().steps_max || bytes >= kPageBytesMax) {
      reply.next = WM_MUTATION(pages_of_batches_leave_one_out) ? batch.number : last;
      return false;
    }
    ++looked_at;
    last = batch.number;
    BatchState is = batch.state();
    if (WM_MUTATION(batches_that_are_over_seem_to_wait) && is == BatchState::over) is = BatchState::closed;
    bool const is_wanted = !command.state || is == *command.state;
    if (!is_wanted || !is_among(batch, command.among)) return true;
    bytes += batch.meta.size();
    reply.batches.push_back(batch.view());
    return true;
  });
  return reply;
}

std::size_t call_back(BatchTable::Batch const& batch, State const& state, Context const& context, Effects& out) {
  std::size_t written = 0;
  for (CallbackKind const kind : kAllCallbackKinds) {
    if (!batch.is_due_for(kind)) continue;
    Bytes bytes = batch.callback(kind).spec;
    JobSpecView spec;
    auto is_spec = decode_spec(bytes, spec);
    WM_ASSERT(is_spec.has_value());  // Looked at when it was sent, or replayed.
    if (spec.traceparent.empty() && !batch.traceparent.empty()) {
      // Of the request that made the batch: so what it enqueues is in one trace with that.
      spec.traceparent = batch.traceparent;
      spec.tracestate = batch.tracestate;
      Bytes traced;
      encode_spec(spec, traced);
      bytes.swap(traced);
      is_spec = decode_spec(bytes, spec);
      WM_ASSERT(is_spec.has_value());
    }
    EnqueuedJob const job = enqueue_new(bytes, spec, state, context, out);
    out.emit(effect::BatchFired{.batch = batch.number, .callback = kind, .job = job.number, .at = context.now});
    written += bytes.size();
  }
  return written;
}

}  // namespace workmill::engine
