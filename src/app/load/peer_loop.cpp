#include "app/load/peer_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::size_t kReadBytes = 256 * 1024;  // One message of a stream with a thousand jobs of 100 bytes.

}  // namespace

Result<PeerAddress> peer_address(std::string_view url) {
  if (!url.starts_with(kScheme)) return fail(ErrorCode::bad_configuration, "load can be made over http:// only");
  std::string_view rest = url.substr(kScheme.size());
  PeerAddress address{.host = {}, .port = "80", .authority = std::string{rest}};
  auto const bracket = rest.find(']');
  auto const colon = rest.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    address.port = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[')) rest = rest.substr(1, rest.size() - 2);
  address.host = rest;
  return address;
}

Peer::Peer(PeerLoop& loop, std::size_t index, FileDescriptor socket)
    : loop_(loop), index_(index), socket_(std::move(socket)) {}

std::chrono::nanoseconds Peer::now() const { return loop_.now(); }

void Peer::write(std::string_view bytes) {
  if (written_ == out_.size()) {
    out_.clear();
    written_ = 0;
  }
  out_.append(bytes);
  if (polls_for_room_) return;  // What is before it waits as well.
  if (auto const written = write_out(); !written) loop_.failed_ = written.error();
}

Result<> Peer::write_out() {
  while (written_ < out_.size()) {
    auto const count = ::send(socket_.get(), out_.data() + written_, out_.size() - written_, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return fail(ErrorCode::outcome_unknown, fmt::format("sending: {}", std::strerror(errno)));
    written_ += static_cast<std::size_t>(count);
  }
  loop_.poll_for_room(*this, written_ < out_.size());
  return {};
}

Result<> Peer::read_in() {
  auto& buffer = loop_.buffer_;
  while (true) {
    auto const count = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return {};
    if (count < 0) return fail(ErrorCode::outcome_unknown, fmt::format("receiving: {}", std::strerror(errno)));
    if (count == 0) return fail(ErrorCode::outcome_unknown, "the server has closed the connection");
    std::string_view bytes{buffer.data(), static_cast<std::size_t>(count)};
    auto pieces = std::exchange(in_, {});
    if (!pieces.empty()) {  // Else what came is mostly whole, and nobody copies it.
      pieces.append(bytes);
      bytes = pieces;
    }
    WM_TRY(std::size_t const taken, take(bytes));
    WM_ASSERT(taken <= bytes.size());
    if (taken < bytes.size()) {
      if (pieces.empty()) {
        in_.assign(bytes.substr(taken));
      } else {
        pieces.erase(0, taken);
        in_ = std::move(pieces);
      }
    }
    if (static_cast<std::size_t>(count) < buffer.size()) return {};  // Mostly all there is; else epoll says so again.
  }
}

struct PeerLoop::Addresses {
  ~Addresses() {
    if (first != nullptr) freeaddrinfo(first);
  }
  addrinfo* first = nullptr;
};

PeerLoop::PeerLoop(Clock const& clock, PeerAddress address)
    : clock_(clock), address_(std::move(address)), found_(std::make_unique<Addresses>()), buffer_(kReadBytes) {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  WM_ASSERT(epoll_.is_open());
}

PeerLoop::~PeerLoop() = default;

Result<std::unique_ptr<PeerLoop>> PeerLoop::open(std::string const& url, Clock const& clock) {
  WM_TRY(auto address, peer_address(url));
  std::unique_ptr<PeerLoop> loop{new PeerLoop{clock, std::move(address)}};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  auto const& [host, port, authority] = loop->address_;
  if (int const error = getaddrinfo(host.c_str(), port.c_str(), &hints, &loop->found_->first); error != 0) {
    return fail(ErrorCode::no_server, fmt::format("{}: {}", host, gai_strerror(error)));
  }
  return loop;
}

Result<FileDescriptor> PeerLoop::open_socket() const {
  int error = 0;
  for (auto const* address = found_->first; address != nullptr; address = address->ai_next) {
    FileDescriptor peer{::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (peer.is_open() && ::connect(peer.get(), address->ai_addr, address->ai_addrlen) == 0) {
      int const on = 1;
      setsockopt(peer.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      WM_ASSERT(fcntl(peer.get(), F_SETFL, O_NONBLOCK) == 0);
      return peer;
    }
    error = errno;
  }
  return fail(error == EMFILE ? ErrorCode::io_failed : ErrorCode::no_server, std::strerror(error));
}

void PeerLoop::add(std::unique_ptr<Peer> peer) {
  epoll_event event{.events = EPOLLIN, .data = {.u64 = peer->index_}};
  WM_ASSERT(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, peer->socket_.get(), &event) == 0);
  peers_.push_back(std::move(peer));
}

void PeerLoop::poll_for_room(Peer& peer, bool wanted) {
  if (peer.polls_for_room_ == wanted) return;
  peer.polls_for_room_ = wanted;
  epoll_event event{.events = EPOLLIN | (wanted ? EPOLLOUT : 0U), .data = {.u64 = peer.index_}};
  WM_ASSERT(epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, peer.socket_.get(), &event) == 0);
}

Result<bool> PeerLoop::run_until(std::chrono::nanoseconds deadline) {
  std::array<epoll_event, 256> events;
  stopped_ = false;
  while (!stopped_) {
    if (failed_) return std::unexpected(*failed_);
    auto const left = deadline - now();
    if (left <= std::chrono::nanoseconds{0}) return false;
    timespec const timeout{.tv_sec = left.count() / 1'000'000'000, .tv_nsec = left.count() % 1'000'000'000};
    int const count = epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    for (int i = 0; i < count; ++i) {
      auto const& event = events[static_cast<std::size_t>(i)];
      auto& peer = *peers_[event.data.u64];
      if ((event.events & EPOLLOUT) != 0) WM_TRY_VOID(peer.write_out());
      if ((event.events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) WM_TRY_VOID(peer.read_in());
    }
  }
  if (failed_) return std::unexpected(*failed_);
  return true;
}

}  // namespace workmill::app
