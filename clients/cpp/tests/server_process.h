#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

// What the client's tests are made of: the real server as a process, servers that misbehave, and waiting for events.
namespace workmill::client::test {

// Room for sanitizers and a busy machine. Nothing waits so long when all is well.
inline constexpr std::chrono::seconds kPatience{60};

// Until `check` is true; false after kPatience.
bool eventually(std::function<bool()> const& check);

// A folder of its own that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(TemporaryFolder const&) = delete;
  TemporaryFolder& operator=(TemporaryFolder const&) = delete;
  std::filesystem::path const& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// `workmill serve` on a data folder and a port of its own, which both stay over restarts.
class ServerProcess {
 public:
  enum class Speaks : std::uint8_t { http, https };
  // `settings`: lines of its configuration. With https it has a certificate for 127.0.0.1: see certificate().
  explicit ServerProcess(std::vector<std::string> settings = {}, Speaks speaks = Speaks::http);
  ~ServerProcess();
  ServerProcess(ServerProcess const&) = delete;
  ServerProcess& operator=(ServerProcess const&) = delete;

  void start();  // And waits until it is ready.
  void kill();   // SIGKILL.
  void stop();   // SIGTERM; it must end with 0.
  void pause();  // SIGSTOP.
  void go_on();
  std::string url() const {
    return (speaks_ == Speaks::https ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port_);
  }
  std::string certificate() const { return folder_.path() / "certificate.pem"; }  // Vouches for itself.

 private:
  bool is_ready() const;
  void end_with(int signal);

  TemporaryFolder folder_;
  Speaks const speaks_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
};

// Listens, and hands each connection to `serve`, on a thread of its own, which must end when its socket is shut down.
class FakeServer {
 public:
  using Serve = std::function<void(int socket, int number)>;  // `number`: counted from 1.
  explicit FakeServer(Serve serve);
  ~FakeServer();
  FakeServer(FakeServer const&) = delete;
  FakeServer& operator=(FakeServer const&) = delete;
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int connections() const;

 private:
  struct State;
  State* state_;
  std::uint16_t port_ = 0;
};
// Answers each request by what `answer` says of it and its number, counted from 1 over all connections; empty: hangs
// up.
FakeServer::Serve answering(std::function<std::string(std::string const& request, int number)> answer);
// One request, head and body, as far as it comes; empty where the other side has closed.
std::string read_request(int socket);
void send_text(int socket, std::string_view text);
std::string response(int status, std::string_view body, std::string_view more_headers = {});
std::uint16_t free_port();  // Nobody listens there.
// A connection with the server at that URL; -1 where there is none to be had.
int dial(std::string const& url);

}  // namespace workmill::client::test
