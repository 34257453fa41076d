#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/worker/file_descriptor.h"
#include "base/error.h"
#include "base/time.h"

// Many connections on one thread, over epoll: what clients that make load have in common. Which protocol a connection
// speaks, its subclass knows (http_peer.h, stream_peer.h). It is there so that the server and not the client is what is
// measured: one read, and mostly one write, for what is ready.
namespace workmill::app {

class PeerLoop;

// Where a load goes: "http://host:port" taken apart.
struct PeerAddress {
  std::string host, port;
  std::string authority;  // As the Host header has it.
};
// bad_configuration where it is not http://.
Result<PeerAddress> peer_address(std::string_view url);

// One connection. It belongs to its loop, and is used on its thread.
class Peer {
 public:
  virtual ~Peer() = default;
  Peer(Peer const&) = delete;
  Peer& operator=(Peer const&) = delete;

  std::size_t index() const { return index_; }  // Among all of the loop, from 0.
  std::chrono::nanoseconds now() const;

 protected:
  Peer(PeerLoop& loop, std::size_t index, FileDescriptor socket);

  // Sends what the socket takes now, and keeps the rest for later. What goes wrong ends the run of the loop.
  void write(std::string_view bytes);
  // Looks at what has come, oldest first, and says how much of it is dealt with; the rest comes again with more behind
  // it. An error ends the run of the loop.
  virtual Result<std::size_t> take(std::string_view in) = 0;

 private:
  friend class PeerLoop;
  Result<> write_out();
  Result<> read_in();

  PeerLoop& loop_;
  std::size_t index_;
  FileDescriptor socket_;
  std::string out_;          // Not taken by the socket yet, from written_ on.
  std::size_t written_ = 0;  // Of out_.
  std::string in_;           // Come, and not dealt with.
  bool polls_for_room_ = false;
};

class PeerLoop {
 public:
  // Looks up the host, and connects nobody yet. no_server where there is no such host.
  static Result<std::unique_ptr<PeerLoop>> open(std::string const& url, Clock const& clock);
  ~PeerLoop();
  PeerLoop(PeerLoop const&) = delete;
  PeerLoop& operator=(PeerLoop const&) = delete;

  // Connects one more; P is a Peer, made with what it needs beside. no_server where nobody takes the connection.
  template <class P, class... More>
  Result<P*> connect(More&&... more) {
    WM_TRY(auto socket, open_socket());
    auto peer = std::make_unique<P>(*this, peers_.size(), std::move(socket), std::forward<More>(more)...);
    P* const made = peer.get();
    add(std::move(peer));
    return made;
  }

  // Connects a socket that the loop does not watch, non-blocking. no_server likewise.
  Result<FileDescriptor> open_socket() const;

  std::chrono::nanoseconds now() const { return clock_.monotonic(); }
  PeerAddress const& address() const { return address_; }

  // Turns until stop() or until `deadline` (of `now()`) has passed: false in that case. outcome_unknown where the
  // server has closed a connection, and whatever else a peer says.
  Result<bool> run_until(std::chrono::nanoseconds deadline);
  void stop() { stopped_ = true; }

 private:
  friend class Peer;
  PeerLoop(Clock const& clock, PeerAddress address);
  void add(std::unique_ptr<Peer> peer);
  void poll_for_room(Peer& peer, bool wanted);

  struct Addresses;
  Clock const& clock_;
  PeerAddress address_;
  std::unique_ptr<Addresses> found_;
  FileDescriptor epoll_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<char> buffer_;  // Where all of them read to.
  std::optional<Error> failed_;
  bool stopped_ = false;
};

}  // namespace workmill::app
