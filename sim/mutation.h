#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

// Servers that are broken on purpose, to prove the simulator: each must be caught. The first are made by wrapping (the
// log in faulty_log.cpp, what comes in and goes out in mutate.cpp). The others are mistakes in the code of src/ itself,
// behind WM_MUTATION (base/mutation.h), and are there only in a build with -DWM_MUTATIONS=ON.
namespace workmill::sim {

// clang-format off
#define WM_SIM_MUTATIONS(X)                                                                          \
  X(acknowledges_before_flush, "now and then a flush answers without having flushed")                \
  X(sync_lies, "the disk says that it has synced, and has not")                                      \
  X(drops_segment_early, "the oldest segment goes while its survivors are not yet durable elsewhere")\
  X(replay_skips_completions, "a restart forgets that jobs were completed")                          \
  X(replay_skips_leases, "a restart forgets leases")                                                 \
  X(replay_skips_extensions, "a restart forgets that leases were extended")                          \
  X(replay_skips_forgetting, "a restart brings back what was forgotten")                             \
  X(replay_skips_answers, "a restart forgets the answers to idempotent requests")                    \
  X(replay_skips_settings, "a restart forgets the settings of queues")                               \
  X(replay_skips_cancel_requests, "a restart forgets who was to be cancelled")                       \
  X(replay_skips_checkpoints, "a restart forgets checkpoints")                                       \
  X(replay_skips_snapshots, "a restart forgets what was copied ahead")                               \
  X(replay_skips_cached_values, "a restart forgets what was cached")                                 \
  X(replay_skips_cache_deletions, "a restart brings back what was deleted from the cache")           \
  X(replay_skips_flag_changes, "a restart forgets that flags were changed")                          \
  X(replay_skips_kills, "a restart forgets that flags were switched off")                            \
  X(replay_skips_flag_removals, "a restart brings back flags that were removed")                     \
  X(replay_skips_batch_closings, "a restart opens batches that were closed")                         \
  X(replay_skips_batch_deletions, "a restart brings back batches that were forgotten")               \
  X(replay_loses_last_batch, "a restart loses the newest batch")                                     \
  X(replay_time_is_wrong, "a restart takes the newest batch for an hour older")                      \
  X(forgets_fencing, "a report under an old token counts as if it were the new one")                 \
  X(forgets_idempotency, "a repeated request is carried out again")                                  \
  X(forgets_unique_keys, "every other job loses its unique key")                                     \
  X(forgets_priority, "every job has the same priority")                                             \
  X(runs_too_early, "a delayed job runs after half its delay")                                       \
  X(counts_released_attempts, "a released job is failed instead")                                    \
  X(takes_half_a_bulk, "the last job of a bulk is left out")                                         \
  X(answers_twice, "an answer is given again to the next who asks")                                  \
  X(ignores_pause, "a queue that is paused goes on")                                                 \
  X(serves_another_payload, "now and then a worker gets a payload with one byte changed")            \
  X(leases_too_short, "a lease is shorter than the worker was told")
#define WM_SIM_CODE_MUTATIONS(X)                                                                     \
  /* src/engine */                                                                                   \
  X(token_is_job_number, "a job has the same token in each lease")                                   \
  X(takes_any_token, "a report counts under any token while the job is leased")                      \
  X(retries_for_ever, "a failed job is retried beyond its attempts")                                 \
  X(lease_end_never_kills, "a job whose last lease runs out is ready again")                         \
  X(forgets_to_remember, "the answer to a request with a key is not written down")                   \
  X(group_keeps_its_turn, "the group that was served is served again")                               \
  X(full_queue_drops_youngest, "a full queue drops the youngest of a group")                         \
  X(restart_forgets_the_order, "after a restart, copies stand behind what is younger")               \
  X(forgets_finished_early, "how long a finished job is kept is rounded down")                       \
  X(copied_answer_keeps_its_place, "an answer copied ahead still counts for its old segment")        \
  X(key_is_held_to_the_end, "a unique key is held whatever becomes of its job")                      \
  X(restart_shortens_leases, "the time that the server was away counts against leases")              \
  X(copy_loses_log_lines, "a job copied ahead loses the lines that were logged")                     \
  X(copy_loses_checkpoint, "a job copied ahead loses its checkpoint")                                \
  X(first_checkpoint_wins, "a checkpoint does not take the place of the one before")                 \
  X(cancellation_sticks, "a job put in line again is still to be cancelled")                         \
  X(only_first_segment_has_salt, "the store's salt stands in the first segment only")                \
  /* src/log */                                                                                      \
  X(checksum_is_not_looked_at, "a batch is taken whatever its checksum says")                        \
  X(damage_is_taken_for_a_torn_tail, "a damaged batch that was durable is cut like a torn one")      \
  X(segments_behind_a_cut_stay, "segments behind a torn tail are not dropped")                          \
  X(flush_does_not_sync, "a flush writes and does not sync")                                         \
  X(syncs_newest_segment_only, "of a flush over two segments the first is not synced")               \
  X(drops_segment_unsynced, "a segment goes before what replaces it is synced")                      \
  X(serves_what_it_reads, "what is read back is not checked")                                        \
  X(damage_takes_its_block, "one damaged batch takes all that stand in its block of 64 KiB along")    \
  /* src/shard, src/engine: a payload that is damaged on the disk */                                 \
  X(damaged_payload_is_leased, "a worker gets a job without the payload that is damaged")            \
  X(damaged_job_is_dropped, "a job whose payload is damaged is forgotten instead of ended")            \
  X(damaged_checkpoint_is_passed_over, "a job whose checkpoint is damaged is handed out without it")  \
  /* src/shard: worker streams */                                                                     \
  X(stream_ignores_credit, "a stream gets jobs up to its credit, however many are out")              \
  X(dropped_stream_never_ends, "the leases of a worker that does not come back go on")               \
  X(resend_forgets_a_job, "a worker that comes back is not sent all that it lacks")                  \
  /* src/engine, src/shard, src/cache: the shared cache */                                                       \
  X(waiters_are_not_told_of_puts, "who waits for a flight goes on waiting when somebody puts the value")                \
  X(keeps_what_no_budget_holds, "a value that the cache can never hold is said to be kept")                             \
  X(overtaken_results_are_stored, "what was computed is stored, though its key was put or deleted meanwhile") \
  X(copy_loses_overtaking, "that a flight was overtaken is lost in a copy")                          \
  X(overtaken_flights_are_retried_for_nobody, "what was overtaken is tried again, though nobody waits for it") \
  X(refreshes_are_meant_by_their_specs_only, "a deletion by tag passes over who computes a value with the tag anew") \
  X(flight_result_is_lost, "a job computes a value, and it is not stored")                           \
  X(damaged_value_takes_its_failure_along, "what is remembered of a failure goes with a value that is damaged")       \
  X(failures_are_not_remembered, "that a value could not be computed is forgotten")                  \
  X(readers_see_what_is_not_durable, "a value is in the index before it is on disk")                 \
  X(evicted_values_come_back, "that a value gave way to others is not written down")                 \
  X(deletes_only_what_is_durable, "a deletion by tag or prefix passes over what is not yet on disk")   \
  X(deletion_ends_with_its_first_part, "a deletion by tag or prefix is answered when it has looked once") \
  X(deletes_only_what_is_in_memory, "a deletion by tag passes over what is on disk only")             \
  X(deletion_passes_over_one, "a deletion by tag goes on behind one that it has not looked at")       \
  X(restart_forgets_tags, "after a restart values have no tags")                                      \
  X(replaced_values_leave_their_tags, "a value without tags has those of the one before it")          \
  X(flights_are_one_a_queue, "a computation keeps others of its key from beginning in its own queue only") \
  X(leased_flights_let_others_begin, "a computation keeps others from beginning until it is leased")   \
  X(refreshes_do_not_begin, "who sees a stale value asks in vain for it to be computed anew")         \
  X(stale_values_begin_nothing, "the shard answers a stale value and has nobody compute it anew")      \
  X(everybody_may_refresh, "whoever sees a stale value is to have it computed anew")                   \
  X(claims_do_not_end, "once somebody was to have a value computed anew, nobody else ever is")         \
  X(values_end_a_moment_late, "a value is shown in the millisecond in which it is over")               \
  X(values_end_when_swept, "a value that is over is shown until it is swept")                          \
  X(values_end_when_they_are_durable, "what is not yet on disk is shown by the shard though it is over") \
  X(restart_begins_windows_anew, "after a restart a value lasts as long again")                        \
  X(jitter_lengthens, "chance makes the fresh time longer instead of shorter")                         \
  X(errors_bring_what_is_over, "who waits for a computation that fails gets a value that is over")     \
  X(ended_waits_read_no_disk, "who has waited in vain is not given what is on disk only")              \
  X(failures_end_when_swept, "that a value could not be computed is remembered until it is swept")     \
  X(what_is_read_back_is_beyond_the_budget, "what is read from the disk makes nothing else leave memory") \
  X(failures_are_beyond_the_budgets, "what is remembered of a failure makes nothing give way")         \
  X(tags_are_beyond_the_budget, "tags do not count as memory")                                         \
  X(disk_budget_is_not_kept, "nothing gives way for the budget of the disk")                           \
  X(memory_is_bounded_as_the_disk, "values leave memory where there is less room on the disk")         \
  X(lost_flight_frees_its_key, "a computation that is copied ahead without its damaged payload lets others begin")     \
  /* src/shard: cached values that another thread has the disk read */                                \
  X(changes_overtake_fetches, "who waits for the disk to read a value is not answered before it is put or deleted")   \
  X(what_was_fetched_waits_again, "a value that the disk has read has to be read again")             \
  X(who_hangs_up_takes_his_line_along, "who hangs up takes all along that wait for the same value")   \
  X(a_fetch_is_for_one, "of those who wait for the disk to read one value the first is answered")     \
  X(given_up_fetches_answer_nobody, "whose time is over while the disk reads is not told so")         \
  X(fetched_values_do_not_end, "a value that was over by the time that the disk had read it is answered") \
  X(drains_do_not_wait_for_fetches, "a server is said to be idle though somebody waits for the disk")  \
  /* src/flags, src/engine, src/shard: feature flags, and jobs that wait for them */                  \
  X(kill_switch_is_ignored, "a flag that is switched off goes on by its rules")                      \
  X(share_is_too_wide, "a share of a roll-out takes one from the next")                              \
  X(readers_see_flags_too_early, "a flag is seen changed before that is on disk")                    \
  X(copy_loses_flag_history, "of a flag only the newest change is copied ahead")                     \
  X(flag_history_is_cut_short, "one change too few is kept")                                         \
  X(flag_versions_begin_again, "a flag that was removed and is made again has a version that it had")  \
  X(removed_flag_keeps_its_gate, "the gate of a flag that is removed stays closed")                  \
  X(restart_opens_all_gates, "after a restart no job waits for a flag, until one is changed")        \
  X(closed_gate_lets_the_first_through, "who stands first when his gate closes is leased all the same") \
  X(opened_gate_stays_closed, "who stands aside does so for good")                                   \
  X(opened_gate_tells_nobody, "a worker that waits does not hear that a gate has opened")            \
  X(jobs_let_through_lose_their_order, "jobs whose gates have opened are leased out of their order")  \
  /* src/engine: batches */                                                                          \
  X(open_batch_calls_back, "a batch that is open calls back when its jobs have ended")               \
  X(dead_job_counts_as_completed, "on_success comes although a job is dead or cancelled")            \
  X(restart_forgets_callbacks, "after a restart, callbacks that were enqueued come again")           \
  X(copy_leaves_its_batch, "a job copied ahead is in no batch after a restart")                      \
  X(copied_batch_forgets_gone_jobs, "a batch copied ahead loses its count of jobs that are gone")    \
  X(copied_batch_calls_back_again, "a batch copied ahead loses that a callback was enqueued")        \
  X(pages_of_batches_leave_one_out, "a list of batches goes on behind one that it has not shown")    \
  X(batches_that_are_over_seem_to_wait, "a list of batches shows those that are over as if they waited")
// clang-format on

enum class Mutation : std::uint8_t {
  none,
#define WM_SIM_NAME(name, text) name,
  WM_SIM_MUTATIONS(WM_SIM_NAME) WM_SIM_CODE_MUTATIONS(WM_SIM_NAME)
#undef WM_SIM_NAME
};

struct MutationText {
  Mutation mutation;
  bool is_in_code;
  std::string_view name, text;
};
inline constexpr std::array kMutations{
#define WM_SIM_TEXT(name, text) MutationText{Mutation::name, false, #name, text},
    WM_SIM_MUTATIONS(WM_SIM_TEXT)
#undef WM_SIM_TEXT
#define WM_SIM_TEXT(name, text) MutationText{Mutation::name, true, #name, text},
        WM_SIM_CODE_MUTATIONS(WM_SIM_TEXT)
#undef WM_SIM_TEXT
};

constexpr std::optional<Mutation> parse_mutation(std::string_view name) {
  for (MutationText const& known : kMutations) {
    if (known.name == name) return known.mutation;
  }
  return std::nullopt;
}

// Is this build able to? Turns it on, where it is one of the code's; there is one at a time in a process.
bool turn_on(Mutation mutation);

}  // namespace workmill::sim
