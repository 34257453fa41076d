#include "app/stop_signals.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <system_error>
#include <utility>

#include "base/assert.h"

namespace workmill::app {
namespace {

// What a signal handler may touch: it has no object to be a member of.
std::atomic<int> wake_fd{-1};
std::atomic<int> stop_signal{0};  // 0: none yet.
std::atomic<bool> hangup_due{false};

bool wake() {
  std::uint64_t const one = 1;
  return ::write(wake_fd.load(), &one, sizeof one) == sizeof one;
}

void note_stop(int signal) {
  int const saved = errno;
  stop_signal.store(signal);
  if (!wake()) {  // Then without ado, once this handler returns.
    std::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  errno = saved;
}

void note_hangup(int) {
  int const saved = errno;
  hangup_due.store(true);
  if (wake_fd.load() >= 0) static_cast<void>(wake());
  errno = saved;
}

bool handle(int signal, void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  return ::sigaction(signal, &action, nullptr) == 0;
}

void stop_by_default() {
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

auto refused(std::string_view what, std::string const& reason) {
  return fail(ErrorCode::io_failed, fmt::format("cannot {}: {}", what, reason));
}

class Watch final : public StopSignals {
 public:
  Watch(net::IoLoop& loop, SignalCalls calls) : event_(loop.context()), calls_(std::move(calls)) {}
  ~Watch() override {
    stop_by_default();
    std::signal(SIGHUP, SIG_IGN);  // The server is at its end: there is nothing left to reload.
    wake_fd.store(-1);
    stop_signal.store(0);
  }

  Result<> start() {
    int const fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return refused("make an event for signals", std::generic_category().message(errno));
    boost::system::error_code error;
    static_cast<void>(event_.assign(fd, error));
    if (error) {
      ::close(fd);
      return refused("watch for signals", error.message());
    }
    WM_ASSERT(wake_fd.exchange(fd) == -1);
    wait();
    if (!handle(SIGTERM, note_stop) || !handle(SIGINT, note_stop) || !handle(SIGHUP, note_hangup)) {
      return refused("handle signals", std::generic_category().message(errno));
    }
    if (hangup_due.load()) static_cast<void>(wake());  // One that was held.
    return {};
  }

 private:
  void wait() {
    event_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this](boost::system::error_code const& failed) {
                        if (failed) return;
                        std::uint64_t count = 0;
                        [[maybe_unused]] ssize_t const got = ::read(event_.native_handle(), &count, sizeof count);
                        wait();
                        act();
                      });
  }
  void act() {
    if (stopping_) return;
    bool const hung_up = hangup_due.exchange(false);
    // Whoever closes the terminal in which a server runs wants no server without one.
    bool const lost_terminal = hung_up && had_terminal_ && ::isatty(STDERR_FILENO) != 1;
    if (int const signal = stop_signal.load(); signal != 0 || lost_terminal) {
      stopping_ = true;
      stop_by_default();
      calls_.on_stop(signal != 0 ? signal : SIGHUP);
    } else if (hung_up) {
      calls_.on_hangup();
    }
  }

  boost::asio::posix::stream_descriptor event_;
  SignalCalls calls_;
  bool const had_terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool stopping_ = false;
};

}  // namespace

void StopSignals::hold_hangups() { static_cast<void>(handle(SIGHUP, note_hangup)); }

Result<std::unique_ptr<StopSignals>> StopSignals::watch(net::IoLoop& loop, SignalCalls calls) {
  auto watch = std::make_unique<Watch>(loop, std::move(calls));
  WM_TRY_VOID(watch->start());
  return watch;
}

}  // namespace workmill::app
