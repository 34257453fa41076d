#pragma once
#include <cstdint>
#include <string>
#include <string_view>

// What the server answers to an enqueue. Apart from jobs.h, as errors tell it, too.
namespace workmill::client {

enum class JobState : std::uint8_t { scheduled, ready, leased, completed, dead, cancelled };
std::string_view to_string(JobState state);
constexpr bool is_finished(JobState state) { return state >= JobState::completed; }

struct Enqueued {
  std::string id{};
  JobState state{};
  bool duplicate = false;  // Its unique key was taken: this is the job that has it.
};

}  // namespace workmill::client
