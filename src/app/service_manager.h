#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "telemetry/log.h"

// What a service manager such as systemd is told, and what it has given us: sd_notify(3), sd_watchdog_enabled(3) and
// sd_listen_fds(3), over their documented protocol: datagrams of lines on the socket that NOTIFY_SOCKET names, and
// variables of the environment. Sixty lines of our own rather than libsystemd, which would bring four more libraries
// into a server that listens to strangers. Without a service manager all calls do nothing.
//
// Nothing here blocks or fails: a manager that does not listen is not waited for. Any thread may call.
namespace workmill::app {

class ServiceManager {
 public:
  // From the environment of the process, which stays as it is: the server starts no other programs.
  static ServiceManager from_environment();
  ServiceManager() = default;
  ServiceManager(ServiceManager&& other) noexcept;
  ServiceManager& operator=(ServiceManager&&) = delete;
  ~ServiceManager();

  bool is_there() const { return socket_ >= 0; }

  // The server answers from now on (also: it has reloaded). `status` is a line for people, as `systemctl status` shows.
  void ready(std::string_view status) const;
  // `monotonic`: now, by the system's monotonic clock.
  void reloading(std::chrono::nanoseconds monotonic) const;
  void stopping(std::string_view status) const;
  void status(std::string_view status) const;
  // What is under way may take so much longer than the manager's own patience, from now.
  void extend(Duration by, std::string_view status) const;
  void alive() const;  // To the watchdog.

  // Within this time alive() is expected, again and again; nothing where there is no watchdog. It must be for us.
  std::optional<Duration> watchdog() const { return watchdog_; }

 private:
  void send(std::string_view lines) const;

  int socket_ = -1;
  std::optional<Duration> watchdog_;
};

// A listening socket that was made by who started us: it outlives the process, and clients wait in its queue while the
// server is restarted.
struct InheritedSocket {
  int descriptor = -1;  // Whoever takes it into a net::Listener owns it from then on.
  std::string name;     // As LISTEN_FDNAMES has it; may be empty.
  std::string address;  // As net::format_address writes it.
};

// The sockets of LISTEN_FDS that are for this process (LISTEN_PID); none is the ordinary case. bad_configuration where
// one is no listening TCP socket: somebody meant something by it, and a server without it would be the wrong one.
Result<std::vector<InheritedSocket>> inherited_sockets();

}  // namespace workmill::app
