#pragma once
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/connection.h"
#include "protocols/http/gate.h"
#include "protocols/http/session.h"
#include "protocols/http/stream/stream_counters.h"
#include "protocols/http/stream/websocket.h"

// One worker stream (docs/reference/stream.md): its coroutine reads the messages that have come, hands them to the
// service, and waits again; what the shard sends for it is written as it comes, all of a bunch in one send.
//
// It goes on where a Session was upgraded, over the same connection and in the same manner: it lives in a coroutine's
// frame, on one I/O thread, and the server calls in. Which jobs are out, and how many more may be, only the shard
// knows. Back-pressure: where the worker does not take what it is sent, the shard hears of nothing taken and leases no
// more; where more messages are under way than pipelined_max, nothing is read. While it is idle it holds no buffer.
namespace workmill::http {

class StreamSession {
 public:
  // What is lent outlives it. `name`: as the Session's before it, all whose requests have been answered. `trace_id`: of
  // the request that was upgraded.
  StreamSession(Shared& shared, CookieParts name, net::Connection& connection, Caller& caller, std::string trace_id);
  ~StreamSession();
  StreamSession(StreamSession const&) = delete;
  StreamSession& operator=(StreamSession const&) = delete;

  boost::asio::awaitable<void> run();

  // False where nobody waits for it any more.
  bool take_answer(std::uint16_t sequence, Reply const& reply);
  void end_bunch();
  // See Session.
  bool touch() { return !std::exchange(touched_, true); }
  std::uint32_t take_bunch_size() { return std::exchange(bunch_size_, 0U); }

  // Once a second: pings, and ends what takes too long or may not be here any more.
  Swept sweep();
  // The server is stopping: what has arrived by now is decided and answered, and then the stream is closed.
  void drain();

 private:
  enum class Phase : std::uint8_t {
    asked,    // Its subscription is awaited.
    opening,  // The shard has it.
    open,
    closing,  // A close frame was written: it is sent, and the peer's is waited for.
    over,
  };
  struct UnderWay {  // A message of reports.
    std::uint16_t sequence = 0;
    std::vector<ReportedJob> reported;
    std::size_t ended = 0;  // So many of them end an attempt.
    std::size_t bytes = 0;
    std::chrono::nanoseconds received_at{};
  };

  net::Connection::WaitFor wanted() const;
  void on_ready();
  void receive();
  void process_input();
  void parse_input();
  void handle_message(std::string_view text);
  void subscribe(JsonIn::Subscription subscription);
  void tell();
  void take_reports(ReportBatch batch, std::size_t bytes);
  bool take_push(Reply const& reply);
  bool take_reports_answer(std::uint16_t sequence, Reply const& reply);
  void take_jobs(StreamJobs const& jobs);
  void give_back_taken(std::uint64_t least);

  // Says what was wrong, and closes.
  void fail(Error const& error);
  void fail(Error const& error, websocket::CloseCode code, StreamEnd end);
  void close(websocket::CloseCode code, std::string_view reason, StreamEnd end);
  void close_for_drain();
  // Nothing is sent any more.
  void drop(StreamEnd end);
  void note_end(StreamEnd end);
  void on_peer_close();

  void flush();
  void settle();
  bool has_room() const;
  bool is_served() const { return phase_ < Phase::closing; }
  void sweep_slow();
  void sweep_token();
  Swept sweep_silence();
  void begin_watch(std::size_t jobs);
  // Something has happened: the next sweep looks at it.
  void stir() { shared_.look_at[name_.slot] = 0; }
  std::uint32_t next_look() const;
  // So long quiet, and it is pinged. Zero: never.
  std::uint32_t ping_seconds() const;
  void account_memory();
  service::Cookie cookie(std::uint16_t sequence) const;

  Shared& shared_;
  CookieParts const name_;
  net::Connection& connection_;
  Caller& caller_;
  std::string const trace_id_;
  std::string worker_;
  std::vector<std::string> queues_;  // That it subscribed to,
  AllowedQueues allowed_;            // and those that its token was limited to when that was looked at last.
  TellStream word_;                  // Said, and not passed on yet.
  bool has_word_ = false;
  websocket::FrameReader reader_;
  std::deque<UnderWay> under_way_;  // Oldest first, as they are answered.
  std::uint16_t next_sequence_ = 1;
  std::uint64_t taken_bytes_ = 0;  // Sent, and not given back to the shard's window yet.
  // Jobs that its worker may have. Those whose leases ended otherwise stay in it until they are reported: the shard's
  // count is exact, and this one is only for how closely the stream is watched.
  std::size_t out_ = 0;
  std::size_t held_ = 0;  // Jobs that it said it has when it came back.

  Phase phase_ = Phase::asked;
  net::Connection::WaitFor waiting_for_{};
  bool is_waiting_ = false;
  bool touched_ = false;
  bool write_blocked_ = false;
  bool paused_ = false;       // Input is left unparsed until there is room for its answers.
  bool peer_closed_ = false;  // Nothing will come any more.
  bool deaf_ = false;         // What comes is read and dropped.
  bool output_shut_ = false;
  bool draining_ = false;     // Nothing more is read, and it closes when all is answered.
  bool shard_ended_ = false;  // The shard has forgotten the stream.
  bool is_in_message_ = false;
  bool pinged_ = false;
  bool is_direct_ = false;      // Nobody is between: its worker has shown it.
  bool is_kept_alive_ = false;  // The kernel looks after its peer.
  std::optional<StreamEnd> end_;
  std::uint32_t bunch_size_ = 0;
  std::uint32_t since_second_ = 0;    // In this phase.
  std::uint32_t heard_second_ = 0;    // Something came.
  std::uint32_t message_second_ = 0;  // The message under way began to come in,
  std::uint32_t blocked_second_ = 0;  // the output to wait,
  std::uint64_t blocked_bytes_ = 0;   // of which so much was taken since.
  std::uint64_t accounted_bytes_ = 0;
  std::uint64_t request_bytes_ = 0;
};

}  // namespace workmill::http
