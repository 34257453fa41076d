#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "core.h"
#include "workmill/jobs.h"
#include "workmill/task.h"

// What a call asks, and how its answer is read: written down once, as an operation. The blocking client runs it, the
// other one starts it. Internal.
namespace workmill::client::detail {

// A wait is asked for in parts of this length, so that a connection that has died unnoticed costs no more.
inline constexpr Duration kWaitPart{20'000};

template <class T>
struct Operation {
  Call call;
  Result<T> (*read)(Result<Response> answer);
};

// Reads the body of an answer that is no error.
template <auto read>
auto of_body(Result<Response> answer) -> decltype(read(std::string_view{})) {
  if (!answer) return std::unexpected(std::move(answer).error());
  return read(answer->body);
}

Call make_call(Core const& core, std::string method, std::string target, std::string body, bool repeatable,
               CallOptions const& options);
// Appends the job's JSON, as the client's hooks make it. Their error is the call's: Call::refused.
Result<> write_hooked(Core const& core, NewJob const& job, std::string& out);
// The server is asked to hold its answer back for so long, if it has to.
void hold(Call& call, Duration wait);

template <class T>
Result<T> run(Core& core, Operation<T> operation, CallOptions const& call) {
  return operation.read(core.run(std::move(operation.call), call.stop));
}

// Ends a call by stop(), or when its stop token says so; of several that follow each other, the one that is under way
// and those behind it. Made before the call's id is known. Any thread.
class Stopper {
 public:
  Stopper(Core& core, std::stop_token const& token) : core_(core), callback_(token, [this] { stop(); }) {}
  // The call that is under way now. Its answer may start the next one before this is told of it: ids only grow.
  void set(Core::CallId id) {
    auto newest = id_.load();
    while (newest < id && !id_.compare_exchange_weak(newest, id)) {
    }
    if (stopped_.load()) core_.cancel(id);
  }
  void stop() {
    stopped_.store(true);
    if (auto const id = id_.load(); id != 0) core_.cancel(id);
  }

 private:
  Core& core_;
  std::atomic<Core::CallId> id_{0};
  std::atomic<bool> stopped_{false};
  std::stop_callback<std::function<void()>> callback_;  // Last: it may stop at once.
};

using Executor = std::function<void(std::move_only_function<void()>)>;

template <class T>
void deliver(Executor const& executor, std::shared_ptr<typename Async<T>::State> const& state, Result<T> result) {
  if (!executor) return state->set(std::move(result));
  executor([state, result = std::move(result)]() mutable { state->set(std::move(result)); });
}

template <class T>
Async<T> start(Core& core, Executor const& executor, Operation<T> operation, CallOptions const& call) {
  auto state = std::make_shared<typename Async<T>::State>();
  auto stopper = call.stop.stop_possible() ? std::make_shared<Stopper>(core, call.stop) : nullptr;
  auto const id =
      core.start(std::move(operation.call), [state, executor, stopper, read = operation.read](Result<Response> answer) {
        deliver<T>(executor, state, read(std::move(answer)));
      });
  if (stopper) stopper->set(id);
  return Async<T>{std::move(state), [&core, id] { core.cancel(id); }};
}

}  // namespace workmill::client::detail
