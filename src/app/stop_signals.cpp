#include "app/stop_signals.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/eventfd.h>
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
std::atomic<int> last_signal{0};

void note_signal(int signal) {
  int const saved = errno;
  last_signal.store(signal);
  std::uint64_t const one = 1;
  if (::write(wake_fd.load(), &one, sizeof one) != sizeof one) {  // Then without ado, once this handler returns.
    std::signal(signal, SIG_DFL);
    ::raise(signal);
  }
  errno = saved;
}

void back_to_default() {
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
}

auto refused(std::string_view what, std::string const& reason) {
  return fail(ErrorCode::io_failed, fmt::format("cannot {}: {}", what, reason));
}

class Watch final : public StopSignals {
 public:
  Watch(net::IoLoop& loop, std::move_only_function<void(int)> on_signal)
      : event_(loop.context()), on_signal_(std::move(on_signal)) {}
  ~Watch() override {
    back_to_default();
    wake_fd.store(-1);
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
    event_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this](boost::system::error_code const& failed) {
                        if (failed) return;
                        back_to_default();
                        on_signal_(last_signal.load());
                      });
    struct sigaction action{};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    for (int const signal : {SIGTERM, SIGINT}) {
      if (::sigaction(signal, &action, nullptr) != 0) {
        return refused("handle signals", std::generic_category().message(errno));
      }
    }
    return {};
  }

 private:
  boost::asio::posix::stream_descriptor event_;
  std::move_only_function<void(int)> on_signal_;
};

}  // namespace

Result<std::unique_ptr<StopSignals>> StopSignals::watch(net::IoLoop& loop,
                                                        std::move_only_function<void(int)> on_signal) {
  auto watch = std::make_unique<Watch>(loop, std::move(on_signal));
  WM_TRY_VOID(watch->start());
  return watch;
}

}  // namespace workmill::app
