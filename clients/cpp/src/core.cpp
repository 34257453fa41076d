#include "core.h"

#include <cxxabi.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <typeinfo>

#include "text.h"
#include "wire.h"

namespace workmill::client::detail {
namespace {

// What becomes a header must not become two.
std::optional<Error> bad_header(Request const& request) {
  auto const bad = [](std::string field, std::string message) {
    return Error{.code = "invalid_field",
                 .error_class = ErrorClass::user,
                 .message = std::move(message),
                 .field = std::move(field)};
  };
  if (request.idempotency_key.size() > kIdempotencyKeyBytesMax || !is_printable_ascii(request.idempotency_key)) {
    return bad("idempotency_key", "must be 1 to 255 bytes of printable ASCII");
  }
  std::string const rule = "must be printable ASCII";
  if (!is_printable_ascii(request.traceparent)) return bad("traceparent", rule);
  if (!is_printable_ascii(request.tracestate)) return bad("tracestate", rule);
  if (!is_printable_ascii(request.content_type)) return bad("content_type", rule);
  return std::nullopt;
}

}  // namespace

bool is_worth_another(Error const& error) {
  // The job that computes a cached value has had all its attempts: to ask again would be another job with as many.
  return error.error_class == ErrorClass::retryable && error.code != "compute_failed";
}

Duration backoff(RetryPolicy const& policy, unsigned attempts, std::minstd_rand& chance) {
  double const span =
      static_cast<double>(policy.first.count()) * std::pow(policy.factor, attempts > 0 ? attempts - 1 : 0);
  double const most = std::min(span, static_cast<double>(policy.cap.count()));
  if (!(most > 0)) return Duration{0};  // Nothing, a thousand times over, is none: no number.
  return Duration{std::uniform_int_distribution<Duration::rep>{0, static_cast<Duration::rep>(most)}(chance)};
}

Loop::Clock::time_point time_after(Duration time) { return Loop::Clock::now() + std::min(time, kLongest); }

ServerOptions bounded(ServerOptions options) {
  for (Duration* const time : {&options.connect_timeout, &options.request_timeout, &options.idle_max,
                               &options.retry.first, &options.retry.cap}) {
    *time = std::min(*time, kLongest);
  }
  return options;
}

void say(LogHook const& hook, LogLevel level, std::string_view message) {
  if (!hook) return;
  try {
    hook(level, message);
  } catch (...) {  // Else it would end the thread that all depend on, and the program with it.
  }
}

Error thrown_error(std::string_view who) {
  Error error{.code = "exception"};
  try {
    throw;
  } catch (std::exception const& thrown) {
    char const* const name = typeid(thrown).name();
    int status = 0;
    std::unique_ptr<char, void (*)(void*)> const readable{abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                          std::free};
    error.code = as_name(status == 0 ? readable.get() : name);
    error.message = thrown.what();
  } catch (...) {
    error.message.append(who).append(" threw something that is no std::exception");
  }
  return error;
}

std::string random_key() {
  static constexpr std::string_view kHex = "0123456789abcdef";
  // One read of the system's randomness for many keys; a thread's generator is its own.
  thread_local std::mt19937_64 generator = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64{seed};
  }();
  std::string key;
  key.reserve(32);
  for (int half = 0; half < 2; ++half) {
    std::uint64_t bits = generator();
    for (int i = 0; i < 16; ++i, bits >>= 4) key.push_back(kHex[bits & 15]);
  }
  return key;
}

std::string& current_traceparent() {
  thread_local std::string value;
  return value;
}

std::string& current_tracestate() {
  thread_local std::string value;
  return value;
}

Core::Core(std::shared_ptr<Backend> backend, ServerOptions options)
    : options_(bounded(std::move(options))), backend_(std::move(backend)), chance_(std::random_device{}()) {
  loop_.post([this] { transport_ = backend_->make_transport(loop_); });
}

Core::~Core() {
  loop_.post([this] {
    transport_.reset();
    while (!calls_.empty()) {
      auto& [id, state] = *calls_.begin();
      state.may_have_happened |= state.ticket != 0;
      finish(id, fail(ErrorClass::fatal, "call_cancelled", "the client is going away"));
    }
  });
  loop_.stop();
}

Core::CallId Core::start(Call call, Done done) {
  CallId const id = next_.fetch_add(1, std::memory_order_relaxed);
  loop_.post([this, id, call = std::move(call), done = std::move(done)]() mutable {
    State& state = calls_[id];
    state.call = std::move(call);
    state.done = std::move(done);
    if (!transport_) return finish(id, fail(ErrorClass::fatal, "call_cancelled", "the client is going away"));
    if (state.call.refused) return finish(id, std::unexpected(*std::move(state.call.refused)));
    if (auto bad = bad_header(state.call.request)) return finish(id, std::unexpected(*std::move(bad)));
    if (state.call.pause > Duration{0})
      state.timer = loop_.after(state.call.pause, [this, id] { attempt(id); });
    else
      attempt(id);
  });
  return id;
}

void Core::cancel(CallId id) {
  loop_.post([this, id] {
    auto const found = calls_.find(id);
    if (found == calls_.end()) return;
    if (found->second.ticket != 0) {
      transport_->abort(found->second.ticket);
      found->second.may_have_happened = true;
    }
    finish(id, fail(ErrorClass::fatal, "call_cancelled", "the caller has cancelled it"));
  });
}

Result<Response> Core::run(Call call, std::stop_token const& stop) {
  if (loop_.is_current()) {
    return fail(ErrorClass::user, "wrong_thread", "a blocking call on the client's own thread would wait for itself");
  }
  std::mutex mutex;
  std::condition_variable arrived;
  Result<Response> answer;
  bool has_answer = false;
  CallId const id = start(std::move(call), [&](Result<Response> result) {
    std::lock_guard const lock{mutex};
    answer = std::move(result);
    has_answer = true;
    arrived.notify_one();  // With the lock held: this stack frame goes as soon as it is let go.
  });
  std::stop_callback const on_stop{stop, [this, id] { cancel(id); }};
  std::unique_lock lock{mutex};
  arrived.wait(lock, [&] { return has_answer; });
  return answer;
}

void Core::attempt(CallId id) {
  State& state = calls_.at(id);
  state.timer = 0;
  Request request = state.call.request;
  if (auto const give_up_at = state.call.give_up_at) {
    auto const left = std::chrono::ceil<Duration>(*give_up_at - Loop::Clock::now());
    if (left <= Duration{0})
      return finish(id, std::unexpected(transport_error("timed_out", "its deadline is over", false)));
    request.timeout = std::min(request.timeout, left);
  }
  ++state.attempts;
  state.ticket =
      transport_->send(std::move(request), [this, id](Result<Response> answer) { on_answer(id, std::move(answer)); });
}

void Core::on_answer(CallId id, Result<Response> answer) {
  auto const found = calls_.find(id);
  if (found == calls_.end()) return;  // It was cancelled while its answer was on its way.
  State& state = found->second;
  state.ticket = 0;
  if (answer && answer->status >= 400) answer = std::unexpected(read_problem(*answer));
  // A DELETE that finds nothing, as an attempt before it, whose answer was lost, may have deleted it.
  static constexpr std::array<std::string_view, 3> kGone{"batch_not_found", "cache_miss", "job_not_found"};
  bool const is_gone = !answer && std::find(kGone.begin(), kGone.end(), answer.error().code) != kGone.end();
  if (is_gone && state.may_have_happened && state.call.request.method == "DELETE") answer = Response{.status = 204};
  if (answer) return finish(id, std::move(answer));
  Error const& error = answer.error();
  bool const harmless = state.call.repeatable || !error.may_have_happened;
  bool const is_too_late = error.retry_after.value_or(Duration{0}) > kRetryAfterMax;
  if (!is_worth_another(error) || !harmless || is_too_late ||
      state.attempts >= state.call.attempts.value_or(options_.retry.attempts)) {
    return finish(id, std::move(answer));
  }
  Duration const pause =
      std::max(backoff(options_.retry, state.attempts, chance_), error.retry_after.value_or(Duration{0}));
  if (state.call.give_up_at && Loop::Clock::now() + pause >= *state.call.give_up_at) {
    answer.error().message = "its deadline is over; before, " + describe(error);
    answer.error().code = "timed_out";
    return finish(id, std::move(answer));
  }
  log(LogLevel::info, "attempt " + std::to_string(state.attempts) + " of " + state.call.request.method + " " +
                          state.call.request.target + " failed, again in " + std::to_string(pause.count()) +
                          " ms: " + describe(error));
  state.may_have_happened |= error.may_have_happened;
  state.timer = loop_.after(pause, [this, id] { attempt(id); });
}

void Core::finish(CallId id, Result<Response> answer) {
  auto node = calls_.extract(id);
  // An attempt before this one, whose answer was lost, is the caller's business as well.
  if (!answer && node.mapped().may_have_happened) answer.error().may_have_happened = true;
  if (node.mapped().timer != 0) loop_.cancel(node.mapped().timer);
  node.mapped().done(std::move(answer));
}

void Core::log(LogLevel level, std::string message) {
  if (!options_.log) return;
  if (loop_.is_current()) return say(options_.log, level, message);
  loop_.post([this, level, message = std::move(message)] { say(options_.log, level, message); });
}

}  // namespace workmill::client::detail
