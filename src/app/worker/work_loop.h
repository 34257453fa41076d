#pragma once
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/http_client.h"
#include "app/terminal.h"
#include "app/worker/checkpoint_file.h"
#include "app/worker/child_process.h"
#include "app/worker/file_descriptor.h"
#include "app/worker/outbox.h"
#include "app/worker/report.h"
#include "base/time.h"

// `workmill work`: takes jobs, runs a command for each, reports. One thread that polls everything: the server's
// answers, the handlers' pipes, the signals.
//
// What it holds is bounded by its concurrency: a job is leased for a free place only, and while the server is away the
// ends of the running ones wait in the outbox and nothing new begins.
namespace workmill::app {

struct WorkOptions {
  std::vector<std::string> queues;
  std::size_t concurrency = 1;
  std::optional<Duration> lease;  // Nothing: as each job or the server has it.
  std::string worker;
  std::vector<std::string> command;
  PayloadAs payload_as = PayloadAs::json;
  bool until_empty = false;  // End when there is nothing to take.
  bool verbose = false;      // Say how each job ended.
};

struct WorkSummary {
  std::uint64_t completed = 0;
  std::uint64_t failed = 0;
  std::uint64_t released = 0;
  std::uint64_t lost = 0;        // Their leases were over before their reports came through.
  std::uint64_t unreported = 0;  // Given up on.
  std::optional<Error> error;    // What ended it, if not its end or a signal.
};

class WorkLoop {
 public:
  WorkLoop(WorkOptions options, ServerAddress address, Clock const& clock);
  ~WorkLoop();

  // Until the queue is empty (if asked so), or a signal: SIGTERM and SIGINT drain, a second one gives the running jobs
  // back. Blocks these signals for the calling thread.
  WorkSummary run();

 private:
  using Moment = Duration;  // On the clock that never goes back.

  struct Running {
    Running(LeaseName job_name, ChildProcess process) : job(std::move(job_name)), child(std::move(process)) {}

    LeaseName job;
    ChildProcess child;
    Duration lease{};  // For how long it is extended each time.
    Moment extend_at{};
    Moment log_at{};
    std::optional<CheckpointFile> checkpoint;
    Moment checkpoint_at{};  // When to look at it.
    bool checkpoint_waits = false;
    bool extend_waits = false;  // A report of this kind is in the outbox or on its way.
    bool log_waits = false;
    bool is_cancelled = false;
    bool is_lost = false;
    bool is_released = false;
    std::optional<Moment> kill_at;  // It was asked to end, and has until then.
  };

  Moment moment() const;
  bool is_over(Moment now) const;
  void start_requests(Moment now);
  void start_lease(std::size_t free_places);
  void start_reports();
  Duration time_to_next(Moment now) const;

  void on_signals();
  void on_lease_answer(Result<HttpReply> reply);
  void on_reports_answer(Result<HttpReply> reply);
  // Reads an answer; where there is none, puts the reports that were sent with it back and decides what comes next.
  std::optional<JsonDocument> read_answer(Result<HttpReply> reply, std::vector<OutboxItem>& sent);
  void on_server_away(Error const& error, std::optional<Duration> retry_after);
  void on_server_back();
  void on_report_results(JsonValue const& answer, std::vector<OutboxItem> sent);
  void on_report_refused(OutboxItem item, Error const& error);
  void on_accepted(OutboxItem const& item, bool cancel_requested);

  void start_job(LeasedJob job);
  std::optional<CheckpointFile> make_checkpoint(LeasedJob const& job);
  // What its command has left since the last look goes into the outbox.
  void take_checkpoint(Running& running);
  void end_job(Running& running);
  void end_ended_jobs();
  void on_timers(Moment now);
  void ask_to_end(Running& running);
  void add_final(OutboxItem::Kind kind, LeaseName job, std::string report);
  Running* find_running(LeaseName const& job);

  void stop(std::optional<Error> error);
  void say(std::string const& line);
  void show_progress();

  WorkOptions options_;
  Clock const& clock_;
  std::string server_url_;
  HttpMulti http_;
  FileDescriptor signals_;
  ProgressLine progress_;
  WorkSummary summary_;
  Moment started_at_;

  std::optional<CheckpointFolder> checkpoints_;  // Made for the first job. Outlives the running.
  std::uint64_t checkpoints_made_ = 0;
  std::list<Running> running_;  // A list: what a handler's pipes are polled for keeps its place.
  Outbox outbox_;
  HttpMulti::Ticket lease_ticket_ = HttpMulti::Ticket::none;
  std::vector<OutboxItem> lease_reports_;  // Rode on the lease call that is under way.
  HttpMulti::Ticket reports_ticket_ = HttpMulti::Ticket::none;
  std::vector<OutboxItem> sent_reports_;

  bool is_stopping_ = false;  // No new jobs.
  int signals_seen_ = 0;
  bool seen_empty_ = false;  // The last lease call brought nothing, and nothing has ended since.
  bool was_connected_ = false;
  bool is_away_ = false;
  int failures_ = 0;
  Moment next_try_{};
  Moment next_lease_{};
  std::optional<Moment> give_up_at_;
};

}  // namespace workmill::app
