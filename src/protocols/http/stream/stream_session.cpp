#include "protocols/http/stream/stream_session.h"

#include <openssl/rand.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <limits>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"
#include "protocols/http/json/json_out.h"
#include "protocols/http/problem.h"

namespace workmill::http {
namespace {

using net::IoStatus;
using websocket::CloseCode;
using websocket::Opcode;
using WaitFor = net::Connection::WaitFor;

// Of a stream's window, of which no server has less than twice as much: given back at a time, and the rest once a
// second.
constexpr std::uint64_t kTakenBytes = 32 * 1024;
constexpr std::uint32_t kLingerSeconds = 2;  // For the peer's close frame.
constexpr std::uint16_t kPushes = 0;         // Of what the shard sends by itself.

CloseCode close_code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::malformed_json: return CloseCode::invalid_text;
    case ErrorCode::malformed_request: return CloseCode::protocol_error;
    case ErrorCode::payload_too_large: return CloseCode::too_big;
    case ErrorCode::shutting_down: return CloseCode::going_away;
    case ErrorCode::stream_replaced: return CloseCode::policy;
    default: break;
  }
  switch (class_of(code)) {
    case ErrorClass::user: return CloseCode::policy;
    case ErrorClass::retryable: return CloseCode::try_again_later;
    case ErrorClass::fatal: break;
  }
  return CloseCode::internal;
}

ErrorCode error_of(CloseCode code) {
  switch (code) {
    case CloseCode::unsupported_data: return ErrorCode::unsupported_media_type;
    case CloseCode::invalid_text: return ErrorCode::malformed_json;
    case CloseCode::too_big: return ErrorCode::payload_too_large;
    default: return ErrorCode::malformed_request;
  }
}

std::uint32_t whole_seconds(Duration duration) {
  return static_cast<std::uint32_t>(std::chrono::ceil<std::chrono::seconds>(duration).count());
}

bool ends_attempt(Report const& report) {
  return holds<Completed>(report.outcome) || holds<Failed>(report.outcome) || holds<Released>(report.outcome);
}

// Nobody is to guess what takes over another's jobs.
ResumeToken draw_token() {
  ResumeToken token;
  WM_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(token.data()), sizeof token) == 1);
  return token;
}

}  // namespace

StreamSession::StreamSession(Shared& shared, CookieParts name, net::Connection& connection, Caller& caller,
                             std::string trace_id)
    : shared_(shared),
      name_(name),
      connection_(connection),
      caller_(caller),
      trace_id_(std::move(trace_id)),
      reader_(shared.limits.body_bytes_max),
      write_blocked_(connection.has_output()),
      since_second_(shared.second),
      heard_second_(shared.second),
      blocked_second_(shared.second) {
  shared_.streams.open.add(1);
  stir();
}

StreamSession::~StreamSession() {
  note_end(shared_.draining ? StreamEnd::draining : StreamEnd::gone);
  shared_.streams.open.add(-1);
  if (is_direct_) shared_.streams.direct.add(-1);
  shared_.buffered_bytes -= accounted_bytes_;
  shared_.request_bytes -= request_bytes_;
  stir();
}

boost::asio::awaitable<void> StreamSession::run() {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto const cancellation = co_await boost::asio::this_coro::cancellation_state;
  if (shared_.draining) drain();
  process_input();  // Messages may stand right behind the request.
  while (phase_ != Phase::over) {
    waiting_for_ = wanted();
    is_waiting_ = true;
    auto const [error] = co_await connection_.wait(waiting_for_);
    is_waiting_ = false;
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) break;
    if (error == boost::asio::error::operation_aborted) continue;
    if (error) break;
    if (phase_ != Phase::over && waiting_for_ == wanted()) on_ready();
  }
}

WaitFor StreamSession::wanted() const {
  if (write_blocked_ || connection_.wants_write()) return WaitFor::writable;
  if (peer_closed_ || paused_ || (draining_ && is_served())) return WaitFor::hung_up;
  return WaitFor::readable;
}

void StreamSession::on_ready() {
  stir();
  switch (waiting_for_) {
    case WaitFor::readable: return receive();
    case WaitFor::writable: return end_bunch();
    case WaitFor::hung_up: return drop(StreamEnd::gone);
  }
}

void StreamSession::receive() {
  switch (connection_.receive(shared_.scratch)) {
    case IoStatus::blocked: return;
    case IoStatus::foreign:
    case IoStatus::closed: return drop(StreamEnd::gone);  // Without a close frame it is no end that was meant.
    case IoStatus::done: break;
  }
  heard_second_ = shared_.second;
  pinged_ = false;
  process_input();
}

void StreamSession::process_input() {
  do {
    paused_ = false;
    parse_input();
    flush();
  } while (paused_ && has_room());
  settle();
}

void StreamSession::parse_input() {
  using Status = websocket::FrameReader::Status;
  bool more = true;
  while (more && !deaf_ && phase_ != Phase::over && !connection_.input().empty()) {
    if (is_served() && !has_room()) {
      paused_ = true;
      shared_.counters.pauses.add();
      break;
    }
    Status const status = reader_.next(connection_.input(), shared_.message);
    switch (status) {
      case Status::need_more: more = reader_.consumed() > 0; break;
      case Status::message:
        if (is_served() && !draining_) handle_message(reader_.payload());
        break;
      case Status::ping:
        if (is_served()) websocket::append_frame(Opcode::pong, reader_.payload(), connection_.output());
        break;
      case Status::pong: break;
      case Status::close: on_peer_close(); break;
      case Status::refused:
        if (!is_served()) return drop(StreamEnd::closed);
        fail({.code = error_of(reader_.close_code()), .message = std::string{reader_.error()}}, reader_.close_code(),
             StreamEnd::refused);
        deaf_ = true;  // What follows is no frame that could be told from others.
        more = false;
        break;
    }
    connection_.consume(reader_.consumed());
  }
  if (is_served()) tell();
  if (phase_ == Phase::over || deaf_) connection_.consume(connection_.input().size());
  connection_.keep_input();
  bool const in_message = !connection_.input().empty() || reader_.is_in_message();
  if (!paused_ && in_message && !std::exchange(is_in_message_, true)) message_second_ = shared_.second;
  if (!in_message) is_in_message_ = false;
  account_memory();
  if (is_served() && in_message && !paused_ && shared_.bytes_in_flight() > shared_.limits.buffered_bytes_max) {
    shared_.counters.refused_memory.add();
    fail({.code = ErrorCode::overloaded, .message = "too many bytes of requests are under way"});
  }
}

void StreamSession::on_peer_close() {
  if (phase_ == Phase::closing) return drop(StreamEnd::closed);  // The answer to ours.
  peer_closed_ = true;
  note_end(reader_.close_code() == CloseCode::normal ? StreamEnd::done : StreamEnd::closed);
  websocket::append_close(reader_.close_code(), {}, connection_.output());
  phase_ = Phase::closing;
  since_second_ = shared_.second;
}

void StreamSession::handle_message(std::string_view text) {
  shared_.peaks.body_bytes.note(text.size());
  auto message = shared_.stream_json.parse_stream(text);
  is_in_message_ = false;
  if (!message) return fail(message.error());
  if (auto* asks = std::get_if<JsonIn::Subscription>(&*message)) return subscribe(std::move(*asks));
  if (phase_ == Phase::asked) {
    return fail({.code = ErrorCode::malformed_request, .message = "the first message is to subscribe"});
  }
  if (auto* batch = std::get_if<ReportBatch>(&*message)) return take_reports(std::move(*batch), text.size());
  auto const& word = std::get<TellStream>(*message);
  if (word.credit) word_.credit = word.credit;
  word_.drain = word_.drain || word.drain;
  has_word_ = true;
}

void StreamSession::subscribe(JsonIn::Subscription subscription) {
  if (phase_ != Phase::asked) {
    return fail({.code = ErrorCode::malformed_request, .message = "a stream subscribes once"});
  }
  OpenStream& open = subscription.open;
  open.token = draw_token();
  if (caller_.token() != nullptr) open.owner = caller_.token()->record.name;
  worker_ = open.lease.worker;
  held_ = open.held.size();
  allowed_ = caller_.allowed().queues;
  for (QueueChoice const& queue : open.lease.queues) queues_.push_back(queue.name);
  is_direct_ = shared_.limits.stream_direct && subscription.from && connection_.is_straight_from(*subscription.from);
  if (is_direct_) shared_.streams.direct.add(1);
  phase_ = Phase::opening;
  auto const taken = shared_.service.submit(cookie(kPushes), std::move(open), service::kNever, caller_.allowed());
  if (taken) return;
  shard_ended_ = true;
  fail(taken.error());
}

// Words are not answered, so nothing would hold back whoever sends many: of those that came together, the last counts.
void StreamSession::tell() {
  if (!std::exchange(has_word_, false)) return;
  TellStream word = std::exchange(word_, {});
  word.stream = cookie(kPushes);
  auto const taken = shared_.service.submit(cookie(kPushes), std::move(word), service::kNever, caller_.allowed());
  if (!taken) fail(taken.error());
}

void StreamSession::take_reports(ReportBatch batch, std::size_t bytes) {
  tell();  // What was said before holds for the jobs that these make room for.
  if (!is_served()) return;
  UnderWay next{.sequence = next_sequence_,
                .reported = reported_jobs(batch.reports, caller_.allowed()),
                .ended = static_cast<std::size_t>(std::ranges::count_if(batch.reports, ends_attempt)),
                .bytes = bytes,
                .received_at = shared_.round_now()};
  next_sequence_ = next_sequence_ == UINT16_MAX ? 1 : static_cast<std::uint16_t>(next_sequence_ + 1);
  std::size_t const reports = batch.reports.size();
  auto const taken =
      shared_.service.submit(cookie(next.sequence), std::move(batch), service::kNever, caller_.allowed());
  if (!taken) return fail(taken.error());
  shared_.streams.reports.add(reports);
  shared_.request_bytes += bytes;
  request_bytes_ += bytes;
  under_way_.push_back(std::move(next));
  shared_.peaks.pipelined.note(under_way_.size());
}

// ---- What comes from the shard.

bool StreamSession::take_answer(std::uint16_t sequence, Reply const& reply) {
  if (!is_served()) return false;
  bunch_size_ += 1;
  return sequence == kPushes ? take_push(reply) : take_reports_answer(sequence, reply);
}

bool StreamSession::take_push(Reply const& reply) {
  std::string& out = connection_.output();
  if (auto const* jobs = std::get_if<StreamJobs>(&reply)) {
    take_jobs(*jobs);
  } else if (auto const* opened = std::get_if<StreamOpened>(&reply)) {
    phase_ = Phase::open;
    shared_.streams.opened.add();
    if (opened->resumed) {
      shared_.streams.resumed.add();
      begin_watch(held_);
    }
    shared_.logger.debug("a worker stream is open", {{"worker", worker_},
                                                     {"resumed", opened->resumed},
                                                     {"direct", is_direct_},
                                                     {"from", caller_.from().to_string()},
                                                     {"trace_id", trace_id_}});
    websocket::TextFrame frame{out};
    append_stream_opened(*opened, is_direct_, out);
    frame.end();
  } else if (auto const* cancel = std::get_if<StreamCancel>(&reply)) {
    shared_.streams.cancels.add(cancel->jobs.size());
    websocket::TextFrame frame{out};
    append_stream_cancel(*cancel, shared_.service, out);
    frame.end();
  } else if (holds<StreamDrained>(reply)) {
    websocket::TextFrame frame{out};
    append_stream_drained(out);
    frame.end();
  } else if (auto const* ended = std::get_if<StreamEnded>(&reply)) {
    shard_ended_ = true;
    if (ended->error.code == ErrorCode::shutting_down) {
      draining_ = true;
      close_for_drain();
    } else {
      fail(ended->error, close_code_of(ended->error.code), StreamEnd::replaced);
    }
  } else if (auto const* error = std::get_if<Error>(&reply)) {
    shard_ended_ = phase_ == Phase::opening;  // Else it was a word that did not reach it.
    fail(*error);
  } else {
    return false;
  }
  return true;
}

void StreamSession::take_jobs(StreamJobs const& jobs) {
  std::string& out = connection_.output();
  websocket::TextFrame frame{out};
  append_stream_jobs(jobs, shared_.service, shared_.endpoints.attempts(), out);
  frame.end();
  taken_bytes_ += jobs.bytes;
  begin_watch(jobs.jobs.size());
  shared_.streams.jobs.add(jobs.jobs.size());
}

// In the order of the messages, as the shard decides them.
bool StreamSession::take_reports_answer(std::uint16_t sequence, Reply const& reply) {
  if (under_way_.empty() || under_way_.front().sequence != sequence) {
    if (!holds<Error>(reply)) return false;
  } else if (auto const* results = std::get_if<ReportsReply>(&reply)) {
    UnderWay const& front = under_way_.front();
    std::string& out = connection_.output();
    websocket::TextFrame frame{out};
    append_reports_reply(*results, front.reported, shared_.service, trace_id_, out);
    frame.end();
    shared_.streams.results.count(results->reports);
    shared_.streams.report_seconds.observe(shared_.now - front.received_at);
    shared_.request_bytes -= front.bytes;
    request_bytes_ -= front.bytes;
    out_ -= std::min(out_, front.ended);
    under_way_.pop_front();
    if (draining_) close_for_drain();
    return true;
  }
  // It was not decided, and nobody could tell which of those behind it were.
  auto const* error = std::get_if<Error>(&reply);
  fail(error != nullptr ? *error : Error{.code = ErrorCode::internal, .message = "an answer of another kind"});
  return true;
}

// ---- The end.

void StreamSession::fail(Error const& error) { fail(error, close_code_of(error.code), StreamEnd::refused); }

void StreamSession::fail(Error const& error, CloseCode code, StreamEnd end) {
  if (!is_served()) return;
  auto const level = class_of(error.code) == ErrorClass::fatal && error.code != ErrorCode::stream_replaced
                         ? telemetry::LogLevel::error
                         : telemetry::LogLevel::debug;
  shared_.logger.log(level, "a worker stream was ended with an error",
                     {{"worker", worker_}, {"error", describe(error)}, {"trace_id", trace_id_}});
  std::string& out = connection_.output();
  websocket::TextFrame frame{out};
  append_stream_error(error, trace_id_, static_cast<std::uint32_t>(std::max(retry_after_seconds(error.code), 0)), out);
  frame.end();
  close(code, to_string(error.code), end);
}

void StreamSession::close(CloseCode code, std::string_view reason, StreamEnd end) {
  websocket::append_close(code, reason, connection_.output());
  note_end(end);
  phase_ = Phase::closing;
  since_second_ = shared_.second;
  paused_ = false;
}

// Once everything that came is answered, and the shard has said that no job is on its way.
void StreamSession::close_for_drain() {
  bool const waits_for_shard = (phase_ == Phase::opening || phase_ == Phase::open) && !shard_ended_;
  if (!is_served() || !under_way_.empty() || waits_for_shard) return;
  close(CloseCode::going_away, "the server is shutting down", StreamEnd::draining);
}

void StreamSession::drop(StreamEnd end) {
  note_end(end);
  phase_ = Phase::over;
  if (is_waiting_) connection_.wake();
}

// The first reason counts. The shard is told at once: the time to come back begins.
void StreamSession::note_end(StreamEnd end) {
  if (end_) return;
  end_ = end;
  shared_.streams.end(end);
  bool const is_known = phase_ == Phase::opening || phase_ == Phase::open;
  if (is_known && !shard_ended_) shared_.service.abandon(cookie(kPushes));
  bool const is_odd = end == StreamEnd::silent || end == StreamEnd::slow || end == StreamEnd::denied;
  shared_.logger.log(
      is_odd ? telemetry::LogLevel::warn : telemetry::LogLevel::debug, "a worker stream has ended",
      {{"worker", worker_}, {"reason", to_string(end)}, {"from", caller_.from().to_string()}, {"trace_id", trace_id_}});
}

void StreamSession::drain() {
  if (!is_served()) return;
  if (is_waiting_ && waiting_for_ == WaitFor::readable) receive();  // What came before the drain is still answered.
  stir();
  if (!is_served()) return;
  draining_ = true;
  close_for_drain();
  flush();
  settle();
}

// ---- Output and time.

void StreamSession::end_bunch() {
  touched_ = false;
  stir();
  if (phase_ == Phase::over) return;
  flush();
  if (paused_ && has_room()) {
    process_input();
  } else {
    settle();
  }
}

void StreamSession::flush() {
  if (phase_ == Phase::over || (!connection_.has_output() && !connection_.wants_write())) return;
  std::size_t const before = connection_.output_bytes();
  switch (connection_.flush()) {
    case IoStatus::done: write_blocked_ = false; return give_back_taken(kTakenBytes);
    case IoStatus::blocked:
      if (!std::exchange(write_blocked_, true)) {
        blocked_second_ = shared_.second;
        blocked_bytes_ = 0;
      } else {
        blocked_bytes_ += before - connection_.output_bytes();
      }
      shared_.peaks.output_bytes.note(connection_.output_bytes());
      return;
    case IoStatus::foreign:
    case IoStatus::closed: return drop(StreamEnd::gone);
  }
}

void StreamSession::give_back_taken(std::uint64_t least) {
  if (taken_bytes_ < least || taken_bytes_ == 0 || phase_ != Phase::open || shard_ended_) return;
  TellStream word{.stream = cookie(kPushes), .taken_bytes = taken_bytes_};
  // Where the shard has too much to do just now, the next sweep tries again.
  if (shared_.service.submit(cookie(kPushes), std::move(word), service::kNever)) taken_bytes_ = 0;
}

void StreamSession::settle() {
  // We have both said goodbye, or the peer has nothing more to say.
  if (phase_ == Phase::closing && !connection_.has_output()) {
    if (peer_closed_) phase_ = Phase::over;
    // A reset, as for bytes that nobody read, could overtake what we have said.
    if (deaf_ && !std::exchange(output_shut_, true)) connection_.shutdown_output();
  }
  account_memory();
  if (is_waiting_ && (phase_ == Phase::over || wanted() != waiting_for_)) connection_.wake();
}

bool StreamSession::has_room() const {
  return under_way_.size() < shared_.limits.pipelined_max && !write_blocked_ &&
         connection_.output_bytes() < kOutputBytesMax;
}

Swept StreamSession::sweep() {
  if (phase_ == Phase::over) return Swept::looked;
  if (phase_ == Phase::closing) {
    bool const is_late = shared_.second > since_second_ + kLingerSeconds;
    if (is_late) drop(StreamEnd::closed);
    return is_late ? Swept::ended : Swept::looked;
  }
  Swept swept = Swept::looked;
  bool const is_at_rest = shared_.look_at[name_.slot] != 0;  // Nothing has happened to it: only its silence is due.
  if (!is_at_rest) sweep_slow();
  if (!is_at_rest && is_served()) sweep_token();
  if (is_served()) swept = sweep_silence();
  if (is_served() && !write_blocked_) give_back_taken(1);
  flush();
  settle();
  shared_.look_at[name_.slot] = next_look();
  return is_served() ? swept : Swept::ended;
}

// Where nothing is under way, only its silence can become too long. Zero: each second.
std::uint32_t StreamSession::next_look() const {
  bool const is_at_rest = phase_ == Phase::open && !draining_ && !paused_ && !write_blocked_ && !is_in_message_ &&
                          taken_bytes_ == 0 && !(caller_.token() != nullptr && caller_.token()->record.expires_at);
  if (!is_at_rest) return 0;
  if (ping_seconds() == 0) return std::numeric_limits<std::uint32_t>::max();
  return pinged_ ? heard_second_ + 2 * ping_seconds() + 1 : heard_second_ + ping_seconds();
}

std::uint32_t StreamSession::ping_seconds() const {
  HttpLimits const& limits = shared_.limits;
  if (out_ > 0) return whole_seconds(limits.stream_ping);
  return is_direct_ && limits.stream_direct ? 0 : whole_seconds(limits.stream_idle_ping);
}

void StreamSession::sweep_slow() {
  HttpLimits const& limits = shared_.limits;
  if (write_blocked_) {
    std::uint32_t const took = shared_.second - blocked_second_;
    std::uint32_t const spared = whole_seconds(limits.write_timeout);
    if (took > spared && blocked_bytes_ < std::max<std::uint64_t>(limits.download_rate_min, 1) * (took - spared)) {
      shared_.counters.write_timeouts.add();
      drop(StreamEnd::slow);
    }
    return;
  }
  Error const late{.code = ErrorCode::request_timeout, .message = "the message did not come in time"};
  if (phase_ == Phase::asked && shared_.second > since_second_ + whole_seconds(limits.header_timeout)) {
    shared_.counters.header_timeouts.add();
    fail(late, CloseCode::policy, StreamEnd::slow);
  } else if (is_in_message_ && !paused_ && shared_.second > message_second_ + whole_seconds(limits.request_timeout)) {
    shared_.counters.request_timeouts.add();
    fail(late, CloseCode::policy, StreamEnd::slow);
  }
}

void StreamSession::sweep_token() {
  auto const holds = shared_.endpoints.still_holds(caller_, Access::work, shared_.clock.monotonic());
  if (!holds) return fail(holds.error(), CloseCode::policy, StreamEnd::denied);
  AllowedQueues now = caller_.allowed().queues;
  if (now == allowed_) return;
  allowed_ = std::move(now);
  if (allowed_ == nullptr || std::ranges::all_of(queues_, [&](auto& name) { return allowed_->contains(name); })) return;
  fail({.code = ErrorCode::forbidden, .message = "the token is limited to other queues now"}, CloseCode::policy,
       StreamEnd::denied);
}

// Its silence counts from now on, where it had nothing that others would wait for.
void StreamSession::begin_watch(std::size_t jobs) {
  if (out_ == 0 && jobs > 0) {
    heard_second_ = shared_.second;
    pinged_ = false;
  }
  out_ += jobs;
}

// To the second, give or take one: the sweep comes once in each.
Swept StreamSession::sweep_silence() {
  if (paused_ || draining_ || write_blocked_) heard_second_ = shared_.second;  // We do not listen, or are not heard.
  std::uint32_t const quiet = shared_.second - heard_second_;
  std::uint32_t const ping = ping_seconds();
  if (ping == 0) {
    if (!std::exchange(is_kept_alive_, true)) connection_.keep_alive();
    return Swept::looked;
  }
  if (quiet > 2 * ping) {
    // Where this thread stood still for so long, what came meanwhile has not been looked at yet.
    if (is_waiting_ && waiting_for_ == WaitFor::readable) receive();
    if (heard_second_ == shared_.second) return Swept::looked;
    if (pinged_ || !is_served()) {
      drop(StreamEnd::silent);
      return Swept::looked;
    }
    // Nobody has asked it yet: the interval is new, or this sweep is late. From now on it has as long as any other.
    heard_second_ = shared_.second - ping;
  }
  if (quiet < ping || std::exchange(pinged_, true)) return Swept::looked;
  shared_.streams.pings.add();
  websocket::append_frame(Opcode::ping, {}, connection_.output());
  return Swept::sent;
}

void StreamSession::account_memory() {
  std::uint64_t const bytes = connection_.memory_bytes() + reader_.memory_bytes();
  shared_.buffered_bytes += bytes - accounted_bytes_;
  accounted_bytes_ = bytes;
  shared_.admission.set_full(shared_.bytes_in_flight() > shared_.limits.buffered_bytes_max);
}

service::Cookie StreamSession::cookie(std::uint16_t sequence) const {
  return CookieParts{.slot = name_.slot, .generation = name_.generation, .sequence = sequence}.pack();
}

}  // namespace workmill::http
