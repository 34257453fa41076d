#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "app/load/http_peer.h"
#include "app/load/job_text.h"
#include "app/load/load.h"
#include "app/load/stream_peer.h"
#include "app/load/tally.h"

namespace workmill::app {

// What the reports on some jobs say: all completed or, in a mixed load, some failed, and some with their progress
// before. Composed as the member "reports" of a lease call, a report call or a stream's message.
class ReportText {
 public:
  explicit ReportText(bool is_mixed) : is_mixed_(is_mixed) {}
  // Appends `"reports":[…]` on these jobs to `out`; says what of it ends an attempt.
  struct Said {
    std::size_t completed = 0;
    std::size_t failed = 0;
  };
  Said append(std::vector<TakenJob> const& jobs, std::string& out);

 private:
  bool is_mixed_;
  std::uint64_t serial_ = 0;
};

// Those who take jobs and report them at once.
class Workers {
 public:
  // What of them goes into the tally's latency: nothing (or calls, over HTTP) for jobs that were there before they
  // came.
  enum class Times : std::uint8_t { calls, starts };
  using OnTaken = std::function<void(std::size_t count, std::string_view newest_id)>;

  virtual ~Workers() = default;
  virtual void start() = 0;
  void set_on_taken(OnTaken on_taken) { on_taken_ = std::move(on_taken); }

 protected:
  Workers(LoadOptions const& options, bool is_mixed, Times times, Tally& tally)
      : options_(options), times_(times), tally_(tally), text_(is_mixed) {}

  // What came: into the tally.
  void take(std::vector<TakenJob> const& jobs);
  // Reports that were sent have been answered; `completed` of them ended their jobs.
  bool accept(std::string_view body, std::size_t completed);

  LoadOptions const& options_;
  Times times_;
  Tally& tally_;
  ReportText text_;
  std::vector<TakenJob> taken_;  // Of what is being looked at.
  std::string body_;             // Reused.

 private:
  OnTaken on_taken_;
};

// One call at a time on each connection: it leases, with the reports of the jobs that the one before brought.
class HttpWorkers final : public Workers {
 public:
  static Result<std::unique_ptr<Workers>> connect(LoadOptions const& options, bool is_mixed, Times times, Tally& tally);
  void start() override;

 private:
  HttpWorkers(LoadOptions const& options, bool is_mixed, Times times, Tally& tally);
  struct One {
    HttpPeer* peer = nullptr;
    std::size_t completed = 0;  // Reported by the call under way.
  };
  void on_answer(One& one, PeerAnswer const& answer);
  void send_lease(One& one);
  void send_reports(One& one);
  std::string_view wait() const;

  std::deque<One> all_;  // Their addresses hold.
};

// Streams: what one message brought is reported in one message.
class StreamWorkers final : public Workers {
 public:
  static Result<std::unique_ptr<Workers>> connect(LoadOptions const& options, bool is_mixed, Times times, Tally& tally);
  void start() override;

 private:
  StreamWorkers(LoadOptions const& options, bool is_mixed, Times times, Tally& tally);
  struct One {
    StreamPeer* peer = nullptr;
    std::deque<std::size_t> completed;  // In each message of reports that is not answered yet.
  };
  void on_message(One& one, std::string_view message);

  std::deque<One> all_;
  std::vector<TakenJob> part_;  // Reused.
};

}  // namespace workmill::app
