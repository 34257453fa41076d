#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "protocols/http/session.h"

// How answers leave a connection: in the order of their requests, many in one send.
namespace workmill::http {
namespace {

using net::IoStatus;

constexpr std::size_t kSpareOutputsMax = 512;  // Of 16 KiB each, at most.
// Of an answer's text, for the next one.
constexpr std::size_t kTextBytesKept = 16 * 1024;

Error no_memory_for_answer() {
  return {.code = ErrorCode::overloaded,
          .message = "too many bytes of answers are under way: nothing is lost, ask again"};
}

std::size_t bytes_of(JobView const& job) {
  return job.spec.size() + job.history.result.size() + job.checkpoint.data.size();
}

// Of values, jobs and batches that the answer copies, and that can be asked for again. Many may wait for the same one,
// of megabytes, and one may ask many times.
std::size_t value_bytes_of(Reply const& reply, Route route) {
  if (auto const* const cached = std::get_if<CachedReply>(&reply)) {
    return cached->value && route != Route::put_cached ? cached->value->body().size() : 0;
  }
  if (route == Route::get_job) {
    auto const* const one = std::get_if<JobReply>(&reply);
    return one != nullptr ? bytes_of(one->job) : 0;
  }
  std::size_t bytes = 0;
  if (route == Route::list_jobs) {
    auto const* const page = std::get_if<JobsReply>(&reply);
    for (std::size_t i = 0; page != nullptr && i < page->jobs.size(); ++i) bytes += bytes_of(page->jobs[i]);
  }
  if (route == Route::list_batches) {
    auto const* const page = std::get_if<BatchesReply>(&reply);
    for (std::size_t i = 0; page != nullptr && i < page->batches.size(); ++i) bytes += page->batches[i].meta.size();
  }
  return bytes;
}

}  // namespace

bool Session::take_answer(std::uint16_t sequence, Reply const& reply) {
  Exchange* const exchange = exchanges_.find(sequence);
  if (exchange == nullptr || exchange->is_done) return false;
  bool const is_next = sequence == exchanges_.front_sequence();
  if (is_next) lend_output();
  std::string& text = is_next ? connection_.output() : exchange->text;  // The ordinary case: where it is sent from.
  std::size_t const value_bytes = value_bytes_of(reply, exchange->route);
  bool const is_large = value_bytes > kWaitingTextBytesMax;
  if (is_large && shared_.bytes_in_flight() + value_bytes > shared_.limits.buffered_bytes_max) {
    shared_.counters.refused_memory.add();
    shared_.endpoints.answer(*exchange, no_memory_for_answer(), text);
  } else {
    shared_.endpoints.answer(*exchange, reply, text);
  }
  discount(*exchange);
  if (is_large) {  // Until it is handed over, where another is before it.
    exchange->body_bytes = exchange->text.size();
    shared_.request_bytes += exchange->body_bytes;
  }
  if (!exchange->waits && !exchange->reads_disk) {
    shared_.bunch_delay = std::max(shared_.bunch_delay, shared_.now - exchange->received_at);
  }
  exchange->is_done = true;
  bunch_size_ += 1;
  if (is_next) release_done();
  if (is_large) {  // It goes before the next of the bunch is made.
    flush();
    account_memory();
  }
  return true;
}

// Moves on over all that is answered, from the front. What was written to the output directly has no text.
void Session::release_done() {
  while (!exchanges_.empty() && exchanges_.front().is_done) {
    Exchange& exchange = exchanges_.front();
    hand_over_text(exchange);
    shared_.request_bytes -= std::exchange(exchange.body_bytes, 0);
    if (!exchange.waits) {
      shared_.counters.took(exchange.is_routed, exchange.route, shared_.now - exchange.received_at);
    }
    exchanges_.pop_front();
    shared_.under_way -= 1;
  }
  if (exchanges_.size() <= 1) large_waits_ = false;
  if (exchanges_.empty() && std::exchange(continue_due_, false)) connection_.output().append(kContinue);
}

// Without a copy where nothing is ahead of it, as it may be megabytes.
void Session::hand_over_text(Exchange& exchange) {
  std::string& output = connection_.output();
  if (output.empty()) {
    output.swap(exchange.text);
  } else {
    output.append(exchange.text);
  }
  if (exchange.text.capacity() > kTextBytesKept) std::string{}.swap(exchange.text);
}

void Session::abandon_from(std::uint16_t sequence) {
  while (!exchanges_.empty()) {
    auto const last = static_cast<std::uint16_t>(exchanges_.front_sequence() + exchanges_.size() - 1);
    Exchange& exchange = *exchanges_.find(last);
    if (exchange.is_held) {
      held_ -= 1;
    } else if (!exchange.is_done) {
      shared_.service.abandon(cookie(last));
      shared_.counters.abandoned.add();
      shared_.endpoints.abandon(exchange);
      if (exchange.profile != 0 && shared_.profiler != nullptr) shared_.profiler->cut_short(exchange.profile);
    }
    discount(exchange);
    exchanges_.pop_back();
    shared_.under_way -= 1;
    if (last == sequence) return;
  }
}

net::Connection* Session::to_send() {
  return !closing_ && !write_blocked_ && connection_.has_output() ? &connection_ : nullptr;
}

void Session::end_bunch() {
  touched_ = false;
  if (closing_) return;
  flush();
  give_output_back();
  if (paused_ && has_room()) {
    process_input();
  } else {
    settle();
  }
}

void Session::lend_output() {
  std::string& output = connection_.output();
  if (output.capacity() > std::string{}.capacity() || shared_.spare_outputs.empty()) return;
  output.swap(shared_.spare_outputs.back());
  shared_.spare_outputs.pop_back();
}

void Session::give_output_back() {
  std::string& output = connection_.output();
  if (!output.empty() || output.capacity() == std::string{}.capacity()) return;
  if (shared_.spare_outputs.size() < kSpareOutputsMax) shared_.spare_outputs.push_back(std::move(output));
  std::string{}.swap(output);
}

void Session::flush() {
  // A handshake that the socket did not take has no output of ours, and is waited for all the same.
  if (closing_ || (!connection_.has_output() && !connection_.wants_write())) return;
  std::size_t const before = connection_.output_bytes();
  // Then settle() is to shut the output down.
  bool const is_last = last_taken_ && linger_due_ && !lingering_ && !peer_closed_ && exchanges_.empty();
  switch (connection_.flush(is_last ? net::Behind::end : net::Behind::more)) {
    case IoStatus::done: write_blocked_ = false; return;
    case IoStatus::blocked:
      if (!write_blocked_) {
        slow_since_second_ = shared_.second;
        slow_bytes_ = 0;
      } else {
        slow_bytes_ += before - connection_.output_bytes();
      }
      if (!write_blocked_ || connection_.output_bytes() < before) set_deadline(Deadline::write);
      write_blocked_ = true;
      shared_.peaks.output_bytes.note(connection_.output_bytes());
      return;
    case IoStatus::foreign:
    case IoStatus::closed: closing_ = true; return;
  }
}

// After anything that happened: is this the end, what is to be waited for, and until when?
void Session::settle() {
  if (is_quiet()) {
    if (last_taken_ && linger_due_ && !peer_closed_) {
      if (!std::exchange(lingering_, true)) {
        connection_.shutdown_output();
        set_deadline(Deadline::linger);
      }
    } else if (last_taken_ ||
               (shared_.draining && !is_new_ && decoder_.phase() == RequestDecoder::Phase::idle && !paused_)) {
      closing_ = true;
    }
  }
  if (!write_blocked_ && !lingering_ && !takes_request() && deadline_ != Deadline::handshake) {
    if (exchanges_.empty()) {
      // Not again for what is no request, such as empty lines (RFC 9112, 2.2): they would keep it for ever.
      Deadline const at_rest = shared_.draining && is_new_ ? Deadline::first : Deadline::idle;
      if (deadline_ != at_rest) set_deadline(at_rest);
    } else {
      deadline_ = Deadline::none;
    }
  }
  account_memory();
  if (is_waiting_ && (closing_ || upgraded_ || wanted() != waiting_for_)) connection_.wake();
}

bool Session::is_quiet() const { return exchanges_.empty() && !connection_.has_output(); }

}  // namespace workmill::http
