#include "app/load/workers.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "model/command.h"

namespace workmill::app {
namespace {

// A worker's wait. Short, because the reports that ride on its last call are not answered before it is over.
constexpr std::string_view kWait = "1s";
// Of a mixed load: so many jobs of a hundred fail once, and so many tell their progress first.
constexpr std::uint64_t kFailing = 5;
constexpr std::uint64_t kTelling = 10;

}  // namespace

ReportText::Said ReportText::append(std::vector<TakenJob> const& jobs, std::string& out) {
  Said said;
  out.append(R"("reports":[)");
  bool is_first = true;
  auto const begin = [&](TakenJob const& job) {
    out.append(is_first ? R"({"id":")" : R"(,{"id":")").append(job.id);
    out.append(R"(","lease":")").append(job.lease);
    is_first = false;
  };
  for (TakenJob const& job : jobs) {
    std::uint64_t const place = is_mixed_ ? serial_++ % 100 : 99;
    if (place >= kFailing && place < kFailing + kTelling) {
      begin(job);
      out.append(R"(","outcome":"progress","percent":50,"message":"half"})");
    }
    begin(job);
    if (place < kFailing && job.is_first_attempt) {
      out.append(R"(","outcome":"failed","error":{"message":"once"},"retry_in":"0s"})");
      ++said.failed;
    } else {
      out.append(R"(","outcome":"completed","result":"ok"})");
      ++said.completed;
    }
  }
  out.push_back(']');
  return said;
}

void Workers::take(std::vector<TakenJob> const& jobs) {
  if (jobs.empty()) return;
  tally_.taken += jobs.size();
  if (on_taken_) on_taken_(jobs.size(), jobs.back().id);
  if (times_ != Times::starts) return;
  for (TakenJob const& job : jobs) tally_.add_latency(job.sent_at);
}

bool Workers::accept(std::string_view body, std::size_t completed) {
  if (count_reports(body).is_any_refused) {
    tally_.fail({.code = ErrorCode::lease_lost, .message = "a report was not accepted"});
    return false;
  }
  tally_.done += completed;
  return true;
}

// --- Over HTTP.

HttpWorkers::HttpWorkers(LoadOptions const& options, bool is_mixed, Times times, Tally& tally)
    : Workers(options, is_mixed, times, tally) {}

Result<std::unique_ptr<Workers>> HttpWorkers::connect(LoadOptions const& options, bool is_mixed, Times times,
                                                      Tally& tally) {
  std::unique_ptr<HttpWorkers> made{new HttpWorkers{options, is_mixed, times, tally}};
  for (std::size_t i = 0; i < options.workers; ++i) {
    One& one = made->all_.emplace_back();
    WM_TRY(one.peer, tally.loop.connect<HttpPeer>());
    one.peer->set_on_answer(
        [self = made.get(), &one](HttpPeer&, PeerAnswer const& answer) { self->on_answer(one, answer); });
  }
  return std::unique_ptr<Workers>{std::move(made)};
}

void HttpWorkers::start() {
  for (One& one : all_) send_lease(one);
}

void HttpWorkers::on_answer(One& one, PeerAnswer const& answer) {
  if (tally_.was_refused(*one.peer, answer) || !tally_.expect(200, answer)) return;
  std::size_t const completed = std::exchange(one.completed, 0);
  if (!accept(answer.body, completed)) return;
  find_jobs(answer.body, taken_);
  if (times_ == Times::calls) tally_.add_latency(one.peer->sent_at());
  take(taken_);
  bool const is_all_taken = tally_.is_sending_over && tally_.to_take() == 0;
  // Nobody brings this one any more jobs: a wait would only keep the answer to its reports from us.
  if (is_all_taken) {
    if (!taken_.empty()) send_reports(one);
    tally_.loop.stop();
  } else {
    send_lease(one);
  }
}

// Where all jobs are there, one that finds none has nothing to wait for but what others may have failed.
std::string_view HttpWorkers::wait() const { return tally_.is_sending_over && tally_.retried == 0 ? "0s" : kWait; }

void HttpWorkers::send_lease(One& one) {
  body_.clear();
  fmt::format_to(std::back_inserter(body_), R"({{"queues":["{}"],"max":{},"wait":"{}","worker":"bench")",
                 options_.queue, options_.batch, wait());
  if (!taken_.empty()) {
    body_.push_back(',');
    auto const said = text_.append(taken_, body_);
    one.completed = said.completed;
    tally_.retried += said.failed;
  }
  body_.push_back('}');
  one.peer->send(post_request(tally_.loop.address().authority, options_.server.token, "/v1/leases", body_));
}

void HttpWorkers::send_reports(One& one) {
  body_.assign("{");
  auto const said = text_.append(taken_, body_);
  one.completed = said.completed;
  tally_.retried += said.failed;
  body_.push_back('}');
  one.peer->send(post_request(tally_.loop.address().authority, options_.server.token, "/v1/reports", body_));
}

// --- Streams.

StreamWorkers::StreamWorkers(LoadOptions const& options, bool is_mixed, Times times, Tally& tally)
    : Workers(options, is_mixed, times, tally) {}

Result<std::unique_ptr<Workers>> StreamWorkers::connect(LoadOptions const& options, bool is_mixed, Times times,
                                                        Tally& tally) {
  std::unique_ptr<StreamWorkers> made{new StreamWorkers{options, is_mixed, times, tally}};
  for (std::size_t i = 0; i < options.workers; ++i) {
    One& one = made->all_.emplace_back();
    auto on_message = [self = made.get(), &one](StreamPeer&, std::string_view message) {
      self->on_message(one, message);
    };
    WM_TRY(one.peer, tally.loop.connect<StreamPeer>(std::string_view{options.server.token}, std::move(on_message)));
  }
  return std::unique_ptr<Workers>{std::move(made)};
}

void StreamWorkers::start() {
  for (std::size_t i = 0; i < all_.size(); ++i) {
    all_[i].peer->send(
        fmt::format(R"({{"subscribe":{{"queues":["{}"],"credit":{},"lease":"60s","worker":"bench-{}"}}}})",
                    options_.queue, options_.credit, i));
  }
}

void StreamWorkers::on_message(One& one, std::string_view message) {
  tally_.answered_at = tally_.loop.now();
  if (message.starts_with(R"({"error")")) {
    return tally_.fail({.code = ErrorCode::protocol_error, .message = std::string{message}});
  }
  if (message.starts_with(R"({"reports")")) {
    if (one.completed.empty()) {
      return tally_.fail({.code = ErrorCode::protocol_error, .message = "reports were answered that nobody sent"});
    }
    std::size_t const completed = one.completed.front();
    one.completed.pop_front();
    if (accept(message, completed) && tally_.is_sending_over && tally_.done == tally_.offered) tally_.loop.stop();
    return;
  }
  if (!message.starts_with(R"({"jobs")")) return;  // Of no concern to us.
  find_jobs(message, taken_);
  take(taken_);
  for (std::size_t at = 0; at < taken_.size(); at += kReportsPerRequestMax / 2) {  // A job has two reports at most.
    auto const count = std::min(taken_.size() - at, kReportsPerRequestMax / 2);
    auto const first = taken_.begin() + static_cast<std::ptrdiff_t>(at);
    part_.assign(first, first + static_cast<std::ptrdiff_t>(count));
    body_.assign("{");
    auto const said = text_.append(part_, body_);
    body_.push_back('}');
    one.completed.push_back(said.completed);
    tally_.retried += said.failed;
    one.peer->send(body_);
  }
}

}  // namespace workmill::app
