#include "app/screen.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <system_error>

namespace workmill::app {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[?7l";         // Second screen, no cursor, no wrapping.
constexpr std::string_view kLeave = "\x1b[?7h\x1b[0m\x1b[?25h\x1b[?1049l";  // And back.

// What a signal handler may touch.
std::atomic<bool> is_taken{false};
termios terminal_before{};

void write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t const wrote = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // A terminal that is gone.
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

// An assertion of ours, or the C library's: give the terminal back first.
void on_abort(int signal) {
  give_back_screen();
  std::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

void give_back_screen() {
  if (!is_taken.exchange(false)) return;
  write_all(kLeave);
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
}

Result<std::unique_ptr<Screen>> Screen::take_over() {
  auto const refuse = [](std::string_view what) {
    return fail(ErrorCode::io_failed, fmt::format("cannot {}: {}", what, std::generic_category().message(errno)));
  };
  if (::tcgetattr(STDIN_FILENO, &terminal_before) != 0) return refuse("read the terminal's settings");
  sigset_t ours;
  sigset_t before;
  ::sigemptyset(&ours);
  for (int const signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) ::sigaddset(&ours, signal);
  ::sigprocmask(SIG_BLOCK, &ours, &before);
  int const signals = ::signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) {
    auto refused = refuse("watch for signals");
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    return refused;
  }
  std::unique_ptr<Screen> screen{new Screen{signals, before}};
  termios raw = terminal_before;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  raw.c_cc[VMIN] = 0;
  raw.c_cc[VTIME] = 0;
  raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // Ctrl-Z would leave a shell on our screen.
  std::signal(SIGABRT, on_abort);
  is_taken.store(true);
  if (::tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) != 0) return refuse("change the terminal's settings");
  write_all(kEnter);
  return screen;
}

Screen::~Screen() {
  give_back_screen();
  std::signal(SIGABRT, SIG_DFL);
  ::close(signals_);
  ::sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

int Screen::take_signal() {
  signalfd_siginfo info{};
  return ::read(signals_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

std::size_t Screen::columns() const {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::size_t Screen::rows() const {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

void Screen::show(std::vector<std::string> const& lines) {
  std::string frame = "\x1b[H";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) frame += "\r\n";
    frame += lines[i];
    frame += "\x1b[K";  // What is left of the line before.
  }
  frame += "\x1b[J";
  write_all(frame);
}

}  // namespace workmill::app
