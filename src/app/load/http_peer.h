#pragma once
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/load/peer_loop.h"
#include "base/error.h"
#include "base/time.h"

// The cheapest HTTP client that still looks at its answers: a keep-alive connection with one request at a time, and no
// parsing beyond status and length.
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

// POST `path` with that JSON body, as bytes. `host` as the Host header has it; `token` empty: none.
std::string post_request(std::string_view host, std::string_view token, std::string_view path, std::string_view body);

// GET `path`, as bytes.
std::string get_request(std::string_view host, std::string_view token, std::string_view path);

class HttpPeer final : public Peer {
 public:
  using OnAnswer = std::function<void(HttpPeer&, PeerAnswer const&)>;

  HttpPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket) : Peer(loop, index, std::move(socket)) {}
  void set_on_answer(OnAnswer on_answer) { on_answer_ = std::move(on_answer); }

  // Sends a request. Not while another one is under way.
  void send(std::string_view request);
  // The last one again, as the answer was a refusal. It keeps the time at which it was first sent.
  void send_again();
  bool is_waiting() const { return is_waiting_; }
  std::chrono::nanoseconds sent_at() const { return sent_at_; }

 private:
  Result<std::size_t> take(std::string_view in) override;

  OnAnswer on_answer_;
  std::string request_;
  bool is_waiting_ = false;
  std::chrono::nanoseconds sent_at_{};
};

}  // namespace workmill::app
