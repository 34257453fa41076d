#include "protocols/http/session.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "base/assert.h"

namespace workmill::http {
namespace {

using net::IoStatus;
using WaitFor = net::Connection::WaitFor;

// After a refusal we go on reading for so long: closing with unread input resets the connection, and a reset may
// overtake the answer.
constexpr Duration kLinger = std::chrono::seconds{2};
// For the first request of a connection that was accepted as a drain began: its client has been let in, and would have
// to guess what became of the request that it is sending.
constexpr Duration kFirstRequest = std::chrono::seconds{1};
constexpr Duration kUploadGrace = std::chrono::seconds{5};  // Before its rate is held against anyone.

}  // namespace

Session::Session(Shared& shared, CookieParts name, Welcome welcome, net::Connection& connection, Caller& caller)
    : shared_(shared),
      name_(name),
      welcome_(welcome),
      connection_(connection),
      decoder_({.header_bytes_max = shared.limits.header_bytes_max, .body_bytes_max = shared.limits.body_bytes_max}),
      caller_(caller) {
  in_handshake_ = !connection_.is_established();
  if (in_handshake_) shared_.handshakes += 1;
  set_deadline(in_handshake_ && !shared_.draining ? Deadline::handshake : first_deadline());
}

Session::~Session() {
  abandon_from(exchanges_.front_sequence());
  shared_.buffered_bytes -= accounted_bytes_;
  note_fullness();
  if (in_handshake_) {
    shared_.handshakes -= 1;
    shared_.counters.failed_handshakes.add();
  }
}

boost::asio::awaitable<void> Session::run() {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto const cancellation = co_await boost::asio::this_coro::cancellation_state;
  while (!closing_ && !upgraded_) {
    waiting_for_ = wanted();
    is_waiting_ = true;
    auto const [error] = co_await connection_.wait(waiting_for_);
    is_waiting_ = false;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) break;
    if (error == boost::asio::error::operation_aborted) continue;  // Woken: something else is to be waited for now.
    if (error) break;
    // Between the event and this line an answer may have changed what is wanted.
    if (!closing_ && !upgraded_ && waiting_for_ == wanted()) on_ready();
  }
}

WaitFor Session::wanted() const {
  if (write_blocked_ || connection_.wants_write()) return WaitFor::writable;
  // A closed side is readable for ever, and would spin.
  if (peer_closed_ || paused_) return WaitFor::hung_up;
  return WaitFor::readable;
}

void Session::on_ready() {
  switch (waiting_for_) {
    case WaitFor::readable: return receive();
    case WaitFor::writable: return end_bunch();
    case WaitFor::hung_up: closing_ = true; return;
  }
}

void Session::receive() {
  IoStatus const received = connection_.receive(shared_.scratch);
  if (in_handshake_ && received != IoStatus::foreign && connection_.is_established()) on_established();
  switch (received) {
    case IoStatus::blocked: return;
    case IoStatus::closed: return on_peer_closed();
    case IoStatus::foreign:
      refuse({.code = ErrorCode::malformed_request, .message = "this port speaks TLS: ask for https:// here"},
             Method::other);
      flush();
      return settle();
    case IoStatus::done: break;
  }
  is_new_ = false;
  process_input();
}

void Session::on_established() {
  in_handshake_ = false;
  shared_.handshakes -= 1;
  set_deadline(first_deadline());
}

Session::Deadline Session::first_deadline() const {
  if (shared_.draining) return Deadline::first;
  return welcome_ == Welcome::served ? Deadline::idle
                                     : Deadline::header;  // Whoever is turned away is to ask soon, or go.
}

// The peer may have closed its side and still read ours, so what is decided at once is answered. A request that may
// wait is not: a client that goes away in the middle of a long poll looks just the same.
void Session::on_peer_closed() {
  peer_closed_ = true;
  last_taken_ = true;
  auto sequence = exchanges_.front_sequence();
  for (std::size_t i = 0; i < exchanges_.size(); ++i, ++sequence) {
    Exchange const* const exchange = exchanges_.find(sequence);
    if (!exchange->waits || exchange->is_done || exchange->is_held) continue;  // A refusal is soon on its way.
    abandon_from(sequence);
    break;
  }
  settle();
}

void Session::process_input() {
  if (shared_.stages != nullptr) shared_.round_now();
  do {
    paused_ = false;
    parse_input();
    flush();
  } while (paused_ && has_room());
  settle();
}

void Session::parse_input() {
  Request request;
  bool partial = false;
  while (!last_taken_ && !upgraded_ && !partial && (!connection_.input().empty() || decoder_.has_put_back())) {
    if (!has_room()) {
      paused_ = true;
      shared_.counters.pauses.add();
      break;
    }
    switch (decoder_.next(connection_.input(), request)) {
      case RequestDecoder::Status::head: judge_head(request); break;
      case RequestDecoder::Status::complete:
        awaits_change_ = must_wait(request);
        if (awaits_change_) {
          note_patience(request);
          decoder_.put_back();
        } else {
          handle(request);
        }
        break;
      case RequestDecoder::Status::refused: refuse(decoder_.error(), decoder_.refused_method()); break;
      case RequestDecoder::Status::need_more: partial = true; break;
    }
    connection_.consume(decoder_.consumed());
  }
  if (last_taken_) connection_.consume(connection_.input().size());
  connection_.keep_input();
  account_memory();
  if (!partial) return;
  if (decoder_.phase() != RequestDecoder::Phase::idle) return on_partial();
  // The body of a request that was refused by its head has gone by: its time is over with it. Whoever is turned away
  // has his from the start.
  if (takes_request() && welcome_ == Welcome::served) deadline_ = Deadline::none;
}

// What can be refused by its head is refused before its body has come: the body is never looked at. A body that is
// short is dropped and the connection goes on; before a long one, or one of unknown length, it ends.
void Session::judge_head(Request const& request) {
  auto const sequence = exchanges_.push();
  Exchange& exchange = *exchanges_.find(sequence);
  exchange.received_at = shared_.round_now();
  exchange.client = connection_.client();
  exchange.keep_alive = request.keep_alive && !shared_.draining && decoder_.can_skip_body();
  if (welcome_ == Welcome::served && shared_.endpoints.judge_head(request, exchange, caller_)) {
    exchanges_.pop_back();  // Let in so far. It gets its place when it is whole.
    note_patience(request);
    return;
  }
  shared_.under_way += 1;
  if (welcome_ != Welcome::served) {
    exchange.keep_alive = false;
    answer_turned_away(exchange);
  }
  if (exchange.keep_alive) {
    decoder_.skip_body();
  } else {
    end_after_refusal();
  }
  end_refused(sequence, exchange);
}

// Its answer is written. Where that refuses it for the load, it leaves at once only as long as refusals have a budget:
// to refuse costs nearly as much as to serve, and whoever is refused at once asks again at once. Meanwhile nothing more
// is read from the connection.
void Session::end_refused(std::uint16_t sequence, Exchange& exchange) {
  exchange.waits = true;  // Its time says nothing about ours.
  discount(exchange);
  if (exchange.is_refused && !shared_.draining && !shared_.admission.take_refusal()) {
    exchange.is_held = true;
    held_ += 1;
    paused_ = true;
    if (takes_request()) deadline_ = Deadline::none;  // We are the ones who take their time now.
    shared_.counters.refusals_held.add();
    shared_.held.push_back({.cookie = cookie(sequence), .due = shared_.round_now() + service::Admission::kHoldMax});
    if (shared_.held.size() == 1) shared_.on_held();
    return;
  }
  exchange.is_done = true;
  release_done();
}

void Session::release_held(std::uint16_t sequence) {
  Exchange* const exchange = exchanges_.find(sequence);
  if (exchange == nullptr || !exchange->is_held) return;
  exchange->is_held = false;
  exchange->is_done = true;
  held_ -= 1;
  release_done();
}

// No longer in flight.
void Session::discount(Exchange& exchange) {
  if (std::exchange(exchange.is_counted, false)) shared_.admission.leave();
  shared_.request_bytes -= std::exchange(exchange.body_bytes, 0);
}

void Session::answer_turned_away(Exchange& exchange) {
  Error const error =
      welcome_ == Welcome::turned_away
          ? Error{.code = ErrorCode::overloaded, .message = "too many connections"}
          : Error{.code = ErrorCode::too_many_requests, .message = "too many connections from this address"};
  shared_.endpoints.answer(exchange, error, exchange.text);
}

void Session::on_partial() {
  if (decoder_.take_expects_continue()) {
    if (exchanges_.empty()) {
      connection_.output().append(kContinue);
    } else {
      continue_due_ = true;
    }
  }
  bool const in_body = decoder_.phase() == RequestDecoder::Phase::body;
  if (!takes_request() || (in_body && deadline_ == Deadline::header)) {
    set_deadline(in_body ? Deadline::request : Deadline::header);
    slow_since_second_ = shared_.second;
  }
  slow_bytes_ = connection_.input().size() + decoder_.memory_bytes();
  if (decoder_.is_skipping()) return;
  if (shared_.bytes_in_flight() > shared_.limits.buffered_bytes_max) {
    shared_.counters.refused_memory.add();
    refuse({.code = ErrorCode::overloaded, .message = "too many bytes of requests are under way"}, Method::other);
    connection_.consume(connection_.input().size());
    connection_.keep_input();
  }
}

// Its client says how long it waits, and the rest of it, or its turn, is still to come: the time runs from here.
void Session::note_patience(Request const& request) {
  if (request.request_timeout.data() != nullptr && !head_at_) head_at_ = shared_.clock.now();
}

// What is looked up by this thread itself would not see what a request before it changes, as that is still on its way
// through the shard. Its answer cannot leave before that one's, so nothing is lost by waiting.
bool Session::must_wait(Request const& request) {
  if (exchanges_.empty() || welcome_ != Welcome::served) return false;
  auto const found = match(request.method, request.path);
  return found && reads_published(found->route) && has_change_under_way();
}

bool Session::has_change_under_way() {
  for (std::size_t i = 0; i < exchanges_.size(); ++i) {
    Exchange const& exchange = *exchanges_.find(static_cast<std::uint16_t>(exchanges_.front_sequence() + i));
    if (exchange.is_done || !exchange.is_routed) continue;
    if (changes_published(exchange.route) || !exchange.reported.empty()) return true;
  }
  return false;
}

void Session::handle(Request const& request) {
  deadline_ = Deadline::none;  // That of a connection at rest, too: it begins anew behind this one.
  auto const sequence = exchanges_.push();
  Exchange& exchange = *exchanges_.find(sequence);
  shared_.under_way += 1;
  exchange.received_at = shared_.round_now();
  exchange.head_at = std::exchange(head_at_, std::nullopt);
  exchange.client = connection_.client();
  exchange.keep_alive = request.keep_alive && !shared_.draining && welcome_ == Welcome::served;
  if (!exchange.keep_alive) last_taken_ = true;
  shared_.peaks.header_bytes.note(request.head_bytes);
  shared_.peaks.body_bytes.note(request.body.size());
  shared_.peaks.pipelined.note(exchanges_.size());

  if (welcome_ != Welcome::served) {
    answer_turned_away(exchange);
  } else if (auto command = shared_.endpoints.begin(request, exchange, caller_)) {
    exchange.body_bytes = request.body.size();
    shared_.request_bytes += exchange.body_bytes;
    // Whoever waits is bounded by the shard, and is not in the way of others.
    bool const waits = exchange.waits || exchange.reads_disk;
    if (waits && std::exchange(exchange.is_counted, false)) shared_.admission.leave();
    if (shared_.stages != nullptr) shared_.service.set_parsed_at(shared_.end_parse());
    auto const taken =
        shared_.service.submit(cookie(sequence), *std::move(command), exchange.give_up_at, caller_.allowed());
    if (taken) return;
    shared_.endpoints.answer(exchange, taken.error(), exchange.text);
  } else if (exchange.is_refused) {
    end_refused(sequence, exchange);
    return;
  } else if (exchange.is_upgrade) {
    upgrade(exchange);
  } else if (exchange.profile_for > Duration{0}) {
    if (std::exchange(exchange.is_counted, false)) shared_.admission.leave();  // It waits, too.
    auto const started = start_profile(sequence, exchange.profile_for);
    if (started) {
      exchange.profile = *started;
      return;
    }
    shared_.endpoints.answer(exchange, started.error(), exchange.text);
  }
  discount(exchange);
  exchange.is_done = true;
  large_waits_ = large_waits_ || (exchanges_.size() > 1 && exchange.text.size() > kWaitingTextBytesMax);
  if (!exchange.keep_alive && !last_taken_) {  // Whoever was refused like that is not read further.
    last_taken_ = true;
    linger_due_ = true;
  }
  release_done();
}

// Behind answers that are still to come there is no telling where they end and the stream begins.
void Session::upgrade(Exchange& exchange) {
  if (exchanges_.size() == 1) {
    upgraded_ = true;
    trace_id_ = shared_.endpoints.trace_id(exchange);
    return;
  }
  exchange.text.clear();
  shared_.endpoints.answer(
      exchange, Error{.code = ErrorCode::malformed_request, .message = "requests before the upgrade are under way"},
      exchange.text);
}

Result<std::uint64_t> Session::start_profile(std::uint16_t sequence, Duration length) {
  if (shared_.profiler == nullptr) return fail(ErrorCode::not_found, "this server takes no profiles");
  // The server outlives the profiler, and with it what it shares.
  return shared_.profiler->start(length, [&shared = shared_, name = cookie(sequence)](Result<std::string> profile) {
    shared.deliver_profile(name, std::move(profile));
  });
}

bool Session::take_profile(std::uint16_t sequence, Result<std::string> const& profile) {
  Exchange* const exchange = exchanges_.find(sequence);
  if (exchange == nullptr || exchange->is_done) return false;
  shared_.endpoints.answer_profile(*exchange, profile);
  discount(*exchange);
  exchange->is_done = true;
  if (sequence == exchanges_.front_sequence()) release_done();
  return true;
}

void Session::refuse(Error const& error, Method method) {
  if (error.code == ErrorCode::headers_too_large) {
    shared_.counters.refused_headers.add();
    shared_.peaks.header_bytes.note(shared_.limits.header_bytes_max);
  }
  if (error.code == ErrorCode::payload_too_large) {
    shared_.counters.refused_bodies.add();
    shared_.peaks.body_bytes.note(shared_.limits.body_bytes_max);
  }
  Exchange& exchange = *exchanges_.find(exchanges_.push());
  shared_.under_way += 1;
  exchange.keep_alive = false;
  exchange.is_head = method == Method::head;
  exchange.waits = true;  // Its time says nothing about ours.
  shared_.endpoints.answer(exchange, error, exchange.text);
  exchange.is_done = true;
  end_after_refusal();
  release_done();
}

// What the peer may still be sending is read over, and then the connection is closed.
void Session::end_after_refusal() {
  deadline_ = Deadline::none;
  last_taken_ = true;
  linger_due_ = true;
  continue_due_ = false;
}

bool Session::has_room() {
  return !(awaits_change_ && has_change_under_way()) && exchanges_.size() < shared_.limits.pipelined_max &&
         held_ == 0 && !write_blocked_ && !large_waits_ && connection_.output_bytes() < kOutputBytesMax;
}

Swept Session::sweep() {
  if (closing_ || deadline_ == Deadline::none) return Swept::looked;
  if (is_too_slow()) {
    end_too_slow();
    return Swept::ended;
  }
  if (shared_.second < deadline_second_) return Swept::looked;
  switch (std::exchange(deadline_, Deadline::none)) {
    case Deadline::none: return Swept::looked;
    case Deadline::handshake:
      shared_.counters.handshake_timeouts.add();
      closing_ = true;
      break;
    case Deadline::idle:
      shared_.counters.idle_timeouts.add();
      closing_ = true;
      break;
    case Deadline::write:
      shared_.counters.write_timeouts.add();
      closing_ = true;
      break;
    case Deadline::first:
    case Deadline::linger: closing_ = true; break;
    case Deadline::header: time_out_request(shared_.counters.header_timeouts); break;
    case Deadline::request: time_out_request(shared_.counters.request_timeouts); break;
  }
  settle();
  return Swept::ended;
}

void Session::time_out_request(telemetry::Counter& counter) {
  counter.add();
  bool const nobody_asked = decoder_.phase() == RequestDecoder::Phase::idle;  // Turned away, and silent.
  if (decoder_.is_skipping() || nobody_asked) {                               // Or it has been answered.
    closing_ = true;
    return;
  }
  refuse({.code = ErrorCode::request_timeout, .message = "the request did not come in time"}, Method::other);
  flush();
}

// A body that comes in by drops, or an answer that is taken so. Heads have a time of their own.
bool Session::is_too_slow() const {
  if (deadline_ != Deadline::request && deadline_ != Deadline::write) return false;
  bool const writes = deadline_ == Deadline::write;
  // A socket takes large pieces now and then, however steadily its reader reads: so that needs a longer look.
  Duration const grace = writes ? shared_.limits.write_timeout : kUploadGrace;
  auto const spared = static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(grace).count());
  std::uint32_t const took = shared_.second - slow_since_second_;
  if (took <= spared) return false;
  std::uint64_t const least = writes ? shared_.limits.download_rate_min : shared_.limits.upload_rate_min;
  return slow_bytes_ < least * (took - spared);
}

void Session::end_too_slow() {
  if (std::exchange(deadline_, Deadline::none) == Deadline::write) {
    shared_.counters.download_timeouts.add();
    closing_ = true;
  } else {
    time_out_request(shared_.counters.upload_timeouts);
  }
  settle();
}

void Session::drain() {
  if (closing_) return;
  if (is_waiting_ && waiting_for_ == WaitFor::readable) receive();  // What came before the drain is still answered.
  if (closing_) return;
  if (in_handshake_) set_deadline(Deadline::first);
  bool const partial = decoder_.phase() != RequestDecoder::Phase::idle || paused_;
  if (!exchanges_.empty() && !partial) {
    auto const last = static_cast<std::uint16_t>(exchanges_.front_sequence() + exchanges_.size() - 1);
    exchanges_.find(last)->keep_alive = false;
    last_taken_ = true;
  }
  settle();
}

void Session::set_deadline(Deadline what) {
  Duration const patience = [&] {
    switch (what) {
      case Deadline::header: return std::min(shared_.limits.header_timeout, shared_.limits.request_timeout);
      case Deadline::handshake: return shared_.limits.handshake_timeout;
      case Deadline::request: return shared_.limits.request_timeout;
      case Deadline::write: return shared_.limits.write_timeout;
      case Deadline::linger: return kLinger;
      case Deadline::first: return kFirstRequest;
      case Deadline::none:
      case Deadline::idle: break;
    }
    return shared_.limits.idle_timeout;
  }();
  deadline_ = what;
  // One more, as part of the present second is over.
  deadline_second_ =
      shared_.second + static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(patience).count()) + 1;
}

void Session::account_memory() {
  std::uint64_t const bytes = connection_.memory_bytes() + decoder_.memory_bytes();
  shared_.buffered_bytes += bytes - accounted_bytes_;  // Unsigned: what wraps here wraps back.
  accounted_bytes_ = bytes;
  note_fullness();
}

void Session::note_fullness() {
  shared_.admission.set_full(shared_.bytes_in_flight() > shared_.limits.buffered_bytes_max);
}

service::Cookie Session::cookie(std::uint16_t sequence) const {
  return CookieParts{.slot = name_.slot, .generation = name_.generation, .sequence = sequence}.pack();
}

}  // namespace workmill::http
