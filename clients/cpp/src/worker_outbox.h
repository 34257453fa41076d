#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "text.h"
#include "worker_core.h"

// How a report gets into a worker's outbox: for the files that a WorkerCore is written in.
namespace workmill::client::detail {

inline constexpr std::size_t kNoticesMax =
    10'000;  // Reports that wait; beyond them progress and log lines are dropped.
inline constexpr std::size_t kReportHeadBytes = 128;

// The beginning of a report's JSON, up to the members that its outcome has.
void write_head(JobView const& job, std::string_view outcome, std::string& out);

template <class Write>
bool WorkerCore::append(Kind kind, std::size_t bytes, Write&& write, std::move_only_function<void(Result<>)> waiter,
                        HeldJob* done) {
  bool wake = false;
  {
    std::lock_guard const lock{outbox_mutex_};
    if (kind == Kind::notice && waiting_reports_.load(std::memory_order_relaxed) >= kNoticesMax) return false;
    if (outbox_.empty() || !outbox_.back()->has_room(bytes)) {
      if (spare_.empty()) {
        outbox_.push_back(std::make_unique<ReportBatch>());
      } else {
        outbox_.push_back(std::move(spare_.back()));
        spare_.pop_back();
      }
    }
    ReportBatch& batch = *outbox_.back();
    if (batch.count > 0) batch.text.push_back(',');
    batch.starts.push_back(batch.text.size());
    write(batch.text);
    if (waiter) batch.waiters.push_back({.index = batch.count, .done = std::move(waiter)});
    ++batch.count;
    waiting_reports_.fetch_add(1, std::memory_order_relaxed);
    if (done != nullptr) done_.push_back(done);
    if (!loop_.is_current()) wake = !std::exchange(woken_, true);
  }
  if (wake) loop_.post([this] { flush(); });
  return true;
}

}  // namespace workmill::client::detail
