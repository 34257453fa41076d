#pragma once
#include <array>
#include <cstdint>
#include <iterator>
#include <string_view>

// What a run has met: what is not counted was not tested. A long run that never met one of the rare states fails.
namespace workmill::sim {

enum class FigureKind : std::uint8_t { amount, fault, rare };

// clang-format off
#define WM_SIM_FIGURES(X)                                                                                             \
  X(operations, amount, "requests sent")                                                                              \
  X(turns, amount, "turns of the shard")                                                                              \
  X(batches, amount, "flushes")                                                                                       \
  X(jobs_enqueued, amount, "jobs taken")                                                                              \
  X(jobs_leased, amount, "leases given")                                                                              \
  X(reports_accepted, amount, "reports under a current token")                                                        \
  X(reports_refused, amount, "reports under any other")                                                               \
  X(jobs_completed, amount, "jobs completed")                                                                         \
  X(jobs_failed, amount, "attempts that failed")                                                                      \
  X(restarts, amount, "ends of the process")                                                                          \
  X(audits, amount, "comparisons of every job and queue with the model")                                              \
  X(invariant_checks, amount, "recounts of the engine by itself")                                                     \
  X(disk_bound_checks, amount, "checks of 2.5 times what lives and two segments, at rest")                            \
  X(flags_evaluated, amount, "flags evaluated for somebody")                                                          \
  X(doctor_visits, amount, "logs that the doctor has read")                                                           \
  X(batch_due_at_start, amount, "callbacks that are due when the server starts")                                      \
  X(stream_again_damaged, amount, "jobs that were to be sent again on a stream, and turned out to be damaged")        \
                                                                                                                      \
  X(fault_kill, fault, "the process is killed")                                                                       \
  X(fault_power_cut, fault, "the power is cut, and nothing unsynced is left")                                         \
  X(fault_power_cut_prefix, fault, "the power is cut, and a prefix of what was unsynced is left, torn at any byte")   \
  X(fault_power_cut_sectors, fault, "the power is cut, and random sectors of what was unsynced are left")             \
  X(fault_write_failed, fault, "a write fails, and has written a part")                                               \
  X(fault_sync_failed, fault, "a sync fails")                                                                         \
  X(fault_disk_full, fault, "the disk is truly full")                                                                 \
  X(fault_in_recovery, fault, "the disk fails during a recovery")                                                     \
  X(fault_bit_flipped, fault, "a bit turns on the disk while the server is down")                                     \
  X(fault_bit_flipped_in_life, fault, "a bit turns on the disk while the server runs")                                \
  X(fault_slow_flush, fault, "time goes by in a flush")                                                               \
  X(fault_clock_back, fault, "the clock is set back")                                                                 \
  X(fault_stall, fault, "the process stands still for minutes or hours")                                              \
  X(reply_lost, fault, "an answer is lost on its way")                                                                \
                                                                                                                      \
  X(orderly_stop, rare, "the server drains, seals its log and ends")                                                  \
  X(died_unanswered_and_lost, rare, "a turn nobody was answered in is gone after the restart")                        \
  X(died_unanswered_but_durable, rare, "a turn nobody was answered in is there after the restart")                    \
  X(died_in_recovery_after_owning, rare, "the start fails once the log has its new owner")                            \
  X(died_while_copying, rare, "death during the copying of survivors")                                                \
  X(died_with_requests_waiting, rare, "death with requests that no turn has seen")                                    \
  X(died_with_workers_waiting, rare, "death while somebody waits for a job or for its end")                           \
  X(died_in_bulk, rare, "death between the parts of an action on many jobs")                                          \
  X(torn_tail_cut, rare, "a torn batch is cut at a start")                                                            \
  X(tail_of_several_batches_lost, rare, "more than one batch is gone after a power cut")                              \
  X(answered_before_durable_and_lost, rare, "durability interval or os: an answered turn is gone after a power cut")  \
                                                                                                                      \
  X(flushed_by_writer, rare, "a flush that the turn handed to the writer")                                            \
  X(several_turns_in_one_flush, rare, "one flush of the writer makes several turns durable")                          \
  X(turn_while_flush_under_way, rare, "a turn is decided between a flush's end and its being heard of")               \
  X(died_with_flush_done_unheard, rare, "death when the writer has flushed, and the shard does not know")             \
  X(died_with_several_turns_open, rare, "death with several turns decided and not durable")                           \
  X(open_turns_partly_lost, rare, "of several such turns some are there after the restart, and some are not")         \
  X(flush_changed_hands, rare, "flushes move between the turn and the writer")                                        \
  X(paused_for_unflushed, rare, "turns stop because too much is staged")                                              \
  X(report_due_in_group_commit, rare, "a lease that ends while its report is in the group commit")                    \
                                                                                                                      \
  X(segment_dropped, rare, "the oldest segment is dropped")                                                           \
  X(survivor_copied, rare, "a job is copied ahead")                                                                   \
  X(leased_job_copied, rare, "a leased job is copied ahead")                                                          \
  X(finished_job_copied, rare, "a finished job is copied ahead")                                                      \
  X(checkpoint_copied, rare, "a job is copied ahead with its checkpoint")                                             \
  X(settings_copied, rare, "a queue's settings are copied ahead")                                                     \
  X(answer_copied, rare, "a kept answer is copied ahead")                                                             \
                                                                                                                      \
  X(lease_expired, rare, "a lease runs out")                                                                          \
  X(lease_expired_to_dead, rare, "a lease runs out in the last attempt")                                              \
  X(lease_expired_to_cancelled, rare, "a lease runs out whose job is to be cancelled")                                \
  X(report_after_deadline_accepted, rare, "a report comes after the deadline and before anybody looked")              \
  X(report_late_refused, rare, "a report comes under a token that is over")                                           \
  X(report_foreign_token, rare, "a report comes under another job's token")                                           \
  X(report_twice, rare, "a worker reports twice")                                                                     \
  X(report_unknown_job, rare, "a report on a job that is not there")                                                  \
  X(lease_lengthened_by_restart, rare, "a lease gets the time that the server was away")                              \
  X(checkpoint_replaced, rare, "a checkpoint takes the place of the one before")                                      \
  X(checkpoint_handed_on, rare, "an attempt gets what the one before left")                                           \
  X(checkpoint_handed_on_after_restart, rare, "an attempt gets what one before a restart left")                       \
  X(checkpoint_after_retry, rare, "a job that was dead and is retried gets what it had left")                         \
  X(checkpoint_patched, rare, "a job is changed and keeps its checkpoint")                                            \
  X(expired_before_lease, rare, "a job expires unleased")                                                             \
  X(scheduled_became_ready, rare, "a scheduled job becomes ready")                                                    \
  X(several_became_ready_at_once, rare, "several become ready in one turn")                                           \
  X(advance_in_parts, rare, "more is due than one step moves")                                                        \
  X(retried_with_backoff, rare, "a failed job waits for its retry")                                                   \
  X(retried_at_once, rare, "a failed job is ready at once")                                                           \
  X(died_of_attempts, rare, "a job is dead as its attempts are used up")                                              \
  X(died_of_class, rare, "a job is dead as its error says so")                                                        \
  X(failed_while_cancel_requested, rare, "a job fails that is to be cancelled")                                       \
  X(released_while_cancel_requested, rare, "a job is released that is to be cancelled")                               \
  X(completed_while_cancel_requested, rare, "a job is completed that was to be cancelled")                            \
  X(duplicate_by_id, rare, "a job comes again under its client's id")                                                 \
  X(duplicate_by_key, rare, "a job comes whose unique key another holds")                                             \
  X(duplicate_in_one_bulk, rare, "a duplicate within one bulk")                                                       \
  X(duplicate_while_first_undurable, rare, "a duplicate arrives while the first is not yet durable")                  \
  X(key_free_again, rare, "a unique key is taken that its holder has let go")                                         \
  X(idempotent_replay, rare, "a repeated request gets its first answer")                                              \
  X(idempotent_replay_after_restart, rare, "a repeated request gets its first answer from an earlier life")           \
  X(idempotent_key_reused, rare, "an idempotency key comes with another request")                                     \
  X(answer_forgotten_early, rare, "more answers than are kept: the oldest goes")                                      \
  X(queue_full_refused, rare, "a full queue refuses")                                                                 \
  X(queue_full_dropped_oldest, rare, "a full queue drops its oldest")                                                 \
  X(budget_forgot_finished, rare, "more finished jobs than are kept: the oldest goes")                                \
  X(kept_nothing, rare, "a job that is not kept at all")                                                              \
  X(kept_long_enough, rare, "a finished job's time is over")                                                          \
  X(dead_kept_long_enough, rare, "a dead job's time is over")                                                         \
  X(idle_queue_removed, rare, "a queue that nobody uses goes")                                                        \
  X(waiter_served, rare, "a worker waits and gets a job")                                                             \
  X(waiter_timed_out, rare, "somebody waits in vain")                                                                 \
  X(waiter_reports_kept, rare, "a worker's reports are answered when its waiting ends")                               \
  X(waiter_for_end_answered, rare, "a caller waits for the end of a job, and it comes")                               \
  X(waiter_abandoned, rare, "somebody hangs up who waits")                                                            \
  X(hung_up_before_turn, rare, "somebody hangs up whose request no turn has seen")                                    \
  X(hung_up_before_answer, rare, "somebody hangs up between the turn that decided and its answer")                    \
  X(answer_to_nobody, rare, "an answer comes for somebody who has hung up")                                           \
  X(lease_given_back, rare, "a job is leased to somebody who has hung up, and given back")                            \
  X(drained_with_waiters, rare, "a drain begins while somebody waits")                                                \
  X(asked_while_draining, rare, "a request comes during a drain")                                                     \
  X(unready_as_draining, rare, "the service says that it is draining")                                                \
  X(unready_as_disk_low, rare, "the service says that the disk is nearly full")                                       \
  X(waiters_full, rare, "as many wait as may")                                                                        \
  X(paused_queue_held_back, rare, "a paused queue has jobs and gives none")                                           \
  X(groups_in_turn, rare, "several groups take turns")                                                                \
  X(weighted_choice, rare, "queues are chosen by weight")                                                             \
  X(patched_to_other_queue, rare, "a job moves to another queue")                                                     \
  X(patched_kept_place, rare, "a changed job keeps its place")                                                        \
  X(patched_to_schedule, rare, "a ready job is put off")                                                              \
  X(bulk_in_parts, rare, "an action on many jobs takes several turns")                                                \
  X(inbox_full, rare, "a request is refused as there are too many")                                                   \
  X(disk_low_refused, rare, "an enqueue is refused as the disk is nearly full")                                       \
  X(worked_while_disk_low, rare, "a lease, a report or a deletion goes on while the disk is nearly full")             \
  X(disk_low_over, rare, "the disk was nearly full, and is no more")                                                  \
  X(flip_refused, rare, "a turned bit is found at the start, which is refused")                                       \
  X(flip_harmless, rare, "a turned bit stood where nothing is read")                                                  \
  X(flip_cut_as_torn, rare, "a turned bit in the newest batch is taken for a torn tail, and reported")                \
  X(damaged_ended_at_lease, rare, "a lease comes upon a payload that turned on the disk, and ends its job")           \
  X(damaged_ended_at_copy, rare, "a job that waits is ended as its batch, which is to be copied ahead, is damaged")   \
  X(damaged_copied_without, rare, "a leased or finished job is copied ahead without its payload, which is damaged")   \
  X(damaged_flight_copied, rare, "a value is being computed, and its job is copied ahead without its damaged payload") \
  X(damaged_history_copied, rare, "a job is copied ahead with less of its history, as that is damaged")               \
  X(damaged_ended_after_worker, rare, "a job without payload comes back from its worker, and ends")                   \
  X(damaged_checkpoint_ended, rare, "a lease comes upon a checkpoint that turned on the disk, and ends its job")      \
  X(damaged_checkpoint_copied, rare, "a job is copied ahead without its checkpoint, which is damaged")                \
  X(damaged_shown, rare, "a job is shown, and what of it is damaged is not")                                          \
  X(damaged_lines_refused, rare, "the lines that a job logged are asked for, and are damaged")                        \
                                                                                                                      \
  X(stream_lease, rare, "a job goes out on a worker stream")                                                          \
  X(stream_resumed, rare, "a worker comes back in time, and goes on")                                                 \
  X(stream_resumed_at_deadline, rare, "it comes back in the turn in which its leases would have ended")               \
  X(stream_resumed_with_nothing_out, rare, "it comes back, and its jobs have all ended meanwhile")                    \
  X(stream_resumed_after_restart, rare, "it comes back to another process, which does not know it")                   \
  X(stream_resume_unknown, rare, "it comes back too late, or by an old token")                                        \
  X(stream_resume_foreign, rare, "a worker of another name comes with its token")                                     \
  X(stream_replaced, rare, "it comes back while its old connection is still there")                                   \
  X(stream_replaced_while_unflushed, rare, "it does so while jobs pushed to the old one are not yet durable")         \
  X(stream_sent_again, rare, "a job that it does not hold is sent again")                                             \
  X(stream_held, rare, "a job that it holds is not sent again")                                                       \
  X(stream_again_waits_for_window, rare, "jobs to be sent again wait for the window")                                 \
  X(stream_again_ended, rare, "a lease ends before its job was sent again")                                           \
  X(stream_dropped, rare, "a stream is dropped with jobs out")                                                        \
  X(stream_dropped_before_jobs, rare, "a stream is dropped while jobs pushed to it are not yet durable")              \
  X(stream_dropped_while_reporting, rare, "a stream is dropped while a report of its worker is in the group commit")  \
  X(stream_leases_ended, rare, "nobody comes back in time, and a lease ends for that")                                \
  X(stream_away_too_many, rare, "more dropped streams than may be: the first to be over is over at once")             \
  X(stream_credit_below_out, rare, "credit is lowered below what is out")                                             \
  X(stream_window_full, rare, "a stream with credit gets no more, as its window is full")                             \
  X(stream_window_full_for_all, rare, "a stream gets no more, as the window of all is full")                          \
  X(stream_cancel, rare, "a stream hears that a job is to be cancelled")                                              \
  X(stream_cancel_on_resume, rare, "it hears so when it comes back")                                                  \
  X(stream_drained, rare, "a stream is drained")                                                                      \
  X(stream_drained_later, rare, "it is so when its last job has ended, and not before")                               \
  X(stream_ended_by_drain, rare, "a stream ends as the server drains")                                                \
  X(stream_refused, rare, "a stream is refused, as there are too many or the server drains")                          \
  X(stream_opened_to_nobody, rare, "a stream is given up before a turn has seen it")                                  \
  X(stream_push_to_nobody, rare, "a push comes for a connection that has gone")                                       \
  X(died_with_jobs_on_streams, rare, "death while jobs are out on streams")                                           \
                                                                                                                      \
  X(cache_stored, rare, "a value is put into the cache")                                                              \
  X(cache_stored_volatile, rare, "a value is put under a volatile key")                                               \
  X(cache_replaced_undurable, rare, "a value takes the place of one that is not yet durable")                         \
  X(cache_jittered, rare, "a value's fresh time is shortened by chance")                                              \
  X(cache_value_ends_failure, rare, "a value is put where a failure was remembered")                                  \
  X(cache_set_by_report, rare, "a report sets a key")                                                                 \
  X(cache_set_by_its_flight, rare, "a report sets the very key that its job computes")                                \
  X(cache_computed, rare, "a flight ends with a value")                                                               \
  X(cache_flights, rare, "a flight begins")                                                                           \
  X(cache_collapsed, rare, "somebody asks for what is being computed")                                                \
  X(cache_collapsed_on_retry, rare, "somebody asks for what a later attempt computes")                                \
  X(cache_collapsed_answered, rare, "one who joined a flight gets its value")                                         \
  X(cache_waiter_answered, rare, "one who began a flight gets its value")                                             \
  X(cache_made_for_waiters_only, rare, "a value goes to those who waited, and is over at once")                       \
  X(cache_waiter_failed, rare, "one who waits for a flight hears that it failed")                                     \
  X(cache_stale_on_error, rare, "a flight fails, and who waits for it gets a value that is there")                    \
  X(cache_flight_taken_away, rare, "a flight is cancelled or deleted while somebody waits for it")                    \
  X(cache_flight_retried, rare, "a flight that was over is put in line again")                                        \
  X(cache_retry_refused, rare, "it is not, as another computes its key")                                              \
  X(cache_flight_refused, rare, "a flight does not begin, as its queue is full")                                      \
  X(cache_flight_refused_disk_low, rare, "a flight does not begin, as the disk is nearly full")                       \
  X(cache_pending, rare, "one who waits for a flight hears that it goes on")                                          \
  X(cache_put_while_waiting, rare, "a wait ends, and somebody has put a value meanwhile")                             \
  X(cache_refused_too_large, rare, "a value is put that no budget can hold, and is refused")                           \
  X(cache_not_stored_too_large, rare, "a report comes with one, and it is not stored")                                 \
  X(cache_answered_as_stored, rare, "who waits for a flight is answered with what somebody has put")                  \
  X(cache_answered_by_next_flight, rare, "who waits for a flight that was overtaken is answered by the next one")     \
  X(cache_waiters_full, rare, "as many wait as may, and another asks for a value")                                    \
  X(cache_answered_by_shard, rare, "the shard finds a value that its caller has not seen")                            \
  X(cache_answered_stale, rare, "it answers a stale one, and begins a flight")                                        \
  X(cache_refreshed_early, rare, "a fresh value is to be refreshed")                                                  \
  X(cache_refreshed_stale, rare, "a stale value is to be refreshed")                                                  \
  X(cache_refreshed, rare, "a refresh begins a flight")                                                               \
  X(cache_refreshed_too_late, rare, "it does so when the value is over or forgotten")                                 \
  X(cache_refresh_in_flight, rare, "a refresh finds a flight under way")                                              \
  X(cache_failure_remembered, rare, "a flight fails, and that is remembered")                                         \
  X(cache_failure_beside_value, rare, "it is so beside a value")                                                      \
  X(cache_failure_told, rare, "the shard tells of a failure that is remembered")                                      \
  X(cache_failure_seen, rare, "a reader sees one")                                                                    \
  X(cache_failure_seen_after_restart, rare, "a reader sees one from an earlier life")                                 \
  X(cache_seen_fresh, rare, "a reader sees a fresh value")                                                            \
  X(cache_seen_stale, rare, "a reader sees a stale value")                                                            \
  X(cache_seen_after_restart, rare, "a reader sees a value from an earlier life")                                     \
  X(cache_seen_cold, rare, "a reader sees that a value is on disk only")                                              \
  X(cache_seen_while_undurable, rare, "a reader looks while something of the key is not yet durable")                 \
  X(cache_over_missed, rare, "a reader comes when a value is over")                                                   \
  X(cache_evicted_missed, rare, "a reader misses what was evicted or damaged")                                        \
  X(cache_cold_read, rare, "a value is read from the disk")                                                           \
  X(cache_cold_missed, rare, "a value that was to be read from the disk has gone")                                    \
  X(cache_set_aside, rare, "who asks for a value waits for the disk to read it, and the shard goes on")               \
  X(cache_fetch_joined, rare, "a second one waits for the same")                                                      \
  X(cache_fetch_refused, rare, "the disk has so much to read already that the shard reads at once")                   \
  X(cache_fetched, rare, "the disk has read a value, and who waits for that is answered with it")                     \
  X(cache_fetched_too_late, rare, "the value is over by then")                                                        \
  X(cache_fetched_gone, rare, "it was deleted by then, with others, or gave way")                                     \
  X(cache_fetched_another, rare, "a report has put another one by then")                                              \
  X(cache_fetch_outdated, rare, "a key is put or deleted while somebody waits for the disk to read what it had")      \
  X(cache_fetched_outdated, rare, "he is answered with that when the disk has read it")                               \
  X(cache_fetched_outdated_gone, amount, "it cannot be read any more, or is over, and he has it computed")            \
  X(cache_fetched_anew, rare, "who asks after the change waits for another fetch of the key")                         \
  X(cache_fetch_given_up, rare, "somebody's time is over while he waits for the disk")                                \
  X(hung_up_while_fetching, rare, "somebody hangs up who waits for the disk")                                         \
  X(died_while_fetching, rare, "death while somebody waits for the disk")                                             \
  X(cache_given_up_before_turn, rare, "somebody's time is over before the turn that would have decided")              \
  X(cache_forgotten, rare, "a key is deleted")                                                                        \
  X(cache_forgotten_in_flight, rare, "a key is deleted while its flight is under way")                                \
  X(cache_flight_overtaken, rare, "a key is put or deleted while a worker computes it")                               \
  X(cache_checkpoint_overtaken, rare, "a key is put or deleted between two attempts, of which the first left a checkpoint") \
  X(cache_overtaken_by, rare, "a flight is overtaken by a deletion by tag or prefix")                                 \
  X(cache_refresh_overtaken_by_tag, rare, "a refresh without the tag is overtaken, as the value that it computes anew has it") \
  X(cache_deletion_begun_later, amount, "a deletion begins in a later turn, as others have looked at many flights")     \
  X(turn_explained_by_the_less_likely, amount, "turns that the model's first guess did not explain") \
  X(cache_overtaken_answered, rare, "who waits for a flight that was overtaken gets its value")                       \
  X(cache_overtaken_failed_after_next, amount,                                                                        \
    "who waits for a flight that was overtaken is told its failure, and another one is remembered")                   \
  X(cache_overtaken_given_up, rare, "an attempt fails of a flight that was overtaken and is for nobody: it was the last") \
  X(cache_overtaken_copied, rare, "a flight that was overtaken is copied ahead")                                      \
  X(cache_forgotten_by, rare, "a key is deleted by a tag or a prefix")                                                \
  X(cache_forgotten_in_parts, rare, "a deletion by a tag or a prefix takes several turns")                            \
  X(cache_put_before_a_part, rare, "what is put between its parts goes too")                                          \
  X(cache_put_behind_a_part, rare, "what is put between its parts stays")                                             \
  X(died_in_deletion, rare, "death in the middle of one")                                                             \
  X(cache_eviction_written, rare, "a key that had to make room is written down as gone")                              \
  X(cache_failure_written_again, rare, "a failure that was remembered since then is written again behind that")          \
  X(cache_volatile_lost, rare, "a volatile value goes with its server")                                               \
  X(cache_value_copied, rare, "a value is copied ahead")                                                              \
  X(cache_failure_copied, rare, "a remembered failure is copied ahead")                                               \
  X(cache_damaged, rare, "a bit turns under a cached value")                                                          \
  X(cache_damaged_beside_failure, rare, "it does so under one beside which a failure is remembered")                  \
  X(died_with_flight, rare, "death while somebody waits for a flight")                                                \
                                                                                                                      \
  X(flag_made, rare, "a flag is made")                                                                                \
  X(flag_made_again, rare, "a flag is made that was removed")                                                         \
  X(flag_changed, rare, "a flag is changed")                                                                          \
  X(flag_killed, rare, "a flag is switched off")                                                                      \
  X(flag_removed, rare, "a flag is removed")                                                                          \
  X(flag_repeated, rare, "a change is asked for again that was made")                                                 \
  X(flag_changed_meanwhile, rare, "a change of another version than there is is refused")                             \
  X(flags_full, rare, "a flag is refused, as there are as many as may be")                                            \
  X(flag_history_read, rare, "the history of a flag is asked for")                                                    \
  X(flag_history_in_pages, rare, "there is more of it than a page")                                                    \
  X(flag_history_of_a_hundred, rare, "the oldest of more than a hundred changes goes")                                \
  X(flag_history_of_64_kib, rare, "the oldest change goes, as the definitions take more than 64 KiB")                 \
  X(flag_copied, rare, "a flag is copied ahead")                                                                      \
  X(flag_history_copied, rare, "an earlier change of a flag is copied ahead")                                         \
  X(flag_seen_disabled, rare, "somebody sees a flag that is switched off")                                            \
  X(flag_seen_split, rare, "a roll-out decides what he sees")                                                         \
  X(flag_seen_targeted, rare, "a rule with conditions does")                                                          \
  X(flag_seen_while_undurable, rare, "somebody looks while a change of a flag is not yet durable")                    \
  X(died_with_flag_change_open, rare, "death while a change of a flag is decided and not durable")                    \
  X(gate_closed, rare, "a flag closes the gate of a type of jobs")                                                    \
  X(gate_closed_on_jobs, rare, "it does so while such jobs are ready")                                                \
  X(gate_opened, rare, "the gate of a type opens")                                                                    \
  X(gate_opened_for_jobs, rare, "it does so while such jobs wait for it")                                             \
  X(gate_of_two_flags, rare, "one of two flags that gate a type lets it through, and the other does not")             \
  X(gate_unsettled, rare, "more jobs of closed types stand in front than step aside at once")                         \
  X(gated_job_passed_over, rare, "a job is leased before one that waits for its gate")                                \
  X(gated_job_leased, rare, "a job that has waited for its gate is leased")                                           \
  X(gated_over_restart, rare, "jobs wait for gates when the server starts")                                           \
  X(gated_jobs_not_dropped, rare, "a full queue drops none of its ready jobs, as all wait for gates")                 \
  X(waiter_served_by_gate, rare, "a gate opens, and a worker that waits gets a job that was behind it")               \
  X(doctor_found_flags, rare, "the doctor reads a log with flags, and finds them")                                    \
  X(doctor_rebuilt_flags, rare, "it writes a new log of what is left, and they are there with their histories")       \
                                                                                                                      \
  X(batch_made, rare, "a batch is made under an id of its caller")                                                    \
  X(batch_made_unnamed, rare, "a batch is made under an id of the server")                                            \
  X(batch_repeated, rare, "the same batch is made again, and answered as it is")                                      \
  X(batch_id_taken, rare, "another batch is made under an id that one has")                                           \
  X(batches_full, rare, "there are as many batches as may be, and all are needed")                                    \
  X(batch_gone_early, rare, "one that is only kept goes before its time")                                             \
  X(batch_joined, rare, "a job is put into a batch")                                                                  \
  X(batch_was_unknown, rare, "a job names a batch that is not there")                                                 \
  X(batch_was_closed, rare, "a job names a batch that is closed")                                                     \
  X(batch_of_one_that_may_go, amount, "a duplicate that may be dropped names a batch")                                \
  X(batch_closed, rare, "a batch is closed")                                                                          \
  X(batch_closed_empty, rare, "a batch without jobs is closed")                                                       \
  X(batch_succeeded, rare, "on_success is enqueued")                                                                  \
  X(batch_succeeded_late, rare, "it is, after on_finish: what was dead has been retried")                             \
  X(batch_finished_well, rare, "on_finish is enqueued, and all jobs are completed")                                   \
  X(batch_finished_badly, rare, "on_finish is enqueued, and not all are")                                             \
  X(batch_cannot_succeed, rare, "a job that was not completed is gone: on_success is not coming")                     \
  X(batch_forgotten_with_jobs, rare, "a batch with jobs is deleted")                                                  \
  X(batch_kept_long_enough, rare, "a batch that is over is forgotten in time")                                        \
  X(batch_due_later, rare, "a callback is due at the end of a turn, and comes in a later one")                        \
  X(batches_listed, rare, "batches of one state are listed, and there are some")                                      \
  X(batch_list_among, rare, "batches are listed by somebody who may not see them all")                                \
  X(batch_list_goes_on, rare, "a list of batches goes on where the page before has ended")                            \
  X(batch_list_cut_short, rare, "a page of batches ends before it is full, as enough were looked at")                 \
  X(batch_copied_open, rare, "an open batch is copied ahead")                                                         \
  X(batch_copied_closed, rare, "a closed batch is copied ahead")                                                      \
  X(batch_job_copied, rare, "a job in a batch is copied ahead")                                                       \
  X(doctor_rebuilt_batches, rare, "the doctor writes a new log, and batches are there as they were")
// clang-format on

enum class Figure : std::uint16_t {
#define WM_SIM_NAME(name, kind, text) name,
  WM_SIM_FIGURES(WM_SIM_NAME)
#undef WM_SIM_NAME
};

struct FigureText {
  FigureKind kind;
  std::string_view name, text;
};
#define WM_SIM_TEXT(name, kind, text) FigureText{FigureKind::kind, #name, text},
inline constexpr FigureText kFigureTexts[] = {WM_SIM_FIGURES(WM_SIM_TEXT)};  // Too many for std::array to count.
#undef WM_SIM_TEXT
inline constexpr std::size_t kFigures = std::size(kFigureTexts);

struct Figures {
  std::array<std::uint64_t, kFigures> counts{};
  // Under durability interval: between the oldest and the newest answered batch that one power cut took.
  std::uint64_t interval_loss_ms_max = 0;

  std::uint64_t& operator[](Figure figure) { return counts[static_cast<std::size_t>(figure)]; }
  std::uint64_t operator[](Figure figure) const { return counts[static_cast<std::size_t>(figure)]; }
  void add(Figures const& other) {
    for (std::size_t i = 0; i < kFigures; ++i) counts[i] += other.counts[i];
    if (other.interval_loss_ms_max > interval_loss_ms_max) interval_loss_ms_max = other.interval_loss_ms_max;
  }
};

}  // namespace workmill::sim
