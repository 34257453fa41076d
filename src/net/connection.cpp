#include "net/connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace workmill::net {

Connection::Connection(Poller& poller, Socket socket, TlsIdentity const* identity) : poller_(poller) {
  boost::system::error_code ignored;  // The peer may be gone already: the first receive says so.
  peer_ = socket.remote_endpoint(ignored);
  client_ = client_key_of(peer());
  socket.non_blocking(true, ignored);
  socket.set_option(boost::asio::ip::tcp::no_delay{true}, ignored);
  boost::system::error_code not_released;
  socket_ = socket.release(not_released);
  WM_ASSERT(!not_released);  // Linux can.
  if (identity != nullptr) {
    ::fcntl(socket_, F_SETFL, ::fcntl(socket_, F_GETFL) | O_NONBLOCK);  // OpenSSL reads and writes without flags.
    tls_ = std::make_unique<TlsSession>(*identity, socket_);
  }
  key_ = poller_.add(socket_);
}

Connection::~Connection() {
  tls_.reset();  // It says goodbye.
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
  std::size_t count = 0;
  IoStatus const status = tls_ ? receive_tls(room, count) : receive_some(room, count);
  if (status != IoStatus::done) return status;
  if (into_scratch) {
    scratch_ = {room.data(), count};
  } else if (is_small) {
    buffer_.append({room.data(), count});
  } else {
    buffer_.commit(count);
  }
  return IoStatus::done;
}

IoStatus Connection::receive_some(std::span<char> room, std::size_t& count) {
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
  count = static_cast<std::size_t>(received);
  if (count < room.size()) poller_.used_up(key_, WaitFor::readable);  // Else there may be more.
  return IoStatus::done;
}

// Reads until the room is full or the socket is empty: what OpenSSL has taken off the socket and not handed out yet, no
// event would tell us of. A full room leaves the socket marked as readable, so the next wait is over at once.
IoStatus Connection::receive_tls(std::span<char> room, std::size_t& count) {
  if (!tls_->is_established()) {
    TlsStatus const status = tls_->handshake();
    if (status == TlsStatus::plain_http) {
      tls_.reset();
      return IoStatus::foreign;
    }
    if (status != TlsStatus::done) return block_on(status);
  }
  TlsStatus const status = tls_->read(room, count);
  if (status == TlsStatus::done) return IoStatus::done;
  IoStatus const blocked = block_on(status);
  return count > 0 ? IoStatus::done : blocked;  // An end behind them is still there when they are used.
}

IoStatus Connection::block_on(TlsStatus status) {
  switch (status) {
    case TlsStatus::wants_read: poller_.used_up(key_, WaitFor::readable); return IoStatus::blocked;
    case TlsStatus::wants_write:
      poller_.used_up(key_, WaitFor::writable);
      wants_write_ = true;
      return IoStatus::blocked;
    case TlsStatus::done:
    case TlsStatus::plain_http:
    case TlsStatus::closed: break;
  }
  return IoStatus::closed;
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

IoStatus Connection::flush(Behind behind) {
  wants_write_ = false;  // If that is what we waited for, the next receive() goes on: the socket is readable still.
  while (sent_ < output_.size()) {
    std::size_t count = 0;
    IoStatus const status = tls_ ? send_tls(count) : send_some(count, behind);
    sent_ += count;
    if (status != IoStatus::done) return status;
  }
  sent_ = 0;
  output_.clear();
  if (output_.capacity() > kKeptBytes) std::string{}.swap(output_);
  return IoStatus::done;
}

void Connection::send_ahead() {
  if (tls_ || sent_ == output_.size()) return;
  auto const sent = ::send(socket_, output_.data() + sent_, output_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) sent_ += static_cast<std::size_t>(sent);  // Else flush() finds out.
}

IoStatus Connection::send_some(std::size_t& count, Behind behind) {
  int const flags = MSG_DONTWAIT | MSG_NOSIGNAL | (behind == Behind::end ? MSG_MORE : 0);
  ssize_t sent = 0;
  do {
    sent = ::send(socket_, output_.data() + sent_, output_.size() - sent_, flags);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK) return IoStatus::closed;
    poller_.used_up(key_, WaitFor::writable);
    return IoStatus::blocked;
  }
  count = static_cast<std::size_t>(sent);
  return IoStatus::done;
}

IoStatus Connection::send_tls(std::size_t& count) {
  if (!tls_->is_established()) return IoStatus::closed;  // Whoever has not said hello yet is owed no answer.
  TlsStatus const status = tls_->write(std::string_view{output_}.substr(sent_), count);
  if (status == TlsStatus::done) return IoStatus::done;
  if (status != TlsStatus::wants_write)
    return IoStatus::closed;  // It does not ask to read: nothing is negotiated anew.
  poller_.used_up(key_, WaitFor::writable);
  return IoStatus::blocked;
}

void Connection::keep_alive() {
  // An option that is not taken leaves the kernel with its own times, which are longer.
  auto const set = [&](int level, int option, int value) {
    static_cast<void>(::setsockopt(socket_, level, option, &value, sizeof value));
  };
  // Each socket has its own second: thousands of connections that came together would be asked in one moment (timers so
  // far ahead are coarse), the kernel drops what it cannot queue, and four such rounds break connections that are
  // sound.
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60 + socket_ % 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

void Connection::shutdown_output() {
  if (tls_) tls_->finish();
  ::shutdown(socket_, SHUT_WR);
}

}  // namespace workmill::net
