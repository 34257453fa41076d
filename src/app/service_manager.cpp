#include "app/service_manager.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#include "net/listener.h"

namespace workmill::app {
namespace {

constexpr int kFirstInherited = 3;           // SD_LISTEN_FDS_START.
constexpr std::uint64_t kInheritedMax = 64;  // A server that is given more was started by mistake.

std::string_view environment(char const* name) {
  char const* const value = std::getenv(name);
  return value != nullptr ? std::string_view{value} : std::string_view{};
}

std::optional<std::uint64_t> environment_number(char const* name) {
  std::string_view const text = environment(name);
  std::uint64_t number = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool is_for_us(char const* pid_name) {
  auto const pid = environment_number(pid_name);
  return pid && *pid == static_cast<std::uint64_t>(::getpid());
}

// One line of status, whatever is in it.
std::string plain_line(std::string_view text) {
  std::string line{text};
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  return line;
}

std::int64_t microseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

// Where the datagrams go: connected once, so that each is one call.
int connect_to(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() < 2 || path.size() >= sizeof address.sun_path) return -1;
  if (path.front() != '/' && path.front() != '@') return -1;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path.front() == '@') address.sun_path[0] = '\0';  // A name outside the file system.
  int const made = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made < 0) return -1;
  auto const size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (::connect(made, reinterpret_cast<sockaddr const*>(&address), size) != 0) {
    ::close(made);
    return -1;
  }
  return made;
}

Result<std::string> address_of(int descriptor) {
  auto const refuse = [&](std::string_view what) {
    return fail(ErrorCode::bad_configuration, fmt::format("the inherited descriptor {} {}", descriptor, what));
  };
  int type = 0;
  int listens = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) != 0) return refuse("is no socket");
  size = sizeof listens;
  if (type != SOCK_STREAM || ::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
      listens == 0) {
    return refuse("is no listening TCP socket");
  }
  sockaddr_storage storage{};
  size = sizeof storage;
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return refuse("has no address");
  net::Address address;
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    address.host = boost::asio::ip::address_v4{ntohl(v4.sin_addr.s_addr)};
    address.port = ntohs(v4.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof v6);
    boost::asio::ip::address_v6::bytes_type bytes{};
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    address.host = boost::asio::ip::address_v6{bytes};
    address.port = ntohs(v6.sin6_port);
  } else {
    return refuse("is no TCP socket: ListenStream= takes an address and a port");
  }
  return net::format_address(address);
}

}  // namespace

ServiceManager ServiceManager::from_environment() {
  ServiceManager manager;
  manager.socket_ = connect_to(environment("NOTIFY_SOCKET"));
  if (!manager.is_there()) return manager;
  auto const every = environment_number("WATCHDOG_USEC");
  bool const is_ours = environment("WATCHDOG_PID").empty() || is_for_us("WATCHDOG_PID");
  if (every && *every >= 1'000 && *every < 1'000'000ULL * 60 * 60 * 24 * 365 && is_ours) {
    manager.watchdog_ = std::chrono::duration_cast<Duration>(std::chrono::microseconds{*every});
  }
  return manager;
}

ServiceManager::ServiceManager(ServiceManager&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), watchdog_(std::exchange(other.watchdog_, std::nullopt)) {}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) ::close(socket_);
}

void ServiceManager::ready(std::string_view status) const {
  send(fmt::format("READY=1\nSTATUS={}\n", plain_line(status)));
}

void ServiceManager::reloading(std::chrono::nanoseconds monotonic) const {
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n", microseconds(monotonic)));
}

void ServiceManager::stopping(std::string_view status) const {
  send(fmt::format("STOPPING=1\nSTATUS={}\n", plain_line(status)));
}

void ServiceManager::status(std::string_view status) const { send(fmt::format("STATUS={}\n", plain_line(status))); }

void ServiceManager::extend(Duration by, std::string_view status) const {
  send(fmt::format("EXTEND_TIMEOUT_USEC={}\nSTATUS={}\n", microseconds(by), plain_line(status)));
}

void ServiceManager::alive() const { send("WATCHDOG=1\n"); }

void ServiceManager::send(std::string_view lines) const {
  if (socket_ < 0) return;
  // A manager whose queue is full has not read the last thing either.
  [[maybe_unused]] ssize_t const sent = ::send(socket_, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Result<std::vector<InheritedSocket>> inherited_sockets() {
  std::vector<InheritedSocket> sockets;
  auto const count = environment_number("LISTEN_FDS");
  if (!count || *count == 0 || !is_for_us("LISTEN_PID")) return sockets;
  if (*count > kInheritedMax) return fail(ErrorCode::bad_configuration, "LISTEN_FDS is over 64");
  std::string_view names = environment("LISTEN_FDNAMES");
  for (std::uint64_t i = 0; i < *count; ++i) {
    InheritedSocket socket;
    socket.descriptor = kFirstInherited + static_cast<int>(i);
    std::size_t const end = names.find(':');
    socket.name = names.substr(0, end);
    names = end == std::string_view::npos ? std::string_view{} : names.substr(end + 1);
    WM_TRY(socket.address, address_of(socket.descriptor));
    static_cast<void>(::fcntl(socket.descriptor, F_SETFD, FD_CLOEXEC));
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

}  // namespace workmill::app
