#include "floor.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace workmill::app {
namespace {

// One of a real server, as far as its length goes.
constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sat, 28 Nov 2026 21:36:28 GMT\r\n"
    "ETag: \"00f067aa0ba902b7\"\r\nAge: 0\r\nCache-Control: no-cache\r\n"
    "Cache-Status: workmill; fwd=uri-miss; stored; collapsed\r\nContent-Length: {:>10}\r\n\r\n";
constexpr std::string_view kLeased = R"({"jobs":[{"id":"floor","lease":"1"}]})";
constexpr std::string_view kReported = R"({"reports":[{"id":"floor"}]})";
constexpr std::string_view kNoJob = R"({"jobs":[]})";

std::string with_head(std::string_view body) { return fmt::format(fmt::runtime(kHead), body.size()).append(body); }

// Whatever has come, some of it at least. False: nothing will.
bool receive(FileDescriptor const& socket) {
  std::array<char, 16 * 1024> room;
  ssize_t count = 0;
  do count = ::recv(socket.get(), room.data(), room.size(), 0);
  while (count < 0 && errno == EINTR);
  return count > 0;
}

bool send_all(FileDescriptor const& socket, std::string_view bytes) {
  while (!bytes.empty()) {
    auto const count = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// In the process of its own. Where anything fails it ends, which the client takes for an error.
class Sender {
 public:
  Sender(FileDescriptor const& listener, std::size_t callers, std::size_t value_bytes, std::size_t threads)
      : listener_(listener),
        callers_(callers),
        threads_(threads),
        answer_(with_head('"' + std::string(value_bytes - 2, 'x') + '"')) {}

  void serve() {
    if (!accept_all()) return;
    FileDescriptor const& worker = sockets_.front();
    bool has_asked = receive(worker) && send_all(worker, with_head(kLeased));
    for (std::size_t i = 0; i < callers_ && has_asked; ++i) has_asked = receive(sockets_[i + 1]);
    if (!has_asked || !receive(worker)) return;
    send_all(worker, with_head(kReported));
    std::vector<std::thread> helpers;
    for (std::size_t i = 1; i < threads_; ++i) helpers.emplace_back([this, i] { answer_callers(i); });
    answer_callers(0);
    for (std::thread& helper : helpers) helper.join();
    if (receive(worker)) send_all(worker, with_head(kNoJob));
    receive(worker);  // Until it goes.
  }

 private:
  bool accept_all() {
    while (sockets_.size() < callers_ + 1) {
      int const socket = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
      if (socket < 0) return false;
      int const on = 1;
      ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      sockets_.emplace_back(socket);
    }
    return true;
  }
  void answer_callers(std::size_t first) {
    for (std::size_t i = first; i < callers_; i += threads_) {
      if (!send_all(sockets_[i + 1], answer_)) return;
    }
  }

  FileDescriptor const& listener_;
  std::size_t const callers_;
  std::size_t const threads_;
  std::string const answer_;
  std::vector<FileDescriptor> sockets_;  // The worker's, then the callers'.
};

}  // namespace

Result<std::unique_ptr<Floor>> Floor::open(std::size_t callers, std::size_t value_bytes, std::size_t threads) {
  FileDescriptor listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!listener.is_open() || ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), SOMAXCONN) != 0) {
    return fail(ErrorCode::io_failed, fmt::format("listening: {}", std::strerror(errno)));
  }
  pid_t const process = ::fork();
  if (process < 0) return fail(ErrorCode::io_failed, fmt::format("forking: {}", std::strerror(errno)));
  if (process == 0) {
    Sender{listener, callers, value_bytes, threads}.serve();
    ::_exit(0);
  }
  return std::unique_ptr<Floor>{new Floor{std::move(listener), process}};
}

Floor::Floor(FileDescriptor listener, pid_t process) : listener_(std::move(listener)), process_(process) {}

Floor::~Floor() {
  ::kill(process_, SIGKILL);  // Mostly it has ended with the client's connections.
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string Floor::url() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
}

}  // namespace workmill::app
