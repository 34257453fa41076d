#pragma once
#include <poll.h>
#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "app/worker/file_descriptor.h"
#include "app/worker/line_collector.h"
#include "base/error.h"

// A command that runs beside us: bytes in on its standard input, bytes out of its standard output, lines out of its
// standard error. No shell, and nothing here ever waits: its owner polls, and calls pump() when something is ready.
//
// It leads a process group of its own, so that an interrupt from the terminal is ours alone to answer, and so that what
// it has started can be signalled with it. It inherits no file descriptor but its three.
namespace workmill::app {

class ChildProcess {
 public:
  struct Spec {
    std::vector<std::string> command;                              // The program, looked up in PATH, and its arguments.
    std::vector<std::pair<std::string, std::string>> environment;  // Added to ours.
    std::string input;
    std::size_t output_bytes_max = 0;  // What is written beyond it is read and dropped.
  };

  // How it ended: by itself with a code, or by a signal.
  struct End {
    int exit_code = 0;
    int signal = 0;  // 0: none.
  };

  // not_found where there is no such program, or none that may be run; io_failed where the machine has no room for
  // another process just now.
  static Result<ChildProcess> start(Spec spec);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();  // Kills what still runs.

  // Appends what to wait for. Where the system cannot tell of an end by a descriptor, the owner has to look in every so
  // often: needs_looking_after().
  void add_polls(std::vector<pollfd>& polls) const;
  bool needs_looking_after() const { return !ended_ && !pid_descriptor_.is_open(); }
  // Reads, writes and finds out about the end, as far as that goes without waiting.
  void pump();

  bool has_ended() const { return ended_; }
  End end() const { return end_; }
  std::string const& output() const { return output_; }
  bool output_is_cut() const { return output_is_cut_; }
  LineCollector& errors() { return errors_; }
  LineCollector const& errors() const { return errors_; }

  // To its whole group. Nothing happens once it has ended.
  void send_signal(int number);

 private:
  ChildProcess() = default;
  void write_input();
  // False when there is nothing more to read just now.
  bool read_output();
  bool read_errors();
  void look_for_end();

  pid_t pid_ = -1;
  FileDescriptor pid_descriptor_;
  FileDescriptor input_pipe_;
  FileDescriptor output_pipe_;
  FileDescriptor error_pipe_;
  std::string input_;
  std::size_t input_written_ = 0;
  std::string output_;
  std::size_t output_bytes_max_ = 0;
  bool output_is_cut_ = false;
  LineCollector errors_;
  bool ended_ = false;
  End end_;
};

// Whether `program` could be started: found in PATH, or a path itself, and executable. To say so before any job is
// taken.
bool is_runnable(std::string const& program);

}  // namespace workmill::app
