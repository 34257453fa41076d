#pragma once
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/engine_fixture_test.h"

// For the tests of batches: an engine, and what is done to a batch again and again.
namespace workmill::engine {

class Batches : public EngineTest {
 protected:
  static constexpr auto kSuccess = CallbackKind::success;
  static constexpr auto kFinish = CallbackKind::finish;

  Batches() = default;
  explicit Batches(EngineOptions const& engine_options) : EngineTest(engine_options) {}

  static MakeBatch both(std::string id) {
    return {.id = std::move(id),
            .on_success = bytes({.type = "good", .queue = "callbacks"}),
            .on_finish = bytes({.type = "over", .queue = "callbacks"})};
  }
  BatchView make(std::string id = "b") { return expect<BatchReply>(both(std::move(id))).batch; }
  // Closed, and what comes of that.
  BatchView close(std::string id = "b") {
    expect<BatchReply>(CloseBatch{.id = id});
    advance();
    return get(std::move(id));
  }
  BatchView get(std::string id = "b") { return expect<BatchReply>(GetBatch{.id = std::move(id)}).batch; }
  JobNumber add(std::string_view batch = "b") {
    return enqueue({.type = "t", .max_attempts = 1, .batch = batch}).number;
  }
  void complete_one() {
    report(lease_one(), Completed{});
    advance();
  }
  void kill_one() {
    report(lease_one(), Failed{});
    advance();
  }
  CallbackState state(CallbackKind kind, std::string id = "b") { return get(std::move(id)).callback(kind).state; }
  // The types of the callbacks that are ready, in line. They are done by that.
  std::vector<std::string> called() {
    std::vector<std::string> types;
    for (LeasedJob const& job : lease({"callbacks"}, 100)) {
      types.push_back(type_of(job.number));
      report(job, Completed{});
    }
    return types;
  }
  std::string type_of(JobNumber job) {
    for (ListLog::Record const& record : log.records) {
      auto const* const made = std::get_if<effect::JobEnqueued>(&record.effect);
      JobSpecView spec;
      if (made != nullptr && made->number == job && decode_spec(made->spec, spec)) return std::string{spec.type};
    }
    return {};
  }
  JobSpecView spec_of(JobNumber job) {
    JobSpecView spec;
    for (ListLog::Record const& record : log.records) {
      auto const* const made = std::get_if<effect::JobEnqueued>(&record.effect);
      if (made != nullptr && made->number == job) {
        EXPECT_TRUE(decode_spec(made->spec, spec));
      }
    }
    return spec;
  }
  // Copies ahead what lives in the segments up to the one at hand, and reads the log from there on.
  std::unique_ptr<Engine> copied_and_replayed() {
    std::uint32_t const up_to = log.segment();
    log.start_segment();
    auto const end = log.records.size();
    for (std::size_t i = 0; i < end; ++i) {
      ListLog::Record const record = log.records[i];
      if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
      auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect);
      auto const* copied = std::get_if<effect::JobSnapshot>(&record.effect);
      Bytes history;
      encode_history({}, history);
      engine.copy_ahead(sent ? sent->number : copied->number, sent ? sent->spec : copied->spec, history, {}, log);
    }
    for (std::uint32_t segment = 1; segment <= up_to; ++segment) EXPECT_EQ(engine.live_records_in(segment), 0U);
    auto again = replay(up_to + 1);
    EXPECT_EQ(again->check_invariants(), "");
    EXPECT_EQ(dump(*again), dump(engine));
    return again;
  }
};

}  // namespace workmill::engine
