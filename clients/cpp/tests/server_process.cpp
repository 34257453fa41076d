#include "server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "tls_server.h"

extern char** environ;

namespace workmill::client::test {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

template <class Address>
sockaddr* raw(Address& address) {
  return reinterpret_cast<sockaddr*>(&address);
}

// WORKMILL_BIN, else that of the build that this program is of.
std::string const& server_program() {
  static std::string const program = [] {
    char const* const given = std::getenv("WORKMILL_BIN");
    if (given != nullptr) return std::string{given};
    return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../../workmill").string();
  }();
  return program;
}

}  // namespace

bool eventually(std::function<bool()> const& check) {
  auto const end = std::chrono::steady_clock::now() + kPatience;
  while (!check()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return true;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = std::filesystem::temp_directory_path() / "workmill-client-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::uint16_t free_port() {
  // Below the range that outgoing connections are given, so that it stays free.
  std::random_device random;
  for (;;) {
    auto const port = static_cast<std::uint16_t>(10'000 + random() % 20'000);
    int const probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto address = loopback(port);
    bool const is_free = ::bind(probe, raw(address), sizeof address) == 0;
    ::close(probe);
    if (is_free) return port;
  }
}

int dial(std::string const& url) {
  int const socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = loopback(static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  if (::connect(socket, raw(address), sizeof address) == 0) return socket;
  ::close(socket);
  return -1;
}

ServerProcess::ServerProcess(std::vector<std::string> settings, Speaks speaks) : speaks_(speaks), port_(free_port()) {
  if (speaks == Speaks::https) {
    Certificate const own = make_certificate(folder_.path(), "certificate");
    settings.push_back("tls_certificate = \"" + own.certificate + "\"");
    settings.push_back("tls_key = \"" + own.key + "\"");
  }
  std::ofstream config{folder_.path() / "workmill.toml"};
  config << "segment_size = \"4MiB\"\ndisk_reserve = \"16MiB\"\n";
  for (std::string const& line : settings) config << line << '\n';
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) end_with(SIGKILL);
}

void ServerProcess::start() {
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::string const log = folder_.path() / "server.log";
    std::vector<std::string> arguments{server_program(), "serve",
                                       "--config",       folder_.path() / "workmill.toml",
                                       "--data",         folder_.path() / "data",
                                       "--listen",       "127.0.0.1:" + std::to_string(port_)};
    std::vector<char*> raw_arguments;
    for (std::string& each : arguments) raw_arguments.push_back(each.data());
    raw_arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    ASSERT_EQ(posix_spawn(&pid_, server_program().c_str(), &actions, nullptr, raw_arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    bool ended = false;
    bool const decided = eventually([&] {
      ended = ::waitpid(pid_, nullptr, WNOHANG) == pid_;
      return ended || is_ready();
    });
    if (decided && !ended) return;
    if (!ended) end_with(SIGKILL);
    pid_ = -1;
    port_ = free_port();  // Somebody else may have taken it.
  }
  std::ifstream log{folder_.path() / "server.log"};
  FAIL() << "the server does not start: " << std::string{std::istreambuf_iterator<char>{log}, {}};
}

bool ServerProcess::is_ready() const {
  int const socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = loopback(port_);
  bool ready = false;
  bool const connected = ::connect(socket, raw(address), sizeof address) == 0;
  if (connected && speaks_ == Speaks::https) {
    ready = true;  // It listens only when it has recovered.
  } else if (connected) {
    send_text(socket, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    std::string answer(16, '\0');
    pollfd readable{.fd = socket, .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, 5'000) == 1) {
      ssize_t const got = ::recv(socket, answer.data(), answer.size(), 0);
      ready = got > 12 && answer.starts_with("HTTP/1.1 200");
    }
  }
  ::close(socket);
  return ready;
}

void ServerProcess::end_with(int signal) {
  ::kill(pid_, signal);
  if (signal == SIGKILL) ::kill(pid_, SIGCONT);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (signal == SIGTERM) {
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

void ServerProcess::kill() { end_with(SIGKILL); }
void ServerProcess::stop() { end_with(SIGTERM); }
void ServerProcess::pause() { ::kill(pid_, SIGSTOP); }
void ServerProcess::go_on() { ::kill(pid_, SIGCONT); }

struct FakeServer::State {
  int listener = -1;
  Serve serve;
  std::mutex mutex;
  std::vector<int> sockets;
  std::vector<std::thread> threads;
  std::atomic<int> connections{0};
  std::thread acceptor;
};

FakeServer::FakeServer(Serve serve) : state_(new State) {
  state_->serve = std::move(serve);
  state_->listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(state_->listener, raw(address), size) != 0 || ::listen(state_->listener, 64) != 0) std::abort();
  ::getsockname(state_->listener, raw(address), &size);
  port_ = ntohs(address.sin_port);
  state_->acceptor = std::thread{[state = state_] {
    for (;;) {
      int const socket = ::accept4(state->listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0 && errno == EINTR) continue;
      if (socket < 0) return;
      std::lock_guard const lock{state->mutex};
      state->sockets.push_back(socket);
      int const number = state->connections.fetch_add(1) + 1;
      state->threads.emplace_back([state, socket, number] { state->serve(socket, number); });
    }
  }};
}

FakeServer::~FakeServer() {
  ::shutdown(state_->listener, SHUT_RDWR);
  state_->acceptor.join();
  for (int const socket : state_->sockets) ::shutdown(socket, SHUT_RDWR);
  for (std::thread& thread : state_->threads) thread.join();
  for (int const socket : state_->sockets) ::close(socket);
  ::close(state_->listener);
  delete state_;
}

int FakeServer::connections() const { return state_->connections.load(); }

FakeServer::Serve answering(std::function<std::string(std::string const&, int)> answer) {
  auto count = std::make_shared<std::atomic<int>>(0);
  return [answer = std::move(answer), count](int socket, int) {
    for (std::string request = read_request(socket); !request.empty(); request = read_request(socket)) {
      std::string const text = answer(request, count->fetch_add(1) + 1);
      if (text.empty()) {
        ::shutdown(socket, SHUT_RDWR);
        return;
      }
      send_text(socket, text);
    }
  };
}

std::string read_request(int socket) {
  std::string text;
  std::size_t wanted = std::string::npos;
  char buffer[4096];
  while (text.size() < wanted) {
    ssize_t const got = ::recv(socket, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    text.append(buffer, static_cast<std::size_t>(got));
    std::size_t const end = text.find("\r\n\r\n");
    if (end == std::string::npos || wanted != std::string::npos) continue;
    wanted = end + 4;
    constexpr std::string_view kLength = "Content-Length: ";
    if (std::size_t const at = text.find(kLength); at != std::string::npos && at < end) {
      wanted += static_cast<std::size_t>(std::atoi(text.c_str() + at + kLength.size()));
    }
  }
  return text;
}

void send_text(int socket, std::string_view text) {
  while (!text.empty()) {
    ssize_t const sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

std::string response(int status, std::string_view body, std::string_view more_headers) {
  return "HTTP/1.1 " + std::to_string(status) +
         " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string{more_headers} + "\r\n" + std::string{body};
}

}  // namespace workmill::client::test
