#pragma once
#include <array>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "sim/checkers/model.h"

// What the parts of the model share, each of which is a file of its own: how it takes the next record of a turn and
// its answers, and how it complains. Included by those files only.
namespace workmill::sim {

inline std::uint64_t raw(JobNumber number) { return std::to_underlying(number); }
constexpr std::size_t at(JobState state) { return static_cast<std::size_t>(state); }

inline constexpr std::array<std::string_view, std::variant_size_v<Effect>> kEffectNames{
    "StoreCreated",   "ServerResumed",     "Alive",           "JobEnqueued",  "JobReady",     "JobLeased",
    "LeaseExtended",  "JobCompleted",      "JobFailed",       "JobReleased",  "JobCancelled", "CancelRequested",
    "JobRetried",     "ProgressMade",      "LinesLogged",     "JobForgotten", "JobSnapshot",  "QueueChanged",
    "QueueRemoved",   "RequestRemembered", "CheckpointMade",  "CacheStored",  "CacheFailed",  "CacheForgotten",
    "FlagChanged",    "FlagRemoved",       "FlightOvertaken", "BatchMade",    "BatchClosed",  "BatchFired",
    "BatchForgotten", "BatchCopied"};

template <class E, std::size_t I = 0>
constexpr std::size_t kind_of() {
  if constexpr (std::is_same_v<std::variant_alternative_t<I, Effect>, E>)
    return I;
  else
    return kind_of<E, I + 1>();
}

// Is it this value that was answered? Two may be of the same bytes, as those of none.
inline bool may_have_been_told(ModelCached::Value const& value, CachedReply const& reply) {
  return reply.value && reply.value->body() == value.body && reply.value->content_type() == value.content_type &&
         reply.times.stored_at == value.times.stored_at && reply.times.stale_until == value.times.stale_until &&
         (value.is_guessed || reply.times.fresh_until == value.times.fresh_until);
}

// In a member of Model that answers whether all is well.
#define WM_SIM_HOLD(condition, ...)                 \
  do {                                              \
    if (!(condition)) return complain(__VA_ARGS__); \
  } while (false)
#define WM_SIM_STEP(...)              \
  do {                                \
    if (!(__VA_ARGS__)) return false; \
  } while (false)

template <class E>
E const* Model::take() {
  E const* const taken = next<E>();
  if (taken == nullptr) {
    complain("{} should have been written, and {} was", kEffectNames[kind_of<E>()],
             at_ < effects_.size() ? kEffectNames[effects_[at_].index()] : "nothing");
    return nullptr;
  }
  ++at_;
  return taken;
}

template <class E>
bool Model::take_for(ModelJob const& job, std::string_view what) {
  E const* const taken = take<E>();
  if (taken == nullptr) return false;
  WM_SIM_HOLD(taken->number == job.number, "{} of job {:x} was written for {:x}", what, raw(job.number),
              raw(taken->number));
  return true;
}

template <class R>
bool Model::expect(shard::Cookie cookie, R const*& out) {
  out = nullptr;
  if (replies_ == nullptr) return true;  // Nobody was answered.
  Reply const* const reply = reply_to(cookie);
  WM_SIM_HOLD(reply != nullptr, "a request was not answered");
  out = std::get_if<R>(reply);
  if (out != nullptr) return true;
  auto const* error = std::get_if<Error>(reply);
  return complain("a request was refused that should not have been: {}",
                  error != nullptr ? describe(*error) : "(an answer of another kind)");
}

}  // namespace workmill::sim
