#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "frames.h"
#include "loop.h"
#include "work_link.h"
#include "workmill/worker.h"

// What a Worker is made of. Internal.
//
// The loop's thread owns the link, the table of held jobs and all timers. Handlers' threads take jobs from a queue and
// put reports into the outbox; both are behind one lock each, held for a few lines, and the loop is woken once for all
// that gather meanwhile. A handler that runs inline sees neither queue nor wake-up.
namespace workmill::client::detail {

// A job that is held. Owned by the loop's table; handed to one of the pool's threads, which gives it back when done.
struct HeldJob {
  JobView view;         // Into `storage`, or into the frame for a job that runs inline.
  std::string storage;  // Of a job that outlives its frame.
  bool is_inline = false;
  std::atomic<bool> cancelled{false};
  std::stop_source stop{std::nostopstate};
  Loop::Clock::time_point extend_at{};
  // What its report sets in the cache: keys, and entries as JSON. Of the handler's thread.
  std::vector<std::pair<std::string, std::string>> cached{};
  bool is_lost = false;     // Its lease is.
  bool is_foreign = false;  // Of a stream that is gone for good: it is not within the credit of the one that is there.

  ReportOn name() const { return {.id = std::string{view.id}, .lease = std::string{view.lease}}; }
};

class WorkerCore final : public LinkEvents {
 public:
  WorkerCore(std::shared_ptr<Backend> backend, WorkerOptions options);
  ~WorkerCore() override;

  void add_handler(std::string type, Handler handler, HandlerOptions options);
  void add_middleware(Middleware middleware) { middleware_.push_back(std::move(middleware)); }

  void start();
  void stop();
  Result<> wait();
  void stop_on_signals();
  WorkerFigures figures() const;

  // What a JobContext does.
  void report(HeldJob const& job, Report const& report);
  Result<> checkpoint(HeldJob& job, std::string_view json);
  static Result<> cache(HeldJob& job, std::string_view key, std::string entry);

 private:
  struct Registered {
    Handler handler;
    RunOn run_on = RunOn::pool;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Counters {
    std::atomic<std::uint64_t> started{0}, completed{0}, failed{0}, released{0}, lease_lost{0}, reconnects{0};
  };
  enum class Phase : std::uint8_t { idle, running, draining, leaving, ended };
  enum class Kind : std::uint8_t { final, notice };  // Of a report: ends its job, or does not.

  // ---- On the loop's thread.
  void on_frame(Frame& frame) override;
  void on_answers(ReportBatch& batch, Frame& frame) override;
  void on_report_refused(ReportBatch& batch, Error const& error) override;
  void on_up(bool resumed, bool again) override;
  void on_refused(Error error, bool is_stream) override;
  void on_drained() override;
  void on_trouble(std::string const& what) override;
  std::vector<std::string> held() override;
  std::size_t held_count() override { return held_.size(); }

  void begin();
  void make_link(bool stream);
  void take_job(JobView const& view, std::vector<HeldJob*>& for_pool);
  HeldJob* hold(JobView const& view);
  void flush();
  void extend_leases();
  void cancel_job(std::string_view id);
  void lose_job(ReportBatch const& batch, std::size_t index);
  static void tell(HeldJob& job);
  void begin_drain();
  void leave();
  void end(std::optional<Error> error);
  void give_back_waiting();
  void reap();  // Forgets the jobs that are done.
  void forget(std::vector<HeldJob*> const& done);
  void look_for_end();

  // ---- On any thread.
  void run_handler(HeldJob& job, Registered const* registered);
  Result<> call_handler(HeldJob& job, Registered const& registered, HandlerOutput& output);
  void finish_job(HeldJob& job, Result<> result, HandlerOutput const& output);
  // Appends a report to the outbox; `write` appends its JSON, of about so many bytes. False where it is only a notice,
  // and too much waits already. `done`: the job has ended by it.
  template <class Write>
  bool append(Kind kind, std::size_t bytes, Write&& write, std::move_only_function<void(Result<>)> waiter = {},
              HeldJob* done = nullptr);
  void release(JobView const& view, HeldJob* done);
  void run_pool();
  void log(LogLevel level, std::string_view message) const;

  WorkerOptions options_;
  std::shared_ptr<Backend> backend_;
  std::unordered_map<std::string, Registered, TextHash, std::equal_to<>> handlers_;
  std::vector<Middleware> middleware_;
  Counters counters_;

  // The pool.
  std::mutex pool_mutex_;
  std::condition_variable pool_arrived_;
  std::deque<HeldJob*> pool_queue_;  // Bounded by the credit.
  bool pool_closed_ = false;
  std::vector<std::thread> pool_;

  // Reports on their way to the loop, and jobs that are done.
  std::mutex outbox_mutex_;
  std::deque<ReportBatchPtr> outbox_;
  std::vector<ReportBatchPtr> spare_;  // Batches to be used again.
  std::vector<HeldJob*> done_;
  bool woken_ = false;
  std::atomic<std::size_t> waiting_reports_{0};  // In the outbox and unanswered.

  // The loop's.
  std::unordered_map<std::string_view, std::unique_ptr<HeldJob>> held_;  // By lease token, lent by the job.
  HeldJob inline_job_;
  std::string result_;  // Of the inline handler that runs.
  Loop::TimerId extend_timer_ = 0;
  Loop::TimerId drain_timer_ = 0;
  std::size_t foreign_ = 0;  // Of the held.
  Phase phase_ = Phase::idle;
  bool is_drained_ = false;
  std::string last_trouble_;  // Since it was connected last.
  std::unique_ptr<WorkLink> link_;
  struct Signals;
  std::unique_ptr<Signals> signals_;

  // For wait().
  std::mutex end_mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
  bool has_started_ = false;
  std::optional<Error> error_;
  std::mutex join_mutex_;
  std::atomic<bool> closed_{false};  // Nothing is reported any more.

  Loop loop_;  // Ends first.
};

}  // namespace workmill::client::detail
