#include "lease_link.h"

#include <algorithm>
#include <deque>
#include <random>

#include "core.h"
#include "wire.h"

namespace workmill::client::detail {
namespace {

constexpr Duration kWait{20'000};
constexpr unsigned kLeaseMax = 1'000;  // As many as a request may ask for.

class LeaseLink final : public WorkLink {
 public:
  LeaseLink(Loop& loop, std::unique_ptr<Transport> transport, ServerOptions const& options, Subscription subscription,
            LinkEvents& events)
      : loop_(loop),
        transport_(std::move(transport)),
        request_timeout_(options.request_timeout),
        subscription_(std::move(subscription)),
        events_(events),
        chance_(std::random_device{}()) {}

  ~LeaseLink() override {
    loop_.cancel(pause_);
    // The transport goes with all its requests.
  }

  void start() override { pump(); }
  void send(ReportBatchPtr batch) override {
    waiting_.push_back(std::move(batch));
    pump();
  }
  void set_credit(unsigned credit) override {
    subscription_.credit = credit;
    pump();
  }
  void on_room() override { pump(); }
  void drain() override {
    draining_ = true;
    if (lease_ticket_ != 0 && !lease_batch_) transport_->call_off(lease_ticket_);  // It only waits.
    pump();
  }
  bool has_unanswered() const override { return !waiting_.empty() || report_batch_ || lease_batch_; }

 private:
  bool may_lease() const { return lease_ticket_ == 0 && !draining_ && pause_ == 0 && room() > 0; }
  unsigned room() const {
    std::size_t const held = events_.held_count();
    return held >= subscription_.credit ? 0 : subscription_.credit - static_cast<unsigned>(held);
  }

  void pump() {
    if (pause_ != 0 || refused_) return;
    if (may_lease()) {
      ReportBatchPtr riding;
      if (!waiting_.empty() && !waiting_.front()->is_suspect && !report_batch_) {
        riding = std::move(waiting_.front());
        waiting_.pop_front();
      }
      lease(std::move(riding));
    }
    // One at a time, so that the reports of a job come in their order.
    if (!waiting_.empty() && !report_batch_ && !lease_batch_) {
      report_batch_ = std::move(waiting_.front());
      waiting_.pop_front();
      report();
    }
    if (draining_ && lease_ticket_ == 0 && !has_unanswered() && events_.held_count() == 0 && !drained_) {
      drained_ = true;
      loop_.post([this, alive = std::weak_ptr{alive_}] {
        if (alive.lock()) events_.on_drained();
      });
    }
  }

  void lease(ReportBatchPtr riding) {
    // With reports it does not wait: their answer would wait with it, and the reports behind them.
    Duration const wait = riding ? Duration{0} : kWait;
    Request request{.method = "POST", .target = "/v1/leases", .timeout = request_timeout_ + wait, .waits = true};
    LeaseRequest const asked{.queues = subscription_.queues,
                             .max = std::min(room(), kLeaseMax),
                             .wait = wait,
                             .lease = subscription_.lease,
                             .worker = subscription_.worker};
    request.body = lease_body(asked);
    if (riding) {
      request.body.pop_back();
      request.body.append(",\"reports\":[").append(riding->text).append("]}");
    }
    lease_batch_ = std::move(riding);
    lease_ticket_ = transport_->send(std::move(request), [this](Result<Response> answer) {
      lease_ticket_ = 0;
      ReportBatchPtr batch = std::move(lease_batch_);
      if (!answer && !batch && draining_) return pump();  // Called off.
      Taken const taken = take(answer, batch.get(), Asked::lease);
      if (taken == Taken::refused) batch->is_suspect = true;  // Or the lease is at fault: the next one rides alone.
      if (taken != Taken::yes && batch) put_back(std::move(batch));
      pump();
    });
  }

  void report() {
    Request request{.method = "POST", .target = "/v1/reports", .timeout = request_timeout_};
    request.body = "{\"reports\":[" + report_batch_->text + "]}";
    transport_->send(std::move(request), [this](Result<Response> answer) {
      ReportBatchPtr batch = std::move(report_batch_);
      Taken const taken = take(answer, batch.get(), Asked::reports);
      if (taken == Taken::refused)
        suspect(std::move(batch), answer.error());
      else if (taken == Taken::again)
        put_back(std::move(batch));
      pump();
    });
  }

  enum class Taken : std::uint8_t {
    yes,
    again,    // The request is to be made again.
    refused,  // But not with the same reports.
  };

  // For jobs, with reports that ride along or without; or for answers to reports alone.
  enum class Asked : std::uint8_t { lease, reports };

  // Hands on what was answered.
  Taken take(Result<Response>& answer, ReportBatch* batch, Asked asked) {
    if (answer && answer->status >= 400) answer = std::unexpected(read_problem(*answer));
    if (answer) {
      std::string& body = answer->body;
      body.reserve(body.size() + FrameReader::padding());
      auto const read = reader_.read(body, frame_);
      bool const has_jobs = frame_.has_jobs || asked == Asked::reports;
      bool const has_answers = batch == nullptr || batch->count == frame_.answers;
      if (!read)
        answer = std::unexpected(read.error());
      else if (!has_jobs || !has_answers)
        answer = not_ours("an answer without what was asked for");
    }
    if (!answer && batch != nullptr && is_about_reports(answer.error())) return Taken::refused;
    if (!answer) {
      fail(std::move(answer).error());
      return Taken::again;
    }
    if (std::exchange(failures_, 0) > 0 || !was_up_) events_.on_up(true, std::exchange(was_up_, true));
    if (batch != nullptr) events_.on_answers(*batch, frame_);
    if (!frame_.jobs.empty() || !frame_.cancel.empty()) events_.on_frame(frame_);
    return Taken::yes;
  }

  // One of them is at fault, and all were refused with it.
  void suspect(ReportBatchPtr batch, Error const& error) {
    if (batch->count == 1) return events_.on_report_refused(*batch, error);
    auto parts = split(std::move(batch));
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) waiting_.push_front(std::move(*part));
  }

  void fail(Error error) {
    if (error.error_class == ErrorClass::user) {
      refused_ = true;
      return events_.on_refused(std::move(error), false);
    }
    ++failures_;
    events_.on_trouble(describe(error));
    if (pause_ != 0) return;
    Duration const pause = std::max(backoff(kAwayPolicy, failures_, chance_), error.retry_after.value_or(Duration{0}));
    pause_ = loop_.after(pause, [this] {
      pause_ = 0;
      pump();
    });
  }

  void put_back(ReportBatchPtr batch) {
    batch->sent_before = true;
    waiting_.push_front(std::move(batch));
  }

  Loop& loop_;
  std::unique_ptr<Transport> transport_;
  Duration const request_timeout_;
  Subscription subscription_;
  LinkEvents& events_;
  std::minstd_rand chance_;
  FrameReader reader_;
  Frame frame_;
  std::deque<ReportBatchPtr> waiting_;  // Bounded by the worker, whose reports they are.
  ReportBatchPtr report_batch_;         // Under way by themselves,
  ReportBatchPtr lease_batch_;          // or riding on a lease call.
  Transport::Ticket lease_ticket_ = 0;
  Loop::TimerId pause_ = 0;
  unsigned failures_ = 0;
  bool draining_ = false;
  bool drained_ = false;
  bool refused_ = false;
  bool was_up_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

std::unique_ptr<WorkLink> make_lease_link(Loop& loop, std::unique_ptr<Transport> transport,
                                          ServerOptions const& options, Subscription subscription, LinkEvents& events) {
  return std::make_unique<LeaseLink>(loop, std::move(transport), options, std::move(subscription), events);
}

}  // namespace workmill::client::detail
