#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "transport.h"

// The one core of both clients: calls with retries, time-outs and cancelling, over a transport. Internal.
//
// State belongs to the loop's thread; start() and cancel() are for any.
namespace workmill::client::detail {

struct Call {
  Request request;
  // Doing it twice does no harm: it may be tried again though the first attempt may have counted.
  bool repeatable = false;
  std::optional<unsigned> attempts{};                   // Instead of RetryPolicy::attempts.
  std::optional<Loop::Clock::time_point> give_up_at{};  // With all attempts.
  Duration pause{};                                     // Before the first one.
  std::optional<Error> refused{};                       // By a hook, before it was sent: the call's error.
};

class Core {
 public:
  using CallId = std::uint64_t;
  // On the loop's thread, once. An error also where the answer's status is 400 or more.
  using Done = std::move_only_function<void(Result<Response>)>;

  Core(std::shared_ptr<Backend> backend, ServerOptions options);
  ~Core();  // What is under way is answered with call_cancelled.

  CallId start(Call call, Done done);
  void cancel(CallId id);
  // Starts and waits. wrong_thread on the loop's own.
  Result<Response> run(Call call, std::stop_token const& stop);

  ServerOptions const& options() const { return options_; }
  Loop& loop() { return loop_; }
  // Any thread. The hook is called on the loop's.
  void log(LogLevel level, std::string message);

 private:
  struct State {
    Call call;
    Done done;
    unsigned attempts = 0;
    bool may_have_happened = false;  // One of the attempts so far.
    Transport::Ticket ticket = 0;    // 0: none is under way.
    Loop::TimerId timer = 0;         // Of the pause before the next attempt.
  };

  void attempt(CallId id);
  void on_answer(CallId id, Result<Response> answer);
  void finish(CallId id, Result<Response> answer);

  ServerOptions const options_;
  std::shared_ptr<Backend> backend_;
  std::atomic<CallId> next_{1};
  std::unordered_map<CallId, State> calls_;
  std::minstd_rand chance_;
  std::unique_ptr<Transport> transport_;
  Loop loop_;  // Ends first.
};

// May the same request come to another end later? Whether it may be made twice is another question.
bool is_worth_another(Error const& error);
// Before the next attempt: a random part of first * factor^(attempts so far - 1), at most `cap`.
Duration backoff(RetryPolicy const& policy, unsigned attempts, std::minstd_rand& chance);
// A worker's, while its server is away: for as long as it takes.
inline constexpr RetryPolicy kAwayPolicy{.attempts = 0, .first = Duration{50}, .factor = 2.0, .cap = Duration{2'000}};
// From now; kLongest at most.
Loop::Clock::time_point time_after(Duration time);
// Longer than this nobody waits inside a call because the server asks for it: it fails, and `retry_after` says how long
// that was.
inline constexpr Duration kRetryAfterMax{60'000};
// Says it to the hook, if there is one. What it throws is lost, with the line and nothing else.
void say(LogHook const& hook, LogLevel level, std::string_view message);
// What is being caught, which `who` threw: by its type.
Error thrown_error(std::string_view who);
std::string random_key();  // 128 random bits, in hex.

// The traceparent of the job whose handler runs on this thread, or "". Set by the worker around each handler.
std::string& current_traceparent();
std::string& current_tracestate();

}  // namespace workmill::client::detail
