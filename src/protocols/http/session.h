#pragma once
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "net/connection.h"
#include "net/io_loop.h"
#include "protocols/http/calls/endpoints.h"
#include "protocols/http/codec.h"
#include "protocols/http/exchange.h"
#include "protocols/http/json/json_in.h"
#include "protocols/http/limits.h"
#include "protocols/http/stream/stream_counters.h"
#include "service/service.h"
#include "telemetry/cpu_profiler.h"
#include "telemetry/log.h"
#include "telemetry/stage_times.h"

// One HTTP connection: its coroutine reads all that has come, asks the service, and waits again; the answers are
// written in the order of the requests, all that are ready in one send, straight from where they arrive.
//
// A session lives in the frame of run(), on one I/O thread. While that waits, the server calls in: with answers, with
// the end of a bunch of them, with the second's sweep, and to drain.
namespace workmill::http {

struct HeldRefusal {
  service::Cookie cookie = 0;
  std::chrono::nanoseconds due{};  // Out by then, whether there is a budget for it or not.
};

// What the sessions of a thread share; owned by the server.
struct Shared {
  net::IoLoop& loop;
  service::Service& service;
  service::Admission& admission;
  Endpoints& endpoints;
  HttpLimits const& limits;
  HttpCounters& counters;
  HttpPeaks peaks{};
  Clock const& clock;
  net::TlsIdentity const* tls = nullptr;          // Null: plain HTTP.
  telemetry::StageTimes const* stages = nullptr;  // None: stages are not measured.
  telemetry::CpuProfiler* profiler = nullptr;     // None: there are no profiles here.
  // Hands over what came of a profile. Any thread.
  std::function<void(service::Cookie, Result<std::string>)> deliver_profile;
  StreamCounters& streams;
  telemetry::Logger& logger;
  JsonIn& stream_json;
  std::string message{};  // The one that is being read, of whatever stream.
  // Memory of outputs that have been sent: whoever is answered next writes there, where the processor's cache is warm,
  // and a connection at rest keeps none. A few, as many as have answers at a time.
  std::vector<std::string> spare_outputs{};
  std::span<char> scratch;   // See net::Connection::receive().
  std::uint32_t second = 0;  // Of the monotonic clock, as of the last sweep.
  // By slot: when a sweep has to look at what is there, in the same seconds. Zero: each time. Here, side by side, as
  // 10,000 of them are looked through each second.
  std::vector<std::uint32_t> look_at{};
  std::chrono::nanoseconds now{};    // The same clock, as of the loop's round or the bunch of answers being worked on.
  std::uint64_t now_round = 0;       // The round of the loop in which `now` was read.
  std::uint64_t buffered_bytes = 0;  // Held by the connections of this thread.
  std::uint64_t bytes_in_flight() const { return buffered_bytes + request_bytes; }
  std::uint64_t request_bytes = 0;            // Held by requests that the service has.
  std::chrono::nanoseconds bunch_delay{};     // The longest in the bunch of answers being worked on.
  std::deque<HeldRefusal> held{};             // Refusals held back, oldest first.
  std::move_only_function<void()> on_held{};  // When there is one again.
  std::uint64_t under_way = 0;                // Requests taken and not answered.
  std::uint64_t handshakes = 0;               // TLS handshakes under way.
  bool draining = false;

  // A request has been parsed: answers when. The clock is read once for each: its time began where that of the request
  // before it ended, or with the round.
  std::chrono::nanoseconds end_parse() {
    auto const before = std::exchange(now, clock.monotonic());
    (*stages)[telemetry::Stage::parse].observe(now - before);
    return now;
  }

  // `now`, at most a round old.
  std::chrono::nanoseconds round_now() {
    if (std::exchange(now_round, loop.round()) != loop.round()) now = clock.monotonic();
    return now;
  }
};

// Names a request: connection by slot and generation, so that an answer that comes too late finds nobody, and the
// request in it by sequence.
struct CookieParts {
  static constexpr int kSequenceBits = 16;
  static constexpr int kGenerationBits = 28;
  static constexpr std::uint32_t kSlots = 1 << 20;

  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  std::uint16_t sequence = 0;

  service::Cookie pack() const {
    return (service::Cookie{slot} << (kSequenceBits + kGenerationBits)) |
           (service::Cookie{generation} << kSequenceBits) | sequence;
  }
  static CookieParts unpack(service::Cookie cookie) {
    constexpr std::uint64_t kGenerations = (1 << kGenerationBits) - 1;
    return {.slot = static_cast<std::uint32_t>(cookie >> (kSequenceBits + kGenerationBits)),
            .generation = static_cast<std::uint32_t>((cookie >> kSequenceBits) & kGenerations),
            .sequence = static_cast<std::uint16_t>(cookie)};
  }
};

// What a sweep has done for one connection: how much of it may be done at once.
enum class Swept : std::uint8_t {
  looked,
  sent,   // It was told something, as of those that are well.
  ended,  // It took too long, or may not be here any more.
};

enum class Welcome : std::uint8_t {
  served,
  turned_away,          // Over the limit of connections: its first request is answered with `overloaded`.
  turned_away_address,  // Over that for one address: too_many_requests.
};

class Session {
 public:
  // `name`: slot and generation. The connection and its caller outlive it: where it ends as is_upgraded(), they go on
  // as a worker stream, and what came behind the request is in the connection's input.
  Session(Shared& shared, CookieParts name, Welcome welcome, net::Connection& connection, Caller& caller);
  ~Session();
  Session(Session const&) = delete;
  Session& operator=(Session const&) = delete;

  boost::asio::awaitable<void> run();
  bool is_upgraded() const { return upgraded_; }
  std::string take_trace_id() { return std::move(trace_id_); }

  // False where nobody waits for it any more.
  bool take_answer(std::uint16_t sequence, Reply const& reply);
  // A refusal that was held back may go. The end of a bunch is to follow.
  void release_held(std::uint16_t sequence);
  // The same for a profile.
  bool take_profile(std::uint16_t sequence, Result<std::string> const& profile);
  // What end_bunch() would send now, for whoever sends it ahead of that. Null: nothing, or not now.
  net::Connection* to_send();
  // After the last answer of a bunch: sends what they came to, and goes on with requests that had to wait.
  void end_bunch();
  // A mark for whoever deals out a bunch: true where it was not set yet.
  bool touch() { return !std::exchange(touched_, true); }
  // How many answers of the bunch it took, asked once.
  std::uint32_t take_bunch_size() { return std::exchange(bunch_size_, 0U); }

  // Once a second: ends what takes too long.
  Swept sweep();
  // Closes once what is under way is answered, what has arrived by now included; at once where nothing is. But a
  // connection that is new gets a moment to say what it has come for.
  void drain();

 private:
  // An answer that waits for those before it, and is longer: no further request is taken meanwhile. Each could be
  // answered by megabytes that are in memory once, and would be so many times.
  static constexpr std::size_t kWaitingTextBytesMax = 64 * 1024;
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

  enum class Deadline : std::uint8_t { none, handshake, idle, first, header, request, write, linger };

  net::Connection::WaitFor wanted() const;
  void on_ready();
  void receive();
  void on_established();
  Deadline first_deadline() const;
  void on_peer_closed();
  void process_input();
  void parse_input();
  void on_partial();
  void judge_head(Request const& request);
  void note_patience(Request const& request);
  bool must_wait(Request const& request);
  bool has_change_under_way();
  void handle(Request const& request);
  void upgrade(Exchange& exchange);
  Result<std::uint64_t> start_profile(std::uint16_t sequence, Duration length);
  void refuse(Error const& error, Method method);
  void end_refused(std::uint16_t sequence, Exchange& exchange);
  void discount(Exchange& exchange);
  void answer_turned_away(Exchange& exchange);
  void end_after_refusal();
  void lend_output();
  void give_output_back();
  void release_done();
  void hand_over_text(Exchange& exchange);
  void abandon_from(std::uint16_t sequence);
  void flush();
  void settle();
  bool is_quiet() const;
  bool has_room();
  bool takes_request() const { return deadline_ == Deadline::header || deadline_ == Deadline::request; }
  bool is_too_slow() const;
  void end_too_slow();
  void time_out_request(telemetry::Counter& counter);
  void set_deadline(Deadline what);
  void account_memory();
  void note_fullness();
  service::Cookie cookie(std::uint16_t sequence) const;

  Shared& shared_;
  CookieParts const name_;
  Welcome const welcome_;
  net::Connection& connection_;
  RequestDecoder decoder_;
  ExchangeRing exchanges_;
  Caller& caller_;
  std::string trace_id_;  // Of the request that was upgraded.

  net::Connection::WaitFor waiting_for_{};
  bool in_handshake_ = false;
  bool is_waiting_ = false;  // The coroutine stands still.
  bool is_new_ = true;       // Nothing has come yet.
  bool touched_ = false;
  std::uint32_t bunch_size_ = 0;
  bool write_blocked_ = false;
  bool peer_closed_ = false;    // Nothing will come any more.
  bool last_taken_ = false;     // No further request is read: what comes is dropped.
  std::uint32_t held_ = 0;      // Refusals held back: nothing more is read until they are out.
  bool paused_ = false;         // Input is left unparsed until there is room for its answers.
  bool awaits_change_ = false;  // … or until what comes before it has happened: see must_wait().
  bool large_waits_ = false;    // A long answer waits for those before it: likewise.
  bool linger_due_ = false;     // The peer may still be sending what we refused.
  bool lingering_ = false;
  bool closing_ = false;
  bool upgraded_ = false;
  bool continue_due_ = false;  // "100 Continue" as soon as it is its turn.
  // When the head of the request under way had come in, where its client says how long it waits.
  std::optional<Instant> head_at_;

  Deadline deadline_ = Deadline::none;
  std::uint32_t deadline_second_ = 0;
  std::uint32_t slow_since_second_ = 0;  // When the request under way began to come in, or the answer to wait.
  std::uint64_t slow_bytes_ = 0;         // Of its body come in since, or of the answer taken.
  std::uint64_t accounted_bytes_ = 0;
};

}  // namespace workmill::http
