#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"
#include "model/ids.h"
#include "model/job.h"

// A batch: jobs whose end enqueues one or two more, its callbacks. What may be asked for, and what is seen of one.
namespace workmill {

enum class CallbackKind : std::uint8_t { success, finish };
inline constexpr std::size_t kCallbackKinds = 2;
inline constexpr std::array<CallbackKind, kCallbackKinds> kAllCallbackKinds{CallbackKind::success,
                                                                            CallbackKind::finish};
// The field that it has in requests and answers: "on_success", "on_finish".
std::string_view to_string(CallbackKind kind);

// Callbacks wait in memory: each, as encode_spec writes it, has so many bytes at most, and so has a batch's meta.
inline constexpr std::size_t kCallbackBytesMax = std::size_t{64} << 10;
inline constexpr std::size_t kBatchMetaBytesMax = std::size_t{16} << 10;
// How many batches there are, and how long one is kept whose callbacks have all been decided, where nothing is set.
inline constexpr std::uint32_t kBatchesMaxDefault = 100'000;
inline constexpr std::uint64_t kBatchesMemoryMaxDefault = std::uint64_t{256} << 20;
inline constexpr Duration kBatchKeptDefault = std::chrono::hours{24};

// A callback's rules: those of a job (check_spec), and none of what could keep it from being enqueued later: it has no
// `id`, no `unique`, no `batch`, and computes no cached value. invalid_field with the field's name behind that of the
// callback ("on_success.unique"), payload_too_large where it takes more than kCallbackBytesMax. Every adapter calls it
// on what it has parsed; the engine trusts it.
Result<> check_callback(CallbackKind kind, JobSpecView const& spec);

enum class CallbackState : std::uint8_t {
  none,        // The batch was made without it.
  waiting,     // For the end of jobs, or for the batch to be closed.
  enqueued,    // Once and for all.
  not_coming,  // on_success, and a job is gone that was not completed.
};
std::string_view to_string(CallbackState state);

struct CallbackView {
  CallbackState state{};
  JobNumber job{};  // Where it is enqueued: the job, by then forgotten perhaps. Its id is the server's.
  bool operator==(CallbackView const&) const = default;
};

// What is left for a batch to do.
enum class BatchState : std::uint8_t {
  open,    // It takes jobs.
  closed,  // It waits: for the end of jobs, or for the retry of those that are dead or cancelled.
  over,    // Nothing. It is kept to be looked at, and gives way where room is needed.
};
inline constexpr std::array<BatchState, 3> kAllBatchStates{BatchState::open, BatchState::closed, BatchState::over};
std::string_view to_string(BatchState state);
std::optional<BatchState> parse_batch_state(std::string_view text);

// Jobs that were in a batch and are gone, by what they were in the end.
struct GoneJobs {
  std::uint64_t deleted = 0;  // Before they were finished.
  std::uint64_t completed = 0;
  std::uint64_t dead = 0;
  std::uint64_t cancelled = 0;
  void count(JobState last);
  // Those that cannot be completed any more: on_success is not coming.
  std::uint64_t lost() const { return deleted + dead + cancelled; }
  bool operator==(GoneJobs const&) const = default;
};

// total is the sum of the other five. A job that is gone counts as what it was in the end.
struct BatchCounts {
  std::uint64_t total = 0;
  std::uint64_t pending = 0;  // scheduled, ready or leased.
  std::uint64_t completed = 0;
  std::uint64_t dead = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t deleted = 0;  // Before it was finished.
  bool operator==(BatchCounts const&) const = default;
};

struct BatchView {
  std::string id{};  // As text, also where the server has made it.
  Instant created_at{};
  std::optional<Instant> closed_at{};
  BatchCounts jobs{};
  std::array<CallbackView, kCallbackKinds> callbacks{};  // By CallbackKind.
  std::string meta{};                                    // A JSON object as text, or empty.
  CallbackView const& callback(CallbackKind kind) const { return callbacks[static_cast<std::size_t>(kind)]; }
  bool operator==(BatchView const&) const = default;
};

}  // namespace workmill
