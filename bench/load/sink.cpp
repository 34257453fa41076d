#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string_view>
#include <vector>

#include "app/worker/file_descriptor.h"

// Takes connections, reads what comes and forgets it, and ends each with a short answer after a time: the least that
// any server does with clients that trickle. What those cost others beside this, they cost beside any server, as they
// share the machine (bench/slowloris.py).
//
// One thread. Prints its port, and then runs until it is killed.
namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

constexpr std::string_view kAnswer = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

nanoseconds now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds{time.tv_sec} + nanoseconds{time.tv_nsec};
}

class Sink {
 public:
  explicit Sink(nanoseconds patience) : patience_(patience) {}

  // False where there is no port to be had, with errno.
  bool listen() {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (!listener_.is_open() || !epoll_.is_open() || ::bind(listener_.get(), any, size) != 0 ||
        ::listen(listener_.get(), 4096) != 0 || getsockname(listener_.get(), any, &size) != 0 ||
        !watch(listener_.get(), EPOLLIN)) {
      return false;
    }
    port_ = ntohs(address.sin_port);
    return true;
  }
  std::uint16_t port() const { return port_; }

  [[noreturn]] void run() {
    std::array<epoll_event, 256> events;
    for (;;) {
      timespec timeout{};
      int const count = epoll_pwait2(epoll_.get(), events.data(), events.size(), until_next_end(timeout), nullptr);
      for (int i = 0; i < count; ++i) {
        int const socket = events[static_cast<std::size_t>(i)].data.fd;
        if (socket == listener_.get()) {
          accept_all();
        } else {
          drain(socket);
        }
      }
      end_overdue();
    }
  }

 private:
  struct End {
    int socket = -1;
    std::uint64_t serial = 0;  // The number may be another connection's by then.
    nanoseconds due{};
  };

  bool watch(int socket, std::uint32_t what) {
    epoll_event event{.events = what, .data = {.fd = socket}};
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &event) == 0;
  }

  void accept_all() {
    for (;;) {
      int const socket = accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (socket < 0) return;  // All of them; or too many, and the next event tries again.
      if (!watch(socket, EPOLLIN | EPOLLRDHUP | EPOLLET)) {
        ::close(socket);
        continue;
      }
      auto const place = static_cast<std::size_t>(socket);
      if (place >= serials_.size()) serials_.resize(place + 1);
      serials_[place] = ++last_serial_;
      ends_.push_back({.socket = socket, .serial = last_serial_, .due = now() + patience_});
    }
  }

  void drain(int socket) {
    ssize_t count = 0;
    do {
      count = ::recv(socket, room_.data(), room_.size(), MSG_DONTWAIT);
    } while (count == static_cast<ssize_t>(room_.size()) || (count < 0 && errno == EINTR));
    if (count == 0 || (count < 0 && errno != EAGAIN)) end(socket);
  }

  timespec* until_next_end(timespec& timeout) const {
    if (ends_.empty()) return nullptr;
    auto const left = std::max(ends_.front().due - now(), nanoseconds{0});
    timeout = {.tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
    return &timeout;
  }

  void end_overdue() {
    for (auto const time = now(); !ends_.empty() && ends_.front().due <= time; ends_.pop_front()) {
      auto const [socket, serial, due] = ends_.front();
      if (serials_[static_cast<std::size_t>(socket)] != serial) continue;
      static_cast<void>(::send(socket, kAnswer.data(), kAnswer.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
      end(socket);
    }
  }

  void end(int socket) {
    serials_[static_cast<std::size_t>(socket)] = 0;
    ::close(socket);
  }

  nanoseconds const patience_;
  FileDescriptor listener_, epoll_;
  std::uint16_t port_ = 0;
  std::array<char, 64 * 1024> room_{};
  std::deque<End> ends_;                // In the order of their times.
  std::vector<std::uint64_t> serials_;  // By socket; 0 where it is closed.
  std::uint64_t last_serial_ = 0;
};

int run(double patience) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  }
  Sink sink{nanoseconds{static_cast<nanoseconds::rep>(patience * 1e9)}};
  if (!sink.listen()) {
    fmt::print(stderr, "no port to listen on: {}\n", std::strerror(errno));
    return 1;
  }
  fmt::print("{}\n", sink.port());
  std::fflush(stdout);
  sink.run();
}

}  // namespace
}  // namespace workmill::app

int main(int count, char** arguments) {
  double patience = 10;
  CLI::App app{"Reads what clients send it and forgets it; prints its port on loopback"};
  app.add_option("--patience", patience, "Seconds after which a connection is ended")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  CLI11_PARSE(app, count, arguments);
  return workmill::app::run(patience);
}
