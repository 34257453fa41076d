#include "app/health/dashboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "app/terminal.h"

namespace workmill::app::health {
namespace {

constexpr std::size_t kBarColumns = 12;
constexpr std::size_t kGap = 2;  // Between two blocks side by side.

struct Span {
  std::string text;
  Colour colour = Colour::plain;
};
using Line = std::vector<Span>;
using Block = std::vector<Line>;

std::size_t columns_of(Line const& line) {
  std::size_t sum = 0;
  for (Span const& span : line) sum += app::columns_of(span.text);
  return sum;
}

Span heading(std::string text) { return {std::move(text), Colour::bold}; }
Span dim(std::string text) { return {std::move(text), Colour::dim}; }

// In `columns`, to the left or to the right; what is longer is cut.
std::string left(std::string_view text, std::size_t columns) {
  std::string out = cut_to(text, columns);
  out.append(columns - std::min(columns, app::columns_of(out)), ' ');
  return out;
}
std::string right(std::string_view text, std::size_t columns) {
  std::string const out = cut_to(text, columns);
  return std::string(columns - std::min(columns, app::columns_of(out)), ' ') + out;
}

// At most six columns, whatever the number: 999, 9,999, 12.3k, 4.5M.
std::string short_number(double number) {
  if (number < 0) number = 0;
  if (number < 9.95 && number > 0) return fmt::format("{:.1f}", number);
  if (number < 9'999.5) return with_commas(static_cast<std::uint64_t>(number + 0.5));
  for (auto const& [unit, size] : {std::pair{"k", 1e3}, std::pair{"M", 1e6}, std::pair{"G", 1e9}}) {
    if (number < size * 999.5) return fmt::format("{:.{}f}{}", number / size, number < size * 99.95 ? 1 : 0, unit);
  }
  return fmt::format("{:.0f}T", std::min(number / 1e12, 9'999.0));
}
std::string short_count(std::uint64_t number) {
  return number < 10 ? std::to_string(number) : short_number(static_cast<double>(number));
}
std::string short_bytes(std::uint64_t bytes) {
  auto const number = static_cast<double>(bytes);
  for (auto const& [unit, size] : {std::pair{"GiB", 1024.0 * 1024 * 1024}, std::pair{"MiB", 1024.0 * 1024}}) {
    if (number >= size) return fmt::format("{:.1f} {}", number / size, unit);
  }
  return fmt::format("{:.0f} KiB", number / 1024);
}
std::string short_time_us(double us) {
  if (us < 1'000) return fmt::format("{:.0f} µs", us);
  if (us < 1e6) return fmt::format("{:.{}f} ms", us / 1e3, us < 1e5 ? 1 : 0);
  return fmt::format("{:.1f} s", us / 1e6);
}

Colour colour_of(double fullness) {
  if (fullness >= 0.9) return Colour::red;
  if (fullness >= 0.7) return Colour::yellow;
  return Colour::green;
}

void append_bar(double fullness, Line& line) {
  fullness = std::clamp(fullness, 0.0, 1.0);
  auto filled = static_cast<std::size_t>(fullness * kBarColumns + 0.5);
  if (filled == 0 && fullness > 0.001) filled = 1;  // A little is not nothing.
  line.push_back({std::string(filled, '#'), colour_of(fullness)});
  line.push_back(dim(std::string(kBarColumns - filled, '.')));
}

class Rates {
 public:
  explicit Rates(double seconds) : seconds_(seconds) {}
  bool known() const { return seconds_ > 0; }
  double of(std::uint64_t before, std::uint64_t after) const {
    return known() && after > before ? static_cast<double>(after - before) / seconds_ : 0;
  }
  double share(double before, double after) const {
    return known() ? std::clamp((after - before) / seconds_, 0.0, 1.0) : 0;
  }
  std::string text(std::uint64_t before, std::uint64_t after) const {
    return known() ? short_number(of(before, after)) : "-";
  }

 private:
  double seconds_;
};

// ---- The parts, top to bottom.

Block title(Snapshot const& now, View const& view) {
  bool const is_well = now.readiness == "ready";
  Line line{heading("workmill " + now.version),
            {fmt::format("  {}  up ", view.server)},
            {format_duration(std::chrono::seconds{static_cast<std::int64_t>(now.uptime_seconds)})},
            {"  "},
            {now.readiness, is_well ? Colour::green : Colour::red},
            dim("  " + format_rfc3339(now.now).substr(0, 19) + "Z")};
  return {std::move(line)};
}

void append_figure(std::string_view name, std::string value, Line& line, Colour colour = Colour::plain) {
  line.push_back(dim(fmt::format("{}{} ", line.empty() ? "" : "  ", name)));
  line.push_back({std::move(value), colour});
}

Block totals(Snapshot const& before, Snapshot const& now, Rates const& rates) {
  Line jobs;
  append_figure("ready", with_commas(now.ready), jobs);
  append_figure("scheduled", with_commas(now.scheduled), jobs);
  append_figure("leased", with_commas(now.leased), jobs, Colour::blue);
  append_figure("completed", with_commas(now.completed), jobs);
  append_figure("dead", with_commas(now.dead), jobs, now.dead > 0 ? Colour::red : Colour::plain);

  Line speed;
  append_figure("commands/s", rates.text(before.commands, now.commands), speed);
  if (before.http && now.http) {
    append_figure("requests/s", rates.text(before.http->requests, now.http->requests), speed);
    append_figure("connections/s", rates.text(before.http->connections, now.http->connections), speed);
    bool const some = now.http->refused > before.http->refused;
    append_figure("refused/s", rates.text(before.http->refused, now.http->refused), speed,
                  some ? Colour::red : Colour::plain);
  }

  Line time;
  double const flushing = rates.share(before.flush_seconds, now.flush_seconds);
  append_figure("flush", fmt::format("{:.0f} %", flushing * 100), time, flushing >= 0.5 ? Colour::red : Colour::plain);
  append_figure("of", fmt::format("{:.2f} ms", now.flush_ms_typical), time);
  append_figure("decide", fmt::format("{:.0f} %", rates.share(before.decide_seconds, now.decide_seconds) * 100), time);
  append_figure("read", fmt::format("{:.0f} %", rates.share(before.read_seconds, now.read_seconds) * 100), time);
  append_figure("log", short_bytes(now.log_bytes), time);
  append_figure("disk free", short_bytes(now.disk_free_bytes), time);
  return {std::move(jobs), std::move(speed), std::move(time)};
}

// Nothing for a cache that nobody uses.
Block cache(Snapshot const& before, Snapshot const& now, Rates const& rates) {
  if (!now.cache || (now.cache->entries == 0 && now.cache->asked == 0 && now.cache->flights == 0)) return {};
  CacheState const& is = *now.cache;
  CacheState const was = before.cache.value_or(CacheState{});
  // Of the calls between the two looks; before the second look there are none.
  auto const share = [&](std::uint64_t old, std::uint64_t part) {
    bool const some = rates.known() && is.asked > was.asked && part >= old;
    return some ? fmt::format("{:.0f} %",
                              100.0 * static_cast<double>(part - old) / static_cast<double>(is.asked - was.asked))
                : std::string{"-"};
  };
  Line line;
  append_figure("cache/s", rates.text(was.asked, is.asked), line);
  append_figure("fresh", share(was.fresh, is.fresh), line);
  append_figure("stale", share(was.stale, is.stale), line);
  append_figure("computed/s", rates.text(was.computed, is.computed), line);
  if (is.failed > was.failed) append_figure("failed/s", rates.text(was.failed, is.failed), line, Colour::red);
  append_figure("flights", short_count(is.flights), line, is.flights > 0 ? Colour::blue : Colour::plain);
  append_figure("values", short_count(is.entries), line);
  append_figure("memory", short_bytes(is.memory_bytes), line);
  return {std::move(line)};
}

Block stages(Snapshot const& before, Snapshot const& now, Rates const& rates) {
  Block block;
  auto const append = [&](std::vector<Stage> const& old, std::vector<Stage> const& all) {
    for (Stage const& stage : all) {
      auto const was = std::ranges::find(old, stage.name, &Stage::name);
      block.push_back({{left(stage.name, 17)},
                       {right(rates.text(was == old.end() ? 0 : was->count, stage.count), 6)},
                       {right(short_time_us(stage.p50_us), 8)},
                       {right(short_time_us(stage.p99_us), 8)}});
    }
  };
  append(before.stages, now.stages);
  append(before.job_stages, now.job_stages);
  if (!block.empty()) {
    block.insert(block.begin(), {heading(left("STAGE", 17) + right("/s", 6) + right("p50", 8) + right("p99", 8))});
  }
  return block;
}

Block threads(Snapshot const& now) {
  Block block;
  auto sorted = now.threads;
  std::ranges::sort(
      sorted, [](Thread const& a, Thread const& b) { return a.busy != b.busy ? a.busy > b.busy : a.name < b.name; });
  for (Thread const& thread : sorted) {
    Line line{{left(thread.name, 21)}};
    append_bar(thread.busy, line);
    line.push_back({right(fmt::format("{:.0f} %", thread.busy * 100), 6)});
    block.push_back(std::move(line));
  }
  if (!block.empty()) block.insert(block.begin(), {heading("THREAD")});
  return block;
}

Block bounds(Snapshot const& now) {
  Block block;
  auto sorted = now.bounds;
  std::ranges::sort(sorted, [](Bound const& a, Bound const& b) {
    return a.fullness() != b.fullness() ? a.fullness() > b.fullness() : a.name < b.name;
  });
  for (Bound const& bound : sorted) {
    Line line{{left(bound.name, 21)}};
    append_bar(bound.fullness(), line);
    line.push_back({right(fmt::format("{:.0f} %", bound.fullness() * 100), 6)});
    block.push_back(std::move(line));
  }
  if (!block.empty()) block.insert(block.begin(), {heading("BOUND")});
  return block;
}

std::string waits(QueueState const& queue, Instant now) {
  return queue.oldest_ready_at ? app::age(*queue.oldest_ready_at, now) : "";
}

std::string_view queue_mark(QueueState const& queue) {
  if (queue.paused) return "  paused";
  return queue.max_depth && queue.unfinished() >= *queue.max_depth ? "  full" : "";
}

Block queues(Snapshot const& before, Snapshot const& now, Rates const& rates) {
  struct Row {
    QueueState const* queue;
    double in, done, failed;
  };
  std::vector<Row> rows;
  for (QueueState const& queue : now.queues) {
    auto const old = std::ranges::find(before.queues, queue.name, &QueueState::name);
    bool const is_old = old != before.queues.end();
    rows.push_back({&queue, rates.of(is_old ? old->enqueued : 0, queue.enqueued),
                    rates.of(is_old ? old->completed : 0, queue.completed),
                    rates.of(is_old ? old->failed : 0, queue.failed)});
  }
  std::ranges::sort(rows, [](Row const& a, Row const& b) {
    double const moves_a = a.in + a.done;
    double const moves_b = b.in + b.done;
    if (moves_a != moves_b) return moves_a > moves_b;
    return a.queue->ready != b.queue->ready ? a.queue->ready > b.queue->ready : a.queue->name < b.queue->name;
  });
  Block block;
  auto const number = [&rates](double value, std::size_t columns = 8) {
    return right(rates.known() ? short_number(value) : "-", columns);
  };
  for (Row const& row : rows) {
    QueueState const& queue = *row.queue;
    block.push_back({{left(queue.name, 20)},
                     {right(short_count(queue.ready), 8)},
                     {right(short_count(queue.leased), 8), Colour::blue},
                     {number(row.in)},
                     {number(row.done), Colour::green},
                     {number(row.failed, 9), row.failed > 0 ? Colour::red : Colour::plain},
                     {right(waits(queue, now.now), 9)},
                     {std::string{queue_mark(queue)}, Colour::yellow}});
  }
  if (!block.empty()) {
    block.insert(block.begin(), {heading(left("QUEUE", 20) + right("ready", 8) + right("leased", 8) + right("in/s", 8) +
                                         right("done/s", 8) + right("failed/s", 9) + right("waiting", 9))});
  }
  return block;
}

Block types(Snapshot const& before, Snapshot const& now, Rates const& rates) {
  Block block;
  for (TypeCounts const& type : now.types) {
    auto const old = std::ranges::find(before.types, type.type, &TypeCounts::type);
    TypeCounts const nothing;
    TypeCounts const& was = old == before.types.end() ? nothing : *old;
    block.push_back(
        {{left(type.type, 20)},
         {right(short_count(type.enqueued), 8)},
         {right("", 8)},
         {right(rates.text(was.enqueued, type.enqueued), 8)},
         {right(rates.text(was.completed, type.completed), 8), Colour::green},
         {right(rates.text(was.failed, type.failed), 9), type.failed > was.failed ? Colour::red : Colour::plain}});
  }
  if (!block.empty()) {
    block.insert(block.begin(), {heading(left("TYPE", 20) + right("jobs", 8) + right("", 8) + right("in/s", 8) +
                                         right("done/s", 8) + right("failed/s", 9))});
  }
  return block;
}

// ---- Putting them together.

Block side_by_side(Block first, Block second) {
  std::size_t width = 0;
  for (Line const& line : first) width = std::max(width, columns_of(line));
  if (first.empty()) return second;
  Block both = std::move(first);
  if (both.size() < second.size()) both.resize(second.size());
  for (std::size_t i = 0; i < second.size(); ++i) {
    both[i].push_back({std::string(width + kGap - columns_of(both[i]), ' ')});
    std::ranges::move(second[i], std::back_inserter(both[i]));
  }
  return both;
}

void append(Block from, std::size_t rows_max, Block& to) {
  if (from.size() > rows_max) from.resize(rows_max);
  std::ranges::move(from, std::back_inserter(to));
}

std::string finished(Line const& line, View const& view) {
  std::size_t room = view.columns == 0 ? std::string::npos : std::max<std::size_t>(view.columns, 20);
  std::string out;
  for (Span const& span : line) {
    if (room == 0) break;
    std::string const text = app::columns_of(span.text) > room ? cut_to(span.text, room) : one_line(span.text);
    room -= app::columns_of(text);
    out += coloured(text, span.colour, view.colours && !text.empty());
  }
  if (!view.colours) out.erase(out.find_last_not_of(' ') + 1);
  return out;
}

}  // namespace

std::vector<std::string> render(Snapshot const& before, Snapshot const& now, double seconds, View const& view) {
  Rates const rates{seconds};
  std::size_t const rows = view.rows == 0 ? std::string::npos : view.rows;
  Block all = title(now, view);
  append(totals(before, now, rates), 3, all);
  append(cache(before, now, rates), 1, all);

  // A terminal of 24 rows has room for 10 of the middle and 9 of the queues and types.
  Block bars = threads(now);
  if (bars.size() > 5) bars.resize(5);
  append(bounds(now), std::string::npos, bars);
  Block middle = stages(before, now, rates);
  Block line_of_queues = queues(before, now, rates);
  Block line_of_types = types(before, now, rates);
  bool const is_wide = view.columns == 0 || view.columns >= 80;
  middle = is_wide ? side_by_side(std::move(middle), std::move(bars)) : std::move(middle);
  std::size_t const left_over = rows == std::string::npos ? rows : rows - std::min(rows, all.size());
  std::size_t const tail = line_of_queues.size() + line_of_types.size();
  std::size_t const middle_rows =
      left_over == std::string::npos ? left_over : std::max(left_over / 2, left_over - std::min(left_over, tail));
  append(std::move(middle), middle_rows, all);

  std::size_t const rest = rows == std::string::npos ? rows : rows - std::min(rows, all.size());
  std::size_t const of_types =
      rest == std::string::npos ? rest : std::max(rest / 2, rest - std::min(rest, line_of_queues.size()));
  std::size_t const types_rows = std::min(line_of_types.size(), of_types);
  append(std::move(line_of_queues), rest == std::string::npos ? rest : rest - types_rows, all);
  append(std::move(line_of_types), types_rows, all);
  if (all.size() > rows) all.resize(rows);

  std::vector<std::string> lines;
  lines.reserve(all.size());
  for (Line const& line : all) lines.push_back(finished(line, view));
  return lines;
}

}  // namespace workmill::app::health
