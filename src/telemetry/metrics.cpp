#include "telemetry/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <numeric>
#include <span>

#include "base/assert.h"

namespace workmill::telemetry {
namespace {

constexpr std::string_view kTotal = "_total";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_identifier(std::string_view name) {
  return !name.empty() && is_letter(name.front()) &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

void append_escaped(std::string& out, std::string_view text, std::string_view special) {
  for (char const c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (special.contains(c)) out += '\\';
    out += c;
  }
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);  // The shortest text that reads back as the same number.
}

// OpenMetrics wants one spelling of a bound, "1.0"; the older text is usually seen with "1".
std::string bound_text(double bound, MetricsFormat format) {
  std::string text = number_text(bound);
  if (format == MetricsFormat::openmetrics && text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlank = " \t";
  std::size_t const first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// OpenMetrics says the unit once more, where the name ends in one.
std::string_view unit_of(std::string_view family) {
  for (std::string_view const unit : {"seconds", "bytes", "ratio"}) {
    if (family.ends_with(unit) && family.size() > unit.size() && family[family.size() - unit.size() - 1] == '_') {
      return unit;
    }
  }
  return {};
}

// Takes the piece before the next `separator` off the front.
std::string_view take_piece(std::string_view& text, char separator) {
  std::size_t const end = std::min(text.find(separator), text.size());
  std::string_view const piece = without_blanks(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return piece;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return lower(x) == lower(y);
  });
}

}  // namespace

Buckets latency_buckets() {
  Buckets buckets{.bounds = {}, .unit = 1e-9};
  for (std::uint64_t decade = 10'000; decade < 100'000'000'000; decade *= 10) {
    for (std::uint64_t const step : {1u, 2u, 5u}) buckets.bounds.push_back(decade * step);
  }
  buckets.bounds.push_back(100'000'000'000);
  return buckets;
}

Buckets count_buckets() {
  Buckets buckets;
  for (std::uint64_t bound = 1; bound <= 65'536; bound *= 2) buckets.bounds.push_back(bound);
  return buckets;
}

Buckets byte_buckets() {
  Buckets buckets;
  for (std::uint64_t bound = 64; bound <= 64 * 1024 * 1024; bound *= 4) buckets.bounds.push_back(bound);
  return buckets;
}

std::uint64_t HistogramSnapshot::count() const {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::uint64_t HistogramSnapshot::quantile(std::uint32_t permille) const {
  double const rank = static_cast<double>(count()) * std::min(permille, 1'000u) / 1'000;
  double below = 0;
  for (std::size_t i = 0; i < buckets.bounds.size(); ++i) {
    auto const here = static_cast<double>(counts[i]);
    if (here > 0 && below + here >= rank) {
      auto const low = static_cast<double>(i == 0 ? 0 : buckets.bounds[i - 1]);
      auto const high = static_cast<double>(buckets.bounds[i]);
      return static_cast<std::uint64_t>(low + (high - low) * (rank - below) / here);
    }
    below += here;
  }
  return count() == 0 ? 0 : buckets.bounds.back();
}

Histogram::Histogram(Buckets buckets) : buckets_(std::move(buckets)), counts_(buckets_.bounds.size() + 1) {
  WM_ASSERT(!buckets_.bounds.empty() && buckets_.bounds.size() <= 64);
  WM_ASSERT(std::ranges::is_sorted(buckets_.bounds));
  for (std::size_t width = 0; width < first_of_width_.size(); ++width) {
    std::uint64_t const smallest = width == 0 ? 0 : std::uint64_t{1} << (width - 1);
    auto const first = std::ranges::lower_bound(buckets_.bounds, smallest);
    first_of_width_[width] = static_cast<std::uint8_t>(first - buckets_.bounds.begin());
  }
}

HistogramSnapshot Histogram::snapshot() const {
  HistogramSnapshot snapshot{.buckets = buckets_, .counts = {}, .sum = sum_.load(std::memory_order_relaxed)};
  snapshot.counts.reserve(counts_.size());
  for (auto const& count : counts_) snapshot.counts.push_back(count.load(std::memory_order_relaxed));
  return snapshot;
}

std::string_view content_type(MetricsFormat format) {
  switch (format) {
    case MetricsFormat::prometheus_text: return "text/plain; version=0.0.4; charset=utf-8";
    case MetricsFormat::openmetrics: return "application/openmetrics-text; version=1.0.0; charset=utf-8";
  }
  return "text/plain";
}

MetricsFormat choose_format(std::string_view accept) {
  double openmetrics = 0;
  double text = 0;
  while (!accept.empty()) {
    std::string_view range = take_piece(accept, ',');
    std::string_view const type = take_piece(range, ';');
    double quality = 1;
    bool is_our_version = true;
    while (!range.empty()) {
      std::string_view value = take_piece(range, ';');
      std::string_view const name = take_piece(value, '=');
      if (equal_ignoring_case(name, "version")) is_our_version = value == "1.0.0";
      if (!equal_ignoring_case(name, "q")) continue;
      auto const read = std::from_chars(value.data(), value.data() + value.size(), quality);
      if (read.ec != std::errc{}) quality = 0;
    }
    if (equal_ignoring_case(type, "application/openmetrics-text") && is_our_version) {
      openmetrics = std::max(openmetrics, quality);
    }
    if (equal_ignoring_case(type, "text/plain")) text = std::max(text, quality);
  }
  return openmetrics > 0 && openmetrics >= text ? MetricsFormat::openmetrics : MetricsFormat::prometheus_text;
}

std::string MetricsWriter::label_text(Labels labels) {
  std::string text;
  for (Label const& label : labels) {
    WM_ASSERT(is_identifier(label.name) && !label.name.starts_with("__") && label.name != "le");
    if (!text.empty()) text += ',';
    text.append(label.name).append("=\"");
    append_escaped(text, label.value, "\\\"");
    text += '"';
  }
  return text;
}

std::string& MetricsWriter::samples_of(std::string_view name, std::string_view help, Type type) {
  auto found = families_.find(name);
  if (found == families_.end()) {
    WM_ASSERT(is_identifier(name));
    WM_ASSERT(name.ends_with(kTotal) == (type == Type::counter));
    found = families_.emplace(name, Family{.type = type, .help = std::string{help}, .samples = {}}).first;
  }
  WM_ASSERT(found->second.type == type);
  return found->second.samples;
}

void MetricsWriter::sample(std::string& out, std::string_view name, std::string_view labels, double value) {
  out.append(name);
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out.append(" ").append(number_text(value)).append("\n");
}

void MetricsWriter::write(std::string_view name, std::string_view help, Type type, std::string_view labels,
                          double value) {
  sample(samples_of(name, help, type), name, labels, value);
}

void MetricsWriter::write(std::string_view name, std::string_view help, std::string_view labels,
                          HistogramSnapshot const& snapshot) {
  std::string& out = samples_of(name, help, Type::histogram);
  std::string const bucket = fmt::format("{}_bucket", name);
  std::string_view const comma = labels.empty() ? "" : ",";
  std::uint64_t sum_of_counts = 0;  // Buckets are summed up here, so that the last one and the count always agree.
  for (std::size_t i = 0; i < snapshot.buckets.bounds.size(); ++i) {
    sum_of_counts += snapshot.counts[i];
    // Divided by a whole number where it can be: 5 / 100 is 0.05, and 5 * 0.01 need not be.
    auto const bound = static_cast<double>(snapshot.buckets.bounds[i]);
    double const scaled =
        snapshot.buckets.unit < 1 ? bound / std::round(1 / snapshot.buckets.unit) : bound * snapshot.buckets.unit;
    sample(out, bucket, fmt::format("{}{}le=\"{}\"", labels, comma, bound_text(scaled, format_)),
           static_cast<double>(sum_of_counts));
  }
  sum_of_counts += snapshot.counts.back();
  auto const total = static_cast<double>(sum_of_counts);
  sample(out, bucket, fmt::format("{}{}le=\"+Inf\"", labels, comma), total);
  sample(out, fmt::format("{}_sum", name), labels, static_cast<double>(snapshot.sum) * snapshot.buckets.unit);
  sample(out, fmt::format("{}_count", name), labels, total);
}

void MetricsWriter::counter(std::string_view name, std::string_view help, Labels labels, double value) {
  write(name, help, Type::counter, label_text(labels), value);
}
void MetricsWriter::gauge(std::string_view name, std::string_view help, Labels labels, double value) {
  write(name, help, Type::gauge, label_text(labels), value);
}
void MetricsWriter::histogram(std::string_view name, std::string_view help, Labels labels,
                              HistogramSnapshot const& snapshot) {
  write(name, help, label_text(labels), snapshot);
}

std::string MetricsWriter::finish() const {
  bool const is_openmetrics = format_ == MetricsFormat::openmetrics;
  std::string out;
  for (auto const& [name, family] : families_) {
    std::string_view shown = name;
    if (is_openmetrics && family.type == Type::counter) shown.remove_suffix(kTotal.size());
    out.append("# HELP ").append(shown).append(" ");
    append_escaped(out, family.help, is_openmetrics ? "\\\"" : "\\");
    out.append("\n# TYPE ").append(shown);
    switch (family.type) {
      case Type::counter: out.append(" counter\n"); break;
      case Type::gauge: out.append(" gauge\n"); break;
      case Type::histogram: out.append(" histogram\n"); break;
    }
    if (std::string_view const unit = unit_of(shown); is_openmetrics && !unit.empty()) {
      out.append("# UNIT ").append(shown).append(" ").append(unit).append("\n");
    }
    out.append(family.samples);
  }
  if (is_openmetrics) out.append("# EOF\n");
  return out;
}

template <class T, class... Arguments>
T& Metrics::ensure(std::string_view name, std::string_view help, Labels labels, Arguments&&... arguments) {
  WM_ASSERT(is_identifier(name));
  Key key{name, MetricsWriter::label_text(labels)};
  Lock const lock{mutex_};
  auto found = series_.find(key);
  if (found == series_.end()) {
    Series series{.help = std::string{help}, .instrument = std::make_unique<T>(std::forward<Arguments>(arguments)...)};
    found = series_.emplace(std::move(key), std::move(series)).first;
  }
  auto* const instrument = std::get_if<std::unique_ptr<T>>(&found->second.instrument);
  WM_ASSERT(instrument != nullptr);  // One name, two types.
  return **instrument;
}

Counter& Metrics::counter(std::string_view name, std::string_view help, Labels labels) {
  WM_ASSERT(name.ends_with(kTotal));
  return ensure<Counter>(name, help, labels);
}
Gauge& Metrics::gauge(std::string_view name, std::string_view help, Labels labels) {
  return ensure<Gauge>(name, help, labels);
}
Histogram& Metrics::histogram(std::string_view name, std::string_view help, Buckets buckets, Labels labels) {
  return ensure<Histogram>(name, help, labels, std::move(buckets));
}

void Metrics::add_collector(std::move_only_function<void(MetricsWriter&)> collector) {
  Lock const lock{collectors_mutex_};
  collectors_.push_back(std::move(collector));
}

std::string Metrics::render(MetricsFormat format, std::function<void(MetricsWriter&)> const& more) {
  MetricsWriter writer{format};
  {
    Lock const lock{mutex_};
    for (auto const& [key, series] : series_) {
      auto const& [name, labels] = key;
      if (auto const* counter = std::get_if<std::unique_ptr<Counter>>(&series.instrument)) {
        auto const value = static_cast<double>((*counter)->value());
        writer.write(name, series.help, MetricsWriter::Type::counter, labels, value);
      } else if (auto const* gauge = std::get_if<std::unique_ptr<Gauge>>(&series.instrument)) {
        writer.write(name, series.help, MetricsWriter::Type::gauge, labels, (*gauge)->value());
      } else if (auto const* histogram = std::get_if<std::unique_ptr<Histogram>>(&series.instrument)) {
        writer.write(name, series.help, labels, (*histogram)->snapshot());
      }
    }
  }
  {
    Lock const lock{collectors_mutex_};
    for (auto& collector : collectors_) collector(writer);
  }
  if (more) more(writer);
  return writer.finish();
}

}  // namespace workmill::telemetry
