#include "app/load/http_peer.h"

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
#include <charconv>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::string_view kHeadEnd = "\r\n\r\n";

auto broken(std::string message) { return fail(ErrorCode::protocol_error, std::move(message)); }

std::optional<std::size_t> content_length(std::string_view head) {
  constexpr std::string_view kName = "content-length:";
  for (auto at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    auto line = head.substr(at + 2);
    bool const is_ours = line.size() >= kName.size() &&
                         std::equal(kName.begin(), kName.end(), line.begin(),
                                    [](char ours, char theirs) { return ours == static_cast<char>(theirs | 0x20); });
    if (!is_ours) continue;
    line.remove_prefix(kName.size());
    while (line.starts_with(' ')) line.remove_prefix(1);
    std::size_t length = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), length).ec != std::errc{}) return std::nullopt;
    return length;
  }
  return std::nullopt;
}

struct HostPort {
  std::string host, port;
};
HostPort host_and_port(std::string_view url) {
  auto authority = url.substr(url.find("://") + 3);
  HostPort result{.host = {}, .port = "80"};
  auto const bracket = authority.find(']');
  auto const colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    result.port = authority.substr(colon + 1);
    authority = authority.substr(0, colon);
  }
  if (authority.starts_with('[')) authority = authority.substr(1, authority.size() - 2);
  result.host = authority;
  return result;
}

Result<FileDescriptor> connect_to(addrinfo const& addresses) {
  int error = 0;
  for (auto const* address = &addresses; address != nullptr; address = address->ai_next) {
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

}  // namespace

Result<std::optional<ParsedAnswer>> parse_answer(std::string_view in) {
  auto const end = in.find(kHeadEnd);
  if (end == std::string_view::npos) return std::optional<ParsedAnswer>{};
  auto const head = in.substr(0, end);
  ParsedAnswer parsed;
  bool const is_http = head.starts_with("HTTP/1.") && head.size() >= 12;
  if (!is_http || std::from_chars(&head[9], &head[12], parsed.answer.status).ptr != &head[12]) {
    return broken("what came back is no HTTP answer");
  }
  auto const length = parsed.answer.status == 204 ? std::optional<std::size_t>{0} : content_length(head);
  if (!length) return broken("an answer came without its length");
  parsed.bytes = end + kHeadEnd.size() + *length;
  if (in.size() < parsed.bytes) return std::optional<ParsedAnswer>{};
  parsed.answer.body = in.substr(end + kHeadEnd.size(), *length);
  return std::optional{parsed};
}

std::string post_request(std::string_view host, std::string_view token, std::string_view path, std::string_view body) {
  auto const authorization = token.empty() ? std::string{} : fmt::format("Authorization: Bearer {}\r\n", token);
  return fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                     path, host, authorization, body.size(), body);
}

HttpPeer::HttpPeer(PeerLoop& loop, std::size_t index, FileDescriptor socket)
    : loop_(loop), index_(index), socket_(std::move(socket)) {}

void HttpPeer::send(std::string_view request) {
  WM_ASSERT(!is_waiting_);
  is_waiting_ = true;
  sent_at_ = loop_.now();
  out_.assign(request);
  written_ = 0;
  if (auto const written = write_out(); !written) loop_.failed_ = written.error();
}

void HttpPeer::send_again() {
  WM_ASSERT(!is_waiting_);
  is_waiting_ = true;
  written_ = 0;
  if (auto const written = write_out(); !written) loop_.failed_ = written.error();
}

Result<> HttpPeer::write_out() {
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

Result<> HttpPeer::read_in() {
  auto& buffer = loop_.buffer_;
  while (true) {
    auto const count = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return {};
    if (count < 0) return fail(ErrorCode::outcome_unknown, fmt::format("receiving: {}", std::strerror(errno)));
    if (count == 0) return fail(ErrorCode::outcome_unknown, "the server has closed the connection");
    std::string_view bytes{buffer.data(), static_cast<std::size_t>(count)};
    auto pieces = std::exchange(in_, {});
    if (!pieces.empty()) {  // Else the answer is in one piece, and nobody copies it.
      pieces.append(bytes);
      bytes = pieces;
    }
    WM_TRY(auto const parsed, parse_answer(bytes));
    if (parsed) {
      is_waiting_ = false;
      loop_.on_answer_(*this, parsed->answer);
      return {};
    }
    in_ = pieces.empty() ? std::string{bytes} : std::move(pieces);
  }
}

Result<std::unique_ptr<PeerLoop>> PeerLoop::connect(std::string const& url, std::size_t connections,
                                                    Clock const& clock) {
  if (!url.starts_with("http://")) {
    return fail(ErrorCode::bad_configuration, "load can be made over http:// only");
  }
  auto const [host, port] = host_and_port(url);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* addresses = nullptr;
  if (int const error = getaddrinfo(host.c_str(), port.c_str(), &hints, &addresses); error != 0) {
    return fail(ErrorCode::no_server, fmt::format("{}: {}", host, gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> const owned{addresses, &freeaddrinfo};

  std::unique_ptr<PeerLoop> loop{new PeerLoop{clock}};
  loop->epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  WM_ASSERT(loop->epoll_.is_open());
  for (std::size_t i = 0; i < connections; ++i) {
    WM_TRY(auto socket, connect_to(*addresses));
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    WM_ASSERT(epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0);
    loop->peers_.push_back(std::unique_ptr<HttpPeer>{new HttpPeer{*loop, i, std::move(socket)}});
  }
  return loop;
}

PeerLoop::~PeerLoop() = default;

void PeerLoop::poll_for_room(HttpPeer& peer, bool wanted) {
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
  return true;
}

}  // namespace workmill::app
