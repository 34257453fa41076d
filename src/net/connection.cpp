#include "net/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace workmill::net {

Connection::Connection(Poller& poller, Socket socket) : poller_(poller) {
  boost::system::error_code ignored;  // The peer may be gone already: the first receive says so.
  peer_ = socket.remote_endpoint(ignored).address();
  client_ = client_key_of(peer_);
  socket.non_blocking(true, ignored);
  socket.set_option(boost::asio::ip::tcp::no_delay{true}, ignored);
  boost::system::error_code not_released;
  socket_ = socket.release(not_released);
  WM_ASSERT(!not_released);  // Linux can.
  key_ = poller_.add(socket_);
}

Connection::~Connection() {
  poller_.remove(key_);
  ::close(socket_);
}

IoStatus Connection::receive(std::span<char> scratch) {
  WM_ASSERT(scratch_.empty());
  bool const into_scratch = buffer_.empty();
  // What comes in pieces is copied until there is much of it, or each connection that trickles would hold room for a
  // receive: 5,000 of them half a gigabyte.
  bool const is_small = buffer_.size() < kReceiveBytes;
  std::span<char> const room = is_small ? scratch : buffer_.prepare(kReceiveBytes);
  ssize_t received = 0;
  do {
    received = ::recv(socket_, room.data(), room.size(), MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received == 0) return IoStatus::closed;
  if (received < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK) return IoStatus::closed;
    poller_.used_up(key_, WaitFor::readable);
    return IoStatus::blocked;
  }
  auto const count = static_cast<std::size_t>(received);
  if (count < room.size()) poller_.used_up(key_, WaitFor::readable);  // Else there may be more.
  if (into_scratch) {
    scratch_ = {room.data(), count};
  } else if (is_small) {
    buffer_.append({room.data(), count});
  } else {
    buffer_.commit(count);
  }
  return IoStatus::done;
}

void Connection::consume(std::size_t count) {
  if (scratch_.empty()) {
    buffer_.consume(count);
  } else {
    scratch_.remove_prefix(count);
  }
}

void Connection::keep_input() {
  if (!scratch_.empty()) {
    buffer_.append(scratch_);
    scratch_ = {};
  } else {
    buffer_.shrink(kKeptBytes);
  }
}

IoStatus Connection::flush() {
  while (sent_ < output_.size()) {
    ssize_t const sent = ::send(socket_, output_.data() + sent_, output_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return IoStatus::closed;
      poller_.used_up(key_, WaitFor::writable);
      return IoStatus::blocked;
    }
    sent_ += static_cast<std::size_t>(sent);
  }
  sent_ = 0;
  output_.clear();
  if (output_.capacity() > kKeptBytes) std::string{}.swap(output_);
  return IoStatus::done;
}

void Connection::shutdown_output() { ::shutdown(socket_, SHUT_WR); }

}  // namespace workmill::net
