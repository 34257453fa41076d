#include "net/connection.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace workmill::net {

Connection::Connection(Socket socket) : socket_(std::move(socket)) {
  boost::system::error_code ignored;  // The peer may be gone already: the first receive says so.
  socket_.non_blocking(true, ignored);
  socket_.set_option(boost::asio::ip::tcp::no_delay{true}, ignored);
}

Connection::Socket::wait_type Connection::to_asio(WaitFor what) {
  switch (what) {
    case WaitFor::readable: return Socket::wait_read;
    case WaitFor::writable: return Socket::wait_write;
    case WaitFor::hung_up: return Socket::wait_error;
  }
  return Socket::wait_error;
}

void Connection::wake() {
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

IoStatus Connection::receive(std::span<char> scratch) {
  WM_ASSERT(scratch_.empty());
  bool const into_scratch = buffer_.empty();
  std::span<char> const room = into_scratch ? scratch : buffer_.prepare(kReceiveBytes);
  ssize_t received = 0;
  do {
    received = ::recv(socket_.native_handle(), room.data(), room.size(), MSG_DONTWAIT);
  } while (received < 0 && errno == EINTR);
  if (received == 0) return IoStatus::closed;
  if (received < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? IoStatus::blocked : IoStatus::closed;
  auto const count = static_cast<std::size_t>(received);
  if (into_scratch) {
    scratch_ = {room.data(), count};
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
    ssize_t const sent =
        ::send(socket_.native_handle(), output_.data() + sent_, output_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? IoStatus::blocked : IoStatus::closed;
    }
    sent_ += static_cast<std::size_t>(sent);
  }
  sent_ = 0;
  output_.clear();
  if (output_.capacity() > kKeptBytes) std::string{}.swap(output_);
  return IoStatus::done;
}

void Connection::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Connection::shutdown_output() {
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

}  // namespace workmill::net
