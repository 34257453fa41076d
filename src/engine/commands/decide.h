#pragma once
#include "engine/effects.h"
#include "engine/engine.h"
#include "engine/state.h"
#include "model/command.h"
#include "model/reply.h"

// One function for each command: it looks at the state, checks, and hands out effects. Nothing but their application
// changes the state, which is why each gets it as const.
namespace workmill::engine {

Reply decide(Enqueue const& command, State const& state, Context const& context, Effects& out);
Reply decide(Lease const& command, State const& state, Context const& context, Effects& out);
Reply decide(ReportBatch const& command, State const& state, Context const& context, Effects& out);
Reply decide(CancelJob const& command, State const& state, Context const& context, Effects& out);
Reply decide(RetryJob const& command, State const& state, Context const& context, Effects& out);
Reply decide(DeleteJob const& command, State const& state, Context const& context, Effects& out);
Reply decide(PatchJob const& command, State const& state, Context const& context, Effects& out);
Reply decide(PatchQueue const& command, State const& state, Context const& context, Effects& out);
Reply decide(PutCache const& command, State const& state, Context const& context, Effects& out);
Reply decide(ForgetCached const& command, State const& state, Context const& context, Effects& out);

Reply decide(SetFlag const& command, State const& state, Context const& context, Effects& out);
Reply decide(RemoveFlag const& command, State const& state, Context const& context, Effects& out);

Reply decide(MakeBatch const& command, State const& state, Context const& context, Effects& out);
Reply decide(CloseBatch const& command, State const& state, Context const& context, Effects& out);
Reply decide(ForgetBatch const& command, State const& state, Context const& context, Effects& out);

// These do a bounded part at a time, and set `again` where there may be more, from the reply's `next` on.
Reply decide(BulkJobs const& command, State const& state, Context const& context, Effects& out, bool& again);
Reply decide(PurgeQueue const& command, State const& state, Context const& context, Effects& out, bool& again);

// These only look.
Reply look(GetJob const& command, State const& state);
Reply look(GetJobLog const& command, State const& state);
Reply look(ListJobs const& command, State const& state);
Reply look(ListQueues const& command, State const& state);
Reply look(GetQueue const& command, State const& state);
Reply look(GetFlagHistory const& command, State const& state);
Reply look(GetBatch const& command, State const& state);
Reply look(ListBatches const& command, State const& state);

// What falls due, steps_max effects at a time.
void decide_due(State const& state, Context const& context, Effects& out);
// A lease is over, and its worker has not reported: counted as an attempt.
void end_lease(JobIndex job, State const& state, Context const& context, Effects& out);
// The record of a job that is not finished cannot be read any more.
void decide_damaged(JobIndex job, DamagedPart part, State const& state, Context const& context, Effects& out);
Engine::Survival decide_survival(Effect const& record, Position at, State const& state, Effects& out);

// --- Shared by several.

std::vector<ReportResult> decide_reports(std::vector<Report> const& reports, State const& state, Context const& context,
                                         Effects& out);
// Will the queue take one more unfinished job? If it is full and drops its oldest, that is dropped now; where that
// is not possible either, queue_full.
Result<> make_room(Queue const& queue, State const& state, Context const& context, Effects& out);
// A job has just been completed or cancelled: forgets it where nothing of it is to be kept, and what the queue's
// budget covers no more.
void forget_surplus(JobIndex job, State const& state, Effects& out);
void cancel(JobIndex job, State const& state, Context const& context, Effects& out);
// The end of a job, and the word of it to its batch.
void forget(JobIndex job, State const& state, Effects& out);

// A new job, whatever is there already and however full its queue is. `bytes` are the spec's.
EnqueuedJob enqueue_new(BytesView bytes, JobSpecView const& spec, State const& state, Context const& context,
                        Effects& out);
// Enqueues the callbacks of a batch that are due, once and for all. How many bytes their specs have.
std::size_t call_back(BatchTable::Batch const& batch, State const& state, Context const& context, Effects& out);
// May a job be put into this batch? batch_not_found, batch_closed.
Result<> check_batch(std::string_view id, State const& state);

// A job is about to be completed: stores what its report sets, and what it was to compute. The keys of what the cache
// can never hold (ReportResult::not_stored).
std::vector<std::string> store_results(JobSlot const& job, Completed const& completed, State const& state,
                                       Context const& context, Effects& out);
// `failed` has just been done to a job. If it is dead by that and was to compute a value, that is remembered.
void note_flight_failed(JobSlot const& job, effect::JobFailed const& failed, State const& state, Context const& context,
                        Effects& out);

// Is another attempt of no use to anybody? Of a flight that was overtaken nothing is kept, and nobody waits for it.
bool is_for_nobody(JobSlot const& job, State const& state);

// The key's entry has gone by itself. As ForgetCached, but nobody has asked for it.
void note_cached_gone(std::string_view key, State const& state, Effects& out);
// See Engine.
std::size_t overtake_flights(std::string_view prefix, FlightFilter const& is_meant, State const& state, Effects& out);

Error no_such_job();
Error no_such_queue(std::string_view name);
// `field`: of the request, where it names the batch in one.
Error no_such_batch(std::string_view field = {});
Error queue_full(std::string_view name);

}  // namespace workmill::engine
