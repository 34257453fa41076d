#pragma once
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

// What people see: colours, tables, progress. All of it is for terminals; in a pipe there are no colours, no progress,
// and tables have no cut columns.
namespace workmill::app {

// True where the stream is a terminal that understands more than plain text.
bool is_terminal(std::FILE* stream);
// The same, unless the user has set NO_COLOR (https://no-color.org).
bool wants_colour(std::FILE* stream);
// Columns of the terminal behind the stream; 0 where there is none.
std::size_t terminal_width(std::FILE* stream);

enum class Colour : std::uint8_t { plain, bold, dim, red, green, yellow, blue };
// `text` in that colour, or as it is where `enabled` is false.
std::string coloured(std::string_view text, Colour colour, bool enabled);

// The number of columns that a UTF-8 text takes, a column each character.
std::size_t columns_of(std::string_view text);
// At most `columns` of it, the last one a "…" where something was cut. Line breaks, tabs and other control characters
// become spaces: what comes from a job may not command a terminal.
std::string cut_to(std::string_view text, std::size_t columns);
// The same without cutting.
std::string one_line(std::string_view text);

// 12345 as "12,345".
std::string with_commas(std::uint64_t number);
// "1 job", "2,000 jobs".
std::string counted(std::uint64_t number, std::string_view what);
// How long ago, in the two units that matter: "3d 4h", "12s", "now".
std::string age(Instant then, Instant now);

// Columns that line up.
class TextTable {
 public:
  enum class Align : std::uint8_t { left, right };
  struct Cell {
    std::string text;
    Colour colour = Colour::plain;
  };

  TextTable& column(std::string title, Align align = Align::left);
  void row(std::vector<Cell> cells);  // One for each column.
  bool empty() const { return rows_.empty(); }

  // Lines ended by '\n', without spaces at their ends. The last column is cut so that a line fits into `width`; 0: no
  // limit.
  std::string render(bool colours, std::size_t width) const;

 private:
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// One line of progress: `done` of `total` (unknown: nothing) after `elapsed`.
std::string progress_line(std::string_view what, std::uint64_t done, std::optional<std::uint64_t> total,
                          Duration elapsed, std::size_t width);

// A line at the bottom of standard error that is written over and over. Where that is no terminal it does nothing.
class ProgressLine {
 public:
  ProgressLine() : enabled_(is_terminal(stderr)) {}
  ~ProgressLine() { clear(); }
  ProgressLine(ProgressLine const&) = delete;
  ProgressLine& operator=(ProgressLine const&) = delete;

  bool enabled() const { return enabled_; }
  // At most ten times a second, by the caller's clock.
  bool is_due(Instant now) const { return enabled_ && now >= next_; }
  void show(std::string_view line, Instant now);
  // Takes the line away, so that something else can be written.
  void clear();

 private:
  bool enabled_;
  bool shown_ = false;
  Instant next_{};
};

}  // namespace workmill::app
