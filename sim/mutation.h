#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

// Servers that are broken on purpose, to prove the simulator: each must be caught. They are made by wrapping (the log
// in faulty_log.cpp, what comes in and goes out in simulator.cpp), so that no product code knows of them.
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
  X(replay_skips_snapshots, "a restart forgets what was copied ahead")                               \
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
// clang-format on

enum class Mutation : std::uint8_t {
  none,
#define WM_SIM_NAME(name, text) name,
  WM_SIM_MUTATIONS(WM_SIM_NAME)
#undef WM_SIM_NAME
};

struct MutationText {
  Mutation mutation;
  std::string_view name, text;
};
#define WM_SIM_TEXT(name, text) MutationText{Mutation::name, #name, text},
inline constexpr std::array kMutations{WM_SIM_MUTATIONS(WM_SIM_TEXT)};
#undef WM_SIM_TEXT

constexpr std::optional<Mutation> parse_mutation(std::string_view name) {
  for (MutationText const& known : kMutations) {
    if (known.name == name) return known.mutation;
  }
  return std::nullopt;
}

}  // namespace workmill::sim
