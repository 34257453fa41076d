#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "model/command.h"
#include "model/job.h"
#include "model/reply.h"

// An engine on a log that is a list of effects, and short ways to ask it for things.
namespace workmill::engine {

// Keeps every effect, with its own copy of what the effect borrows. Segments of a few records each.
class ListLog final : public EffectSink {
 public:
  static constexpr std::uint32_t kRecordBytes = 50;

  struct Record {
    Effect effect;
    Written written;
    Instant at;
  };

  struct Landed {
    JobNumber number{};
    std::string body{};
    bool is_kept = false;
  };

  explicit ListLog(std::uint32_t records_per_segment = 16) : records_per_segment_(records_per_segment) {}

  Written write(Effect const& effect) override {
    Effect kept = effect;
    std::visit([this](auto& e) { own(e); }, kept);
    if (in_segment_ == records_per_segment_) {
      ++segment_;
      in_segment_ = 0;
    }
    Written const written{.at = {.segment = segment_, .offset = 100 + in_segment_++ * kRecordBytes},
                          .bytes = kRecordBytes};
    records.push_back({.effect = std::move(kept), .written = written, .at = at});
    return written;
  }
  void landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) override {
    flights_landed.push_back({.number = flight, .body = std::string{value.body}, .is_kept = is_kept});
  }
  std::uint32_t segment() const { return segment_; }
  void start_segment() { in_segment_ = records_per_segment_; }

  std::deque<Record> records;
  std::vector<Landed> flights_landed;
  Instant at{};  // Of the batch.

 private:
  template <class E>
  void own(E& e) {
    if constexpr (requires { e.spec; }) own(e.spec);
    if constexpr (requires { e.history; }) own(e.history);
    if constexpr (requires { e.checkpoint; }) own(e.checkpoint);
    if constexpr (requires { e.data; }) own(e.data);
    if constexpr (requires { e.worker; }) own(e.worker);
    if constexpr (requires { e.result; }) own(e.result);
    if constexpr (requires { e.code; }) own(e.code);
    if constexpr (requires { e.message; }) own(e.message);
    if constexpr (requires { e.detail; }) own(e.detail);
    if constexpr (requires { e.lines; }) own(e.lines);
    if constexpr (requires { e.name; }) own(e.name);
    if constexpr (requires { e.key; }) own(e.key);
    if constexpr (requires { e.reply; }) own(e.reply);
    if constexpr (requires { e.content_type; }) own(e.content_type);
    if constexpr (requires { e.body; }) own(e.body);
    if constexpr (requires { e.tags; }) own(e.tags);
    if constexpr (requires { e.by; }) own(e.by);
    if constexpr (requires { e.definition; }) own(e.definition);
    if constexpr (requires { e.id; }) own(e.id);
    if constexpr (requires { e.meta; }) own(e.meta);
    if constexpr (requires { e.traceparent; }) own(e.traceparent);
    if constexpr (requires { e.tracestate; }) own(e.tracestate);
    if constexpr (requires { e.on_success; }) own(e.on_success);
    if constexpr (requires { e.on_finish; }) own(e.on_finish);
    if constexpr (requires { e.callbacks; }) {
      for (auto& callback : e.callbacks) {
        own(callback.queue);
        own(callback.spec);
      }
    }
  }
  void own(std::string_view& view) {
    texts_.emplace_back(view);
    view = texts_.back();
  }

  std::uint32_t records_per_segment_;
  std::uint32_t segment_ = 1;
  std::uint32_t in_segment_ = 0;
  std::deque<std::string> texts_;
};

// All that can be seen of an engine, as text: but for queues that are empty and set to nothing, and figures.
std::string dump(Engine& engine);

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : EngineTest(EngineOptions{}) {}
  explicit EngineTest(EngineOptions const& options);

  void pass(Duration time) { log.at = now += time; }
  // Until there is nothing more to do right now.
  void advance();
  void pass_and_advance(Duration time) {
    pass(time);
    advance();
  }

  Reply execute(Command const& command);
  template <class R>
  R expect(Command const& command) {
    Reply reply = execute(command);
    if (auto* wanted = std::get_if<R>(&reply)) return std::move(*wanted);
    auto const* error = std::get_if<Error>(&reply);
    ADD_FAILURE() << "another reply: " << (error ? describe(*error) : "no error");
    return {};
  }
  ErrorCode expect_error(Command const& command) {
    Reply const reply = execute(command);
    auto const* error = std::get_if<Error>(&reply);
    if (error) return error->code;
    ADD_FAILURE() << "no error";
    return ErrorCode::internal;
  }
  // A bulk command, through all its parts.
  std::uint64_t count(BulkJobs command);
  std::uint64_t count(PurgeQueue command);

  static Bytes bytes(JobSpecView const& spec);
  EnqueuedJob enqueue(JobSpecView const& spec);
  std::vector<LeasedJob> lease(std::vector<std::string_view> queues = {"default"}, std::uint32_t max = 1,
                               std::optional<Duration> lease = {});
  LeasedJob lease_one(std::string_view queue = "default");
  ReportResult report(LeasedJob const& job, Outcome outcome);
  JobView view(JobNumber number);
  // What stands in the log where the engine says that the job's checkpoint is.
  JobCheckpoint checkpoint(JobNumber number);
  QueueView queue(std::string_view name = "default");
  std::vector<std::string> types_in_order(std::string_view queue, std::uint32_t max);
  static JobRef ref(JobNumber number) { return {.number = number, .text = {}}; }

  // What comes out of the log, from the first record of `from_segment` on.
  std::unique_ptr<Engine> replay(std::uint32_t from_segment = 0);

  EngineOptions options;
  ListLog log;
  Engine engine;
  Instant now;
  std::uint64_t chance = 1;
};

}  // namespace workmill::engine
