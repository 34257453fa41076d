#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "frames.h"
#include "transport.h"
#include "workmill/jobs.h"

// How a worker gets jobs and hands in reports: over a stream, or by leasing. On one loop's thread. Internal.
namespace workmill::client::detail {

struct Subscription {
  std::vector<QueueChoice> queues;
  unsigned credit = 0;
  Duration lease{};
  std::string worker;
};

// Somebody waits to hear what became of a report.
struct ReportWaiter {
  std::size_t index = 0;
  std::move_only_function<void(Result<>)> done;
};

// Reports that go out together, and are answered together.
struct ReportBatch {
  static constexpr std::size_t kReportsMax = 1'000;               // As many as a request takes.
  static constexpr std::size_t kBytesMax = std::size_t{1} << 20;  // Well below what a server takes, but for one report
                                                                  // that alone is larger.
  std::string text;                                               // Their JSON, with commas between.
  std::size_t count = 0;
  std::vector<ReportWaiter> waiters;
  std::vector<std::string> finals;  // Jobs that end by it: filled in where it has to be sent again.
  bool sent_before = false;         // It may have counted already.

  bool has_room(std::size_t bytes) const {
    return count == 0 || (count < kReportsMax && text.size() + bytes <= kBytesMax);
  }
};
using ReportBatchPtr = std::unique_ptr<ReportBatch>;

// On the loop's thread, never from inside a call of the link's.
struct LinkEvents {
  virtual ~LinkEvents() = default;
  // Jobs and cancellations. What the frame lends is good until this returns.
  virtual void on_frame(Frame& frame) = 0;
  // A batch that was sent has been answered: the answers are in the frame.
  virtual void on_answers(ReportBatch& batch, Frame& frame) = 0;
  // Connected. `resumed`: with all jobs that were out; otherwise those that are held count on no stream.
  virtual void on_up(bool resumed, bool again) = 0;
  // The worker cannot go on: its token is not good, or its request is at fault. Or, `is_stream`, there is no such thing
  // at this server.
  virtual void on_refused(Error error, bool is_stream) = 0;
  // After drain(): no job is out any more, and none will come.
  virtual void on_drained() = 0;
  virtual void on_trouble(std::string const& what) = 0;  // For the log: it tries again.
  // Ids of the jobs that it holds and has not reported.
  virtual std::vector<std::string> held() = 0;
  virtual std::size_t held_count() = 0;
};

class WorkLink {
 public:
  virtual ~WorkLink() = default;
  virtual void start() = 0;
  // Sent soon, again where the connection breaks, and answered by on_answers().
  virtual void send(ReportBatchPtr batch) = 0;
  // There is room for more jobs than before.
  virtual void set_credit(unsigned credit) = 0;
  virtual void on_room() = 0;
  virtual void drain() = 0;
  virtual bool has_unanswered() const = 0;
};

}  // namespace workmill::client::detail
