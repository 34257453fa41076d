#pragma once
#include <array>
#include <cstdint>
#include <string_view>

// What a run has met: what is not counted was not tested.
namespace workmill::sim {

// clang-format off
#define WM_SIM_FIGURES(X)                                                          \
  /* How much. */                                                                  \
  X(operations) X(turns) X(batches) X(jobs_enqueued) X(jobs_leased)                \
  X(reports_accepted) X(reports_refused) X(jobs_completed) X(jobs_failed)          \
  X(restarts) X(audits) X(invariant_checks)                                        \
  /* Faults. */                                                                    \
  X(fault_kill) X(fault_power_cut) X(fault_power_cut_prefix)                       \
  X(fault_power_cut_sectors) X(fault_write_failed) X(fault_sync_failed)            \
  X(fault_disk_full) X(fault_in_recovery) X(fault_bit_flipped)                     \
  X(fault_slow_flush) X(fault_clock_back) X(fault_stall) X(reply_lost)             \
  X(orderly_stop)                                                                  \
  /* Rare states. A long run that never met one of them was not a test of it. */   \
  X(died_unanswered_and_lost) X(died_unanswered_but_durable)                       \
  X(died_while_copying) X(died_in_recovery_after_owning)                           \
  X(died_with_requests_waiting) X(died_with_workers_waiting) X(died_in_bulk)       \
  X(torn_tail_cut) X(tail_of_several_batches_lost)                           \
  X(segment_dropped) X(survivor_copied) X(settings_copied) X(answer_copied)        \
  X(leased_job_copied) X(finished_job_copied)                                      \
  X(lease_expired) X(lease_expired_to_dead) X(lease_expired_to_cancelled)          \
  X(report_after_deadline_accepted) X(report_late_refused)                         \
  X(report_foreign_token) X(report_twice) X(report_unknown_job)                    \
  X(lease_lengthened_by_restart)                                                   \
  X(expired_before_lease) X(scheduled_became_ready)                                \
  X(several_became_ready_at_once) X(advance_in_parts)                              \
  X(retried_with_backoff) X(retried_at_once) X(died_of_attempts)                   \
  X(died_of_class) X(failed_while_cancel_requested)                                \
  X(released_while_cancel_requested) X(completed_while_cancel_requested)           \
  X(duplicate_by_id) X(duplicate_by_key) X(duplicate_in_one_bulk)                  \
  X(duplicate_while_first_undurable) X(key_free_again)                             \
  X(idempotent_replay) X(idempotent_replay_after_restart)                          \
  X(idempotent_key_reused) X(answer_forgotten_early)                               \
  X(queue_full_refused) X(queue_full_dropped_oldest)                               \
  X(budget_forgot_finished) X(kept_nothing) X(kept_long_enough)                    \
  X(dead_kept_long_enough) X(idle_queue_removed)                                   \
  X(waiter_served) X(waiter_timed_out) X(waiter_reports_kept)                      \
  X(waiter_for_end_answered) X(waiter_abandoned) X(waiters_full)                   \
  X(paused_queue_held_back) X(groups_in_turn) X(weighted_choice)                   \
  X(patched_to_other_queue) X(patched_kept_place) X(patched_to_schedule)           \
  X(bulk_in_parts) X(inbox_full) X(disk_low_refused)                               \
  X(flip_refused) X(flip_harmless) X(flip_cut_as_torn)
// clang-format on

enum class Figure : std::uint8_t {
#define WM_SIM_NAME(name) name,
  WM_SIM_FIGURES(WM_SIM_NAME)
#undef WM_SIM_NAME
};
#define WM_SIM_COUNT(name) +1
inline constexpr std::size_t kFigures = 0 WM_SIM_FIGURES(WM_SIM_COUNT);
#undef WM_SIM_COUNT
#define WM_SIM_TEXT(name) #name,
inline constexpr std::array<std::string_view, kFigures> kFigureNames{WM_SIM_FIGURES(WM_SIM_TEXT)};
#undef WM_SIM_TEXT

struct Figures {
  std::array<std::uint64_t, kFigures> counts{};

  std::uint64_t& operator[](Figure figure) { return counts[static_cast<std::size_t>(figure)]; }
  std::uint64_t operator[](Figure figure) const { return counts[static_cast<std::size_t>(figure)]; }
  void add(Figures const& other) {
    for (std::size_t i = 0; i < kFigures; ++i) counts[i] += other.counts[i];
  }
};

}  // namespace workmill::sim
