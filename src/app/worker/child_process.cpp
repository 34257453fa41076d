#include "app/worker/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::size_t kReadBytes = 64 * 1024;  // As much as a pipe holds.
constexpr int kReadsPerPump = 16;              // Then others get their turn.

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::io_failed, fmt::format("no pipe: {}", std::strerror(errno)));
  }
  return Pipe{FileDescriptor{ends[0]}, FileDescriptor{ends[1]}};
}

void make_non_blocking(FileDescriptor const& descriptor) {
  WM_ASSERT(fcntl(descriptor.get(), F_SETFL, fcntl(descriptor.get(), F_GETFL) | O_NONBLOCK) == 0);
}

// posix_spawn's two bags of settings, freed at the end.
struct SpawnSettings {
  SpawnSettings() {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(SpawnSettings const&) = delete;
  SpawnSettings& operator=(SpawnSettings const&) = delete;

  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};
};

// Ours, with `added` in place of what has the same name.
std::vector<std::string> environment_with(std::vector<std::pair<std::string, std::string>> const& added) {
  std::vector<std::string> lines;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view const line{*entry};
    bool replaced = false;
    for (auto const& [name, value] : added) {
      replaced |= line.size() > name.size() && line.starts_with(name) && line[name.size()] == '=';
    }
    if (!replaced) lines.emplace_back(line);
  }
  for (auto const& [name, value] : added) lines.push_back(fmt::format("{}={}", name, value));
  return lines;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

bool is_executable_file(std::string const& path) { return access(path.c_str(), X_OK) == 0; }

}  // namespace

bool is_runnable(std::string const& program) {
  if (program.empty()) return false;
  if (program.contains('/')) return is_executable_file(program);
  char const* const path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "/usr/bin:/bin";
  while (true) {
    auto const colon = folders.find(':');
    auto const folder = folders.substr(0, colon);
    if (is_executable_file(fmt::format("{}/{}", folder.empty() ? "." : folder, program))) return true;
    if (colon == std::string_view::npos) return false;
    folders.remove_prefix(colon + 1);
  }
}

Result<ChildProcess> ChildProcess::start(Spec spec) {
  WM_ASSERT(!spec.command.empty());
  WM_TRY(auto input, make_pipe());
  WM_TRY(auto output, make_pipe());
  WM_TRY(auto errors, make_pipe());

  SpawnSettings settings;
  posix_spawn_file_actions_adddup2(&settings.files, input.read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&settings.files, output.write.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&settings.files, errors.write.get(), STDERR_FILENO);
  // Not every library opens its sockets so that they are closed by themselves.
  posix_spawn_file_actions_addclosefrom_np(&settings.files, STDERR_FILENO + 1);
  sigset_t none;
  sigemptyset(&none);
  sigset_t defaults;
  sigemptyset(&defaults);
  for (int const number : {SIGPIPE, SIGTERM, SIGINT, SIGHUP}) sigaddset(&defaults, number);
  posix_spawnattr_setsigmask(&settings.attributes, &none);
  posix_spawnattr_setsigdefault(&settings.attributes, &defaults);
  posix_spawnattr_setpgroup(&settings.attributes, 0);
  posix_spawnattr_setflags(&settings.attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  auto environment = environment_with(spec.environment);
  auto const arguments = pointers_to(spec.command);
  auto const variables = pointers_to(environment);
  ChildProcess child;
  int const error = posix_spawnp(&child.pid_, arguments.front(), &settings.files, &settings.attributes,
                                 arguments.data(), variables.data());
  if (error != 0) {
    bool const busy = error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
    return fail(busy ? ErrorCode::io_failed : ErrorCode::not_found,
                fmt::format("cannot start '{}': {}", spec.command.front(), std::strerror(error)));
  }

  child.pid_descriptor_.reset(static_cast<int>(syscall(SYS_pidfd_open, child.pid_, 0)));
  child.input_pipe_ = std::move(input.write);
  child.output_pipe_ = std::move(output.read);
  child.error_pipe_ = std::move(errors.read);
  for (auto const* pipe : {&child.input_pipe_, &child.output_pipe_, &child.error_pipe_}) make_non_blocking(*pipe);
  child.input_ = std::move(spec.input);
  child.output_bytes_max_ = spec.output_bytes_max;
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pid_descriptor_(std::move(other.pid_descriptor_)),
      input_pipe_(std::move(other.input_pipe_)),
      output_pipe_(std::move(other.output_pipe_)),
      error_pipe_(std::move(other.error_pipe_)),
      input_(std::move(other.input_)),
      input_written_(other.input_written_),
      output_(std::move(other.output_)),
      output_bytes_max_(other.output_bytes_max_),
      output_is_cut_(other.output_is_cut_),
      errors_(std::move(other.errors_)),
      ended_(other.ended_),
      end_(other.end_) {}

ChildProcess::~ChildProcess() {
  if (pid_ < 0 || ended_) return;
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);  // It has no choice: this does not take long.
}

void ChildProcess::add_polls(std::vector<pollfd>& polls) const {
  if (ended_) return;
  if (pid_descriptor_.is_open()) polls.push_back({pid_descriptor_.get(), POLLIN, 0});
  if (input_pipe_.is_open()) polls.push_back({input_pipe_.get(), POLLOUT, 0});
  if (output_pipe_.is_open()) polls.push_back({output_pipe_.get(), POLLIN, 0});
  if (error_pipe_.is_open()) polls.push_back({error_pipe_.get(), POLLIN, 0});
}

void ChildProcess::pump() {
  if (ended_) return;
  write_input();
  for (int i = 0; i < kReadsPerPump && read_output(); ++i) {
  }
  for (int i = 0; i < kReadsPerPump && read_errors(); ++i) {
  }
  look_for_end();
}

void ChildProcess::write_input() {
  while (input_pipe_.is_open()) {
    if (input_written_ == input_.size()) {
      input_pipe_.reset();  // The end of its input.
      input_ = {};
      return;
    }
    auto const written = write(input_pipe_.get(), input_.data() + input_written_, input_.size() - input_written_);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return;
    if (written < 0) {  // It has closed its standard input: not everybody wants to read all of it.
      input_pipe_.reset();
      return;
    }
    input_written_ += static_cast<std::size_t>(written);
  }
}

bool ChildProcess::read_output() {
  if (!output_pipe_.is_open()) return false;
  std::array<char, kReadBytes> buffer;
  auto const count = read(output_pipe_.get(), buffer.data(), buffer.size());
  if (count < 0) return errno == EINTR;
  if (count == 0) {
    output_pipe_.reset();
    return false;
  }
  auto const room = output_bytes_max_ - output_.size();
  auto const bytes = static_cast<std::size_t>(count);
  output_.append(buffer.data(), std::min(bytes, room));
  output_is_cut_ |= bytes > room;
  return true;
}

bool ChildProcess::read_errors() {
  if (!error_pipe_.is_open()) return false;
  std::array<char, kReadBytes> buffer;
  auto const count = read(error_pipe_.get(), buffer.data(), buffer.size());
  if (count < 0) return errno == EINTR;
  if (count == 0) {
    error_pipe_.reset();
    return false;
  }
  errors_.add({buffer.data(), static_cast<std::size_t>(count)});
  return true;
}

void ChildProcess::look_for_end() {
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return;
  ended_ = true;
  if (WIFSIGNALED(status)) {
    end_.signal = WTERMSIG(status);
  } else {
    end_.exit_code = WEXITSTATUS(status);
  }
  // What it wrote last may still be in the pipes. Their end may never come: what it has left behind holds them open.
  for (int i = 0; i < kReadsPerPump && read_output(); ++i) {
  }
  for (int i = 0; i < kReadsPerPump && read_errors(); ++i) {
  }
  errors_.finish();
  for (auto* descriptor : {&pid_descriptor_, &input_pipe_, &output_pipe_, &error_pipe_}) descriptor->reset();
}

void ChildProcess::send_signal(int number) {
  // The group has the number of its leader, and no other can have it before the leader is waited for.
  if (pid_ > 0 && !ended_) kill(-pid_, number);
}

}  // namespace workmill::app
