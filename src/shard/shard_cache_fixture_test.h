#pragma once
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "shard/shard_fixture_test.h"

// For the tests of the shared cache: a shard with one, and what they do to it again and again.
namespace workmill::shard {

// Flushes when it is told to.
class HeldFlusher final : public Flusher {
 public:
  explicit HeldFlusher(log::Log& log) : log_(log) {}
  void request(std::uint64_t batch) override { requested_ = batch; }
  Progress progress() const override { return progress_; }
  void flush() {
    ASSERT_TRUE(log_.flush());
    progress_.durable = requested_;
    progress_.flushes += 1;
  }

 private:
  log::Log& log_;
  std::uint64_t requested_ = 0;
  Progress progress_;
};

class ShardCacheTest : public ShardTest {
 protected:
  ShardCacheTest() {
    engine_options_.cache_jitter_permille = 0;
    log_options_.segment_bytes = 64 * 1024;
  }

  cache::Lookup find(std::string_view key) const { return cache_->find(key, clock_.now()); }
  std::string body(std::string_view key) const {
    auto const found = find(key);
    return found.value ? std::string{found.value->body()} : "(none)";
  }
  LeasedJob lease_one() {
    auto const leased = ask<LeaseReply>(lease());
    if (leased.jobs.size() == 1) return leased.jobs[0];
    ADD_FAILURE() << "nothing to lease";
    return {};
  }
  void complete(LeasedJob const& job, BytesView result) {
    auto const reported = ask<ReportsReply>(ReportBatch{.reports = {completed(job, result)}});
    ASSERT_EQ(reported.reports.size(), 1u);
    EXPECT_FALSE(reported.reports[0].error);
  }
  void fail_for_good(LeasedJob const& job, ErrorClass error_class = ErrorClass::user) {
    Report report{.job = {.number = job.number, .text = {}}, .lease = job.token};
    report.outcome = Failed{.error_class = error_class, .code = "bad_input", .message = "no such user"};
    ask<ReportsReply>(ReportBatch{.reports = {report}});
  }
  void expect_sound(std::string_view when = "") {
    EXPECT_EQ(engine_->check_invariants(), "") << when;
    EXPECT_EQ(cache_->check_invariants(), "") << when;
  }
};

}  // namespace workmill::shard
