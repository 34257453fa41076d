#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace workmill::app {

// Cuts a stream of bytes into lines, and keeps the newest of them within a bound until somebody takes them. What had to
// go is counted, and said in a line of its own. Lines are UTF-8: other bytes are replaced.
class LineCollector {
 public:
  static constexpr std::size_t kLineBytesMax = 4 * 1024;  // Longer lines are cut into several.
  static constexpr std::size_t kBytesMax = 64 * 1024;     // As much as a server keeps of a job's log.
  static constexpr std::size_t kLinesMax = 999;           // A report takes 1,000; one tells of those left out.

  void add(std::string_view bytes);
  // The end of the stream: what is left without an end of line is a line too.
  void finish();

  bool has_lines() const { return !lines_.empty(); }
  std::vector<std::string> take();
  // The last line that had anything in it, taken or not.
  std::string const& last_line() const { return last_line_; }

 private:
  void end_line();

  std::string open_;  // The line that has no end yet.
  std::deque<std::string> lines_;
  std::size_t bytes_ = 0;
  std::uint64_t dropped_ = 0;
  std::string last_line_;
};

}  // namespace workmill::app
