#include "app/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::string_view kCut = "…";
constexpr std::string_view kGap = "  ";
constexpr Duration kScreenEvery{100};

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

std::string_view code_of(Colour colour) {
  switch (colour) {
    case Colour::plain: return "";
    case Colour::bold: return "\x1b[1m";
    case Colour::dim: return "\x1b[2m";
    case Colour::red: return "\x1b[31m";
    case Colour::green: return "\x1b[32m";
    case Colour::yellow: return "\x1b[33m";
    case Colour::blue: return "\x1b[34m";
  }
  return "";
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  if (isatty(fileno(stream)) == 0) return false;
  char const* const term = std::getenv("TERM");
  return term != nullptr && std::string_view{term} != "dumb";
}

bool wants_colour(std::FILE* stream) {
  char const* const no_color = std::getenv("NO_COLOR");
  return is_terminal(stream) && (no_color == nullptr || *no_color == '\0');
}

std::size_t terminal_width(std::FILE* stream) {
  winsize size{};
  if (isatty(fileno(stream)) == 0 || ioctl(fileno(stream), TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

std::string coloured(std::string_view text, Colour colour, bool enabled) {
  if (!enabled || colour == Colour::plain) return std::string{text};
  return fmt::format("{}{}\x1b[0m", code_of(colour), text);
}

std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); }));
}

std::string one_line(std::string_view text) {
  std::string line{text};
  for (char& c : line) {
    if (is_control(c)) c = ' ';
  }
  return line;
}

std::string cut_to(std::string_view text, std::size_t columns) {
  auto line = one_line(text);
  if (columns_of(line) <= columns) return line;
  if (columns == 0) return {};
  std::size_t end = 0;
  for (std::size_t kept = 0; end < line.size(); ++end) {
    if (continues_character(line[end])) continue;
    if (kept == columns - 1) break;
    ++kept;
  }
  line.resize(end);
  return line.append(kCut);
}

std::string with_commas(std::uint64_t number) {
  auto text = std::to_string(number);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return text;
}

std::string counted(std::uint64_t number, std::string_view what) {
  return fmt::format("{} {}{}", with_commas(number), what, number == 1 ? "" : "s");
}

std::string age(Instant then, Instant now) {
  auto left = std::chrono::duration_cast<std::chrono::seconds>(now - then).count();
  if (left <= 0) return "now";
  constexpr std::pair<std::int64_t, char> kUnits[] = {{86'400, 'd'}, {3'600, 'h'}, {60, 'm'}, {1, 's'}};
  std::string text;
  int units = 0;
  for (auto const& [seconds, name] : kUnits) {
    if (left >= seconds) {
      if (units > 0) text.push_back(' ');
      text.append(fmt::format("{}{}", left / seconds, name));
      left %= seconds;
      ++units;
    } else if (units > 0) {
      break;  // "2d 5s" would be more than anybody wants to know.
    }
    if (units == 2) break;
  }
  return text;
}

TextTable& TextTable::column(std::string title, Align align) {
  columns_.push_back({std::move(title), align});
  return *this;
}

void TextTable::row(std::vector<Cell> cells) {
  WM_ASSERT(cells.size() == columns_.size());
  for (auto& cell : cells) cell.text = one_line(cell.text);
  rows_.push_back(std::move(cells));
}

std::string TextTable::render(bool colours, std::size_t width) const {
  std::vector<std::size_t> widths;
  widths.reserve(columns_.size());
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    auto widest = columns_of(columns_[i].title);
    for (auto const& row : rows_) widest = std::max(widest, columns_of(row[i].text));
    widths.push_back(widest);
  }
  std::size_t before_last = 0;
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) before_last += widths[i] + kGap.size();

  std::string out;
  auto const add_line = [&](auto const& cell_at) {
    std::string line;
    std::size_t gap = 0;  // Spaces owed before the next cell: those at the end of a line are never paid.
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      Cell cell = cell_at(i);
      bool const last = i + 1 == columns_.size();
      if (last && width > before_last && width > 0) cell.text = cut_to(cell.text, width - before_last);
      auto const space = widths[i] - std::min(widths[i], columns_of(cell.text));
      if (columns_[i].align == Align::right) gap += space;
      if (!cell.text.empty()) {
        line.append(gap, ' ').append(coloured(cell.text, cell.colour, colours));
        gap = 0;
      }
      if (columns_[i].align == Align::left) gap += space;
      gap += kGap.size();
    }
    out.append(line).push_back('\n');
  };
  add_line([this](std::size_t i) { return Cell{columns_[i].title, Colour::bold}; });
  for (auto const& row : rows_) add_line([&row](std::size_t i) { return row[i]; });
  return out;
}

std::string progress_line(std::string_view what, std::uint64_t done, std::optional<std::uint64_t> total,
                          Duration elapsed, std::size_t width) {
  constexpr std::size_t kBar = 30;
  auto const elapsed_s = std::max(static_cast<double>(elapsed.count()) / 1'000.0, 0.001);
  auto const rate = static_cast<std::uint64_t>(static_cast<double>(done) / elapsed_s);
  std::string line{what};
  if (total && *total > 0) {
    auto const share = std::min(static_cast<double>(done) / static_cast<double>(*total), 1.0);
    auto const full = static_cast<std::size_t>(share * static_cast<double>(kBar));
    line.append(fmt::format(" [{}{}] {:3.0f} %", std::string(full, '#'), std::string(kBar - full, ' '), share * 100));
  }
  line.append(fmt::format("  {}", with_commas(done)));
  if (total) line.append(fmt::format(" of {}", with_commas(*total)));
  line.append(fmt::format("  {}/s", with_commas(rate)));
  if (total && rate > 0 && done < *total)
    line.append(fmt::format("  {} left", format_duration(std::chrono::seconds{(*total - done) / rate + 1})));
  return width > 1 ? cut_to(line, width - 1) : line;
}

void ProgressLine::show(std::string_view line, Instant now) {
  if (!enabled_) return;
  fmt::print(stderr, "\r\x1b[2K{}", line);
  std::fflush(stderr);
  shown_ = true;
  next_ = now + kScreenEvery;
}

void ProgressLine::clear() {
  if (!shown_) return;
  fmt::print(stderr, "\r\x1b[2K");
  std::fflush(stderr);
  shown_ = false;
}

}  // namespace workmill::app
