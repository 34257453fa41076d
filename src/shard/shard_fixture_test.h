#pragma once
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "log/memory/memory_log.h"
#include "shard/recovery.h"
#include "shard/shard_loop.h"

// For the tests of this folder: a shard over a memory disk, a clock that is turned by hand, and a client that asks one
// thing at a time.
namespace workmill::shard {

// A flusher's thread asks it too.
class TestClock final : public Clock {
 public:
  Instant now() const override { return instant_from_ms(now_ms_); }
  std::chrono::nanoseconds monotonic() const override { return Duration{now_ms_ += step_ms_}; }
  void advance(Duration by) { now_ms_ += by.count(); }
  // From now on so much time goes by with each look at the monotonic clock: within a turn, too.
  void set_step(Duration step) { step_ms_ = step.count(); }

 private:
  mutable std::atomic<std::int64_t> now_ms_{1'800'000'000'000};
  std::atomic<std::int64_t> step_ms_{0};
};

inline Bytes spec_of_job(std::string_view type, std::string_view queue = "default", BytesView payload = "{}") {
  JobSpecView spec;
  spec.type = type;
  spec.queue = queue;
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

inline Enqueue enqueue(std::vector<Bytes> specs) { return {.specs = std::move(specs), .idempotency = {}}; }

// A request for what a job of `queue` computes.
inline ComputeCached compute(std::string const& key, Duration wait = std::chrono::seconds{20}, Duration error_for = {},
                             Duration fresh = std::chrono::minutes{1}, Duration stale = std::chrono::minutes{1}) {
  JobSpecView spec;
  spec.type = "compute";
  spec.max_attempts = 1;
  spec.cache_key = key;
  spec.cache_fresh = fresh;
  spec.cache_stale = stale;
  spec.cache_error_for = error_for;
  ComputeCached command{.key = key, .wait = wait};
  encode_spec(spec, command.spec);
  return command;
}

inline PutCache put(std::string key, BytesView body, Duration fresh = std::chrono::minutes{1}, Duration stale = {},
                    std::vector<std::string> tags = {}) {
  return {
      .key = std::move(key),
      .set = {
          .content_type = "text/plain", .body = Bytes{body}, .fresh = fresh, .stale = stale, .tags = std::move(tags)}};
}

inline Lease lease(std::string queue = "default", std::uint32_t max = 1, Duration wait = {}) {
  Lease request;
  request.queues.push_back({.name = std::move(queue), .weight = 0});
  request.max = max;
  request.wait = wait;
  request.worker = "worker-1";
  return request;
}

inline Report completed(LeasedJob const& job, BytesView result = "") {
  Completed outcome;
  if (!result.empty()) outcome = {.result_kind = PayloadKind::json, .result = Bytes(result)};
  return {.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = std::move(outcome)};
}

class ShardTest : public testing::Test {
 protected:
  void SetUp() override { start(); }

  // Opens the log that is on the disk, with a fresh engine: after stop(), a restart.
  void start() {
    auto opened = log::open_memory_log(disk_, log_options_);
    ASSERT_TRUE(opened) << describe(opened.error());
    log_ = std::move(*opened);
    bound_cached_values(cache_options_, engine_options_);
    engine_ = std::make_unique<engine::Engine>(engine_options_);
    cache_ = std::make_unique<cache::Cache>(cache_options_);
    auto recovered = recover(*log_, *engine_, clock_, chance_, {}, cache_.get());
    ASSERT_TRUE(recovered) << describe(recovered.error());
    recovery_ = *recovered;
    options_.cache = cache_.get();
    loop_ = std::make_unique<ShardLoop>(
        options_, *log_, *engine_, clock_, chance_.fork(), 1, [this] { woken_ = true; }, recovery_);
  }
  // As kill -9 does it.
  void stop() {
    loop_.reset();
    engine_.reset();
    cache_.reset();
    log_.reset();
  }
  void restart() {
    stop();
    start();
  }

  Cookie submit(Command command, Allowed allowed = {}) {
    Cookie const cookie = next_cookie_++;
    auto taken =
        loop_->submit({.port = 0, .cookie = cookie, .command = std::move(command), .allowed = std::move(allowed)});
    EXPECT_TRUE(taken) << describe(taken.error());
    return cookie;
  }
  void turn() {
    auto turned = loop_->turn();
    ASSERT_TRUE(turned) << describe(turned.error());
    last_turn_ = *turned;
    std::vector<Answer> answers;
    loop_->take_answers(0, answers);
    for (Answer& answer : answers) keep(std::move(answer));
  }
  void keep(Answer answer) {
    for (Cookie const other : answer.also) answers_.insert_or_assign(other, answer.reply);
    answers_.insert_or_assign(answer.cookie, std::move(answer.reply));
  }
  bool answered(Cookie cookie) const { return answers_.contains(cookie); }
  template <class T>
  T take(Cookie cookie) {
    auto const found = answers_.find(cookie);
    if (found == answers_.end()) {
      ADD_FAILURE() << "no answer";
      return {};
    }
    Reply reply = std::move(found->second);
    answers_.erase(found);
    if (auto const* error = std::get_if<Error>(&reply); error != nullptr && !std::is_same_v<T, Error>) {
      ADD_FAILURE() << describe(*error);
      return {};
    }
    auto* wanted = std::get_if<T>(&reply);
    if (wanted == nullptr) {
      ADD_FAILURE() << "an answer of another kind: " << reply.index();
      return {};
    }
    return std::move(*wanted);
  }
  // Asks, and turns until the answer is there.
  template <class T>
  T ask(Command command) {
    Cookie const cookie = submit(std::move(command));
    for (int i = 0; i < 1'000 && !answered(cookie); ++i) turn();
    return take<T>(cookie);
  }

  TestClock clock_;
  Rng chance_{7};
  log::MemoryDisk disk_{1};
  log::SegmentLogOptions log_options_{};
  ShardOptions options_{};
  std::unique_ptr<log::Log> log_;
  engine::EngineOptions engine_options_{};
  cache::CacheOptions cache_options_{};
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<cache::Cache> cache_;
  RecoveryReport recovery_;
  std::atomic<bool> woken_{false};  // Other threads of the loop wake it, too.
  std::unique_ptr<ShardLoop> loop_;
  Turn last_turn_;
  Cookie next_cookie_ = 1;
  std::map<Cookie, Reply> answers_;
};

}  // namespace workmill::shard
