#include "worker_core.h"

#include <algorithm>

#include "wire.h"
#include "worker_outbox.h"

// Reports on their way out, and their answers.
namespace workmill::client::detail {
namespace {

constexpr std::size_t kSpareMax = 16;  // Batches kept for the next.

}  // namespace

void write_head(JobView const& job, std::string_view outcome, std::string& out) {
  out.append(R"({"id":")").append(job.id).append(R"(","lease":")").append(job.lease);
  out.append(R"(","outcome":")").append(outcome).append("\"");
}

void WorkerCore::release(JobView const& view, HeldJob* done) {
  counters_.released.fetch_add(1, std::memory_order_relaxed);
  append(
      Kind::final, kReportHeadBytes,
      [&](std::string& out) {
        write_head(view, "released", out);
        out.push_back('}');
      },
      {}, done);
}

// The loop's own reports go out when it is done with what it does: it calls this then.
void WorkerCore::flush() {
  std::deque<ReportBatchPtr> batches;
  std::vector<HeldJob*> done;
  {
    // Both at once: a job must not be forgotten while its report is still here, or the link takes itself for idle.
    std::lock_guard const lock{outbox_mutex_};
    woken_ = false;
    if (link_ && phase_ != Phase::ended) std::swap(batches, outbox_);
    std::swap(done, done_);
  }
  forget(done);
  for (ReportBatchPtr& batch : batches) link_->send(std::move(batch));
}

void WorkerCore::reap() {
  std::vector<HeldJob*> done;
  {
    std::lock_guard const lock{outbox_mutex_};
    std::swap(done, done_);
  }
  forget(done);
}

void WorkerCore::forget(std::vector<HeldJob*> const& done) {
  if (done.empty()) return;
  std::size_t const foreign_before = foreign_;
  for (HeldJob* const job : done) {
    if (job->is_foreign) --foreign_;
    held_.erase(held_.find(job->view.lease));
  }
  if (!link_ || phase_ == Phase::ended) return;
  if (foreign_ != foreign_before && phase_ == Phase::running) {
    link_->set_credit(options_.credit - std::min<unsigned>(options_.credit, static_cast<unsigned>(foreign_)));
  }
  link_->on_room();
}

void WorkerCore::extend_leases() {
  if (phase_ == Phase::ended) return;
  auto const now = Loop::Clock::now();
  reap();
  for (auto& [lease, job] : held_) {
    if (job->extend_at > now || job->is_lost) continue;
    job->extend_at = now + options_.lease / 3;
    append(Kind::notice, kReportHeadBytes, [&](std::string& out) {
      write_head(job->view, "extend", out);
      out.append(",\"for\":\"").append(format_duration(options_.lease)).append("\"}");
    });
  }
  flush();
  // Looked at twice as often as a lease is extended: none is later than at half of it.
  extend_timer_ = loop_.after(std::max(Duration{10}, options_.lease / 6), [this] { extend_leases(); });
}

void WorkerCore::on_answers(ReportBatch& batch, Frame& frame) {
  waiting_reports_.fetch_sub(batch.count);
  for (ReportAnswer const& answer : frame.remarkable) {
    if (answer.cancel_requested) cancel_job(answer.id);
    if (!answer.error) continue;
    if (answer.error->code == "lease_lost" || answer.error->code == "job_not_found") {
      counters_.lease_lost.fetch_add(1, std::memory_order_relaxed);
      // Sent twice, as an answer was lost: the first may well have counted.
      log(batch.sent_before ? LogLevel::debug : LogLevel::warn, "job " + answer.id + ": " + describe(*answer.error));
      lose_job(batch, answer.index);
    } else {
      log(LogLevel::error, "a report on job " + answer.id + " was refused: " + describe(*answer.error));
    }
  }
  for (ReportWaiter& waiter : batch.waiters) {
    auto const refused = std::find_if(
        frame.remarkable.begin(), frame.remarkable.end(),
        [&](ReportAnswer const& answer) { return answer.index == waiter.index && answer.error.has_value(); });
    if (refused != frame.remarkable.end())
      waiter.done(std::unexpected(refused->error.value_or(Error{})));
    else
      waiter.done({});
  }
  {
    std::lock_guard const lock{outbox_mutex_};
    if (spare_.size() < kSpareMax && batch.text.capacity() <= ReportBatch::kBytesMax) {
      auto empty = std::make_unique<ReportBatch>();
      empty->text = std::move(batch.text);
      empty->text.clear();
      empty->starts = std::move(batch.starts);
      empty->starts.clear();
      spare_.push_back(std::move(empty));
    }
  }
  look_for_end();
}

// The server has refused the message with this report, which was alone in it: to send it again is in vain. The handler
// is told where it waits; a job that should have ended by it ends by another one, which says why.
void WorkerCore::on_report_refused(ReportBatch& batch, Error const& error) {
  static constexpr std::string_view kRefused = "report_refused";
  waiting_reports_.fetch_sub(batch.count);
  ReportHead const head = read_head(batch.report(0));
  log(LogLevel::error, "a report on job " + std::string{head.id} + " was refused: " + describe(error));
  for (ReportWaiter& waiter : batch.waiters) waiter.done(std::unexpected(error));
  // Where the other one was refused as well nothing is left to say: the lease runs out.
  bool const was_refused = head.outcome == "failed" && batch.text.contains(R"("code":"report_refused")");
  if (head.is_end && !was_refused) {
    if (head.outcome == "completed") {
      counters_.completed.fetch_sub(1, std::memory_order_relaxed);
      counters_.failed.fetch_add(1, std::memory_order_relaxed);
    }
    Report const report = Report::failed({.id = std::string{head.id}, .lease = std::string{head.lease}},
                                         fatal_error(std::string{kRefused}, describe(error)).error());
    append(Kind::final, report.json().size(), [&](std::string& out) { out.append(report.json()); });
    flush();
  }
  look_for_end();
}

// What a report was about, by its text: rare enough to look it up there. The same job may be held under a newer lease.
void WorkerCore::lose_job(ReportBatch const& batch, std::size_t index) {
  if (index >= batch.count) return;
  auto const found = held_.find(read_head(batch.report(index)).lease);
  if (found == held_.end()) return;
  found->second->is_lost = true;
  tell(*found->second);
}

void WorkerCore::cancel_job(std::string_view id) {
  for (auto& [lease, job] : held_) {  // Rare, and no more than the credit.
    if (job->view.id == id) tell(*job);
  }
}

void WorkerCore::tell(HeldJob& job) {
  job.cancelled.store(true);
  job.stop.request_stop();
}

}  // namespace workmill::client::detail
