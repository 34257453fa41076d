#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/worker/file_descriptor.h"
#include "base/error.h"
#include "base/time.h"

// The cheapest HTTP client that still looks at its answers: many keep-alive connections on one thread, an epoll loop,
// no parsing beyond status and length. It is there to make load, so that the server and not the client is what is
// measured.
namespace workmill::app {

// An answer, lent for the length of the call.
struct PeerAnswer {
  int status = 0;
  std::string_view body;
};

// The first whole answer in `in`; bytes: how many it takes. Nothing where it is not whole yet. protocol_error where it
// is none, or has no length.
struct ParsedAnswer {
  PeerAnswer answer;
  std::size_t bytes = 0;
};
Result<std::optional<ParsedAnswer>> parse_answer(std::string_view in);

// POST `path` with that JSON body, as bytes.
std::string post_request(std::string_view host, std::string_view token, std::string_view path, std::string_view body);

class PeerLoop;

// One connection. It belongs to its loop.
class HttpPeer {
 public:
  // Sends a request. Not while another one is under way.
  void send(std::string_view request);
  // The last one again, as the answer was a refusal. It keeps the time at which it was first sent.
  void send_again();
  bool is_waiting() const { return is_waiting_; }
  std::chrono::nanoseconds sent_at() const { return sent_at_; }
  std::size_t index() const { return index_; }

 private:
  friend class PeerLoop;
  HttpPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket);
  Result<> write_out();
  // Reads what is there; calls `on_answer` where that makes an answer whole.
  Result<> read_in();

  PeerLoop& loop_;
  std::size_t index_;
  FileDescriptor socket_;
  std::string out_;
  std::size_t written_ = 0;
  std::string in_;
  bool is_waiting_ = false;
  bool polls_for_room_ = false;
  std::chrono::nanoseconds sent_at_{};
};

class PeerLoop {
 public:
  using OnAnswer = std::function<void(HttpPeer&, PeerAnswer const&)>;

  // Opens `connections` to `url` (http only). no_server where nobody takes them.
  static Result<std::unique_ptr<PeerLoop>> connect(std::string const& url, std::size_t connections, Clock const& clock);
  ~PeerLoop();

  HttpPeer& peer(std::size_t index) { return *peers_[index]; }
  std::size_t size() const { return peers_.size(); }
  void set_on_answer(OnAnswer on_answer) { on_answer_ = std::move(on_answer); }
  std::chrono::nanoseconds now() const { return clock_.monotonic(); }

  // Turns until stop() or until `deadline` (of `now()`) has passed: false in that case. outcome_unknown where the
  // server has closed a connection.
  Result<bool> run_until(std::chrono::nanoseconds deadline);
  void stop() { stopped_ = true; }

 private:
  friend class HttpPeer;
  explicit PeerLoop(Clock const& clock) : clock_(clock) {}
  void poll_for_room(HttpPeer& peer, bool wanted);

  Clock const& clock_;
  FileDescriptor epoll_;
  std::vector<std::unique_ptr<HttpPeer>> peers_;
  OnAnswer on_answer_;
  std::vector<char> buffer_ = std::vector<char>(64 * 1024);  // Where all of them read to.
  std::optional<Error> failed_;
  bool stopped_ = false;
};

}  // namespace workmill::app
