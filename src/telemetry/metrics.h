#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/guarded.h"

// What the server counts and measures, and the text in which Prometheus reads it.
//
// A Metrics object is made by the wiring and handed to the parts, which keep references to the instruments that they
// ask for; it outlives them. Instruments are relaxed atomics: any thread may write to one at any time, and a reader
// sees some recent state of each. Numbers that exist anyway (depths, sizes) are better written by a collector, at each
// scrape, than kept up to date on a hot path.
//
// Names start with `workmill_`, end in the unit (`_seconds`, `_bytes`), counters in `_total`. Labels have few values:
// a queue or an outcome, never a job. Bad names are bugs of ours and stop the process.
namespace workmill::telemetry {

struct Label {
  std::string_view name;
  std::string_view value;  // Any UTF-8.
};
using Labels = std::initializer_list<Label>;

// Grows only. Alone on its cache line, since counters of several threads lie side by side.
class alignas(64) Counter {
 public:
  void add(std::uint64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  // Cheaper, for a counter that one thread alone adds to.
  void add_as_owner(std::uint64_t amount = 1) { value_.store(value() + amount, std::memory_order_relaxed); }
  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Goes up and down.
class alignas(64) Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double amount) { value_.fetch_add(amount, std::memory_order_relaxed); }  // Negative to take away.
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// The shape of a histogram: upper bounds, inclusive and ascending, in whole small units, and what one such unit is in
// the unit of the metric's name. At most 64 bounds.
struct Buckets {
  std::vector<std::uint64_t> bounds;
  double unit = 1;

  bool operator==(Buckets const&) const = default;
};
Buckets latency_buckets();  // Nanoseconds shown as seconds: 10 µs to 100 s in steps of 1, 2, 5.
Buckets count_buckets();    // 1 to 65,536 in powers of two: batches.
Buckets byte_buckets();     // 64 bytes to 64 MiB in powers of four.

// A histogram at one moment. Counts are per bucket, not summed up; the last one is what lies above all bounds.
struct HistogramSnapshot {
  Buckets buckets;
  std::vector<std::uint64_t> counts;
  std::uint64_t sum = 0;  // In small units, as the bounds.

  std::uint64_t count() const;
  // The value below which `permille` of a thousand lie, in small units: a straight line inside its bucket, the last
  // bound for what lies above it, 0 where nothing was observed.
  std::uint64_t quantile(std::uint32_t permille) const;
};

class alignas(64) Histogram {
 public:
  explicit Histogram(Buckets buckets);

  void observe(std::uint64_t value) {
    counts_[bucket_of(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  // Cheaper, for a histogram that one thread alone observes to.
  void observe_as_owner(std::uint64_t value) {
    auto& count = counts_[bucket_of(value)];
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }
  // As often as `times` says: what several have in common is observed once for all.
  void observe(std::uint64_t value, std::uint64_t times) {
    counts_[bucket_of(value)].fetch_add(times, std::memory_order_relaxed);
    sum_.fetch_add(value * times, std::memory_order_relaxed);
  }
  void observe_as_owner(std::uint64_t value, std::uint64_t times) {
    auto& count = counts_[bucket_of(value)];
    count.store(count.load(std::memory_order_relaxed) + times, std::memory_order_relaxed);
    sum_.store(sum_.load(std::memory_order_relaxed) + value * times, std::memory_order_relaxed);
  }
  // For latency_buckets(). What is below zero, as a clock may answer that was set back, counts as zero.
  void observe(std::chrono::nanoseconds value) { observe(clamped(value)); }
  void observe_as_owner(std::chrono::nanoseconds value) { observe_as_owner(clamped(value)); }
  void observe(std::chrono::nanoseconds value, std::uint64_t times) { observe(clamped(value), times); }
  void observe_as_owner(std::chrono::nanoseconds value, std::uint64_t times) {
    observe_as_owner(clamped(value), times);
  }

  HistogramSnapshot snapshot() const;

 private:
  static std::uint64_t clamped(std::chrono::nanoseconds value) {
    return value.count() > 0 ? static_cast<std::uint64_t>(value.count()) : 0;
  }
  // The highest bit leads to the first bucket that can be the one; from there it is a step or two.
  std::size_t bucket_of(std::uint64_t value) const {
    std::size_t at = first_of_width_[static_cast<std::size_t>(std::bit_width(value))];
    while (at < buckets_.bounds.size() && value > buckets_.bounds[at]) ++at;
    return at;
  }

  Buckets const buckets_;
  std::array<std::uint8_t, 65> first_of_width_{};
  std::vector<std::atomic<std::uint64_t>> counts_;
  std::atomic<std::uint64_t> sum_{0};
};

enum class MetricsFormat : std::uint8_t { prometheus_text, openmetrics };  // 0.0.4 and 1.0.0.

// The Content-Type header.
std::string_view content_type(MetricsFormat format);
// What the client prefers by its Accept header; prometheus_text where that says nothing useful.
MetricsFormat choose_format(std::string_view accept);

// Of `workmill_bound_used{bound}` and `workmill_bound_limit{bound}`, which several parts write.
inline constexpr std::string_view kBoundUsedHelp = "How full what is bounded is; in bytes where the bound says so.";
inline constexpr std::string_view kBoundLimitHelp = "The bounds.";

// Puts samples into text. Families come out sorted by name and whole, whoever writes to them in whatever order; one
// name is always of one type. Used by one thread.
class MetricsWriter {
 public:
  explicit MetricsWriter(MetricsFormat format) : format_(format) {}

  // `name` ends in "_total".
  void counter(std::string_view name, std::string_view help, Labels labels, double value);
  void gauge(std::string_view name, std::string_view help, Labels labels, double value);
  void histogram(std::string_view name, std::string_view help, Labels labels, HistogramSnapshot const& snapshot);

  std::string finish() const;

 private:
  friend class Metrics;
  enum class Type : std::uint8_t { counter, gauge, histogram };
  struct Family {
    Type type;
    std::string help;
    std::string samples;
  };

  static std::string label_text(Labels labels);  // `a="1",b="2"`, escaped.
  std::string& samples_of(std::string_view name, std::string_view help, Type type);
  void sample(std::string& out, std::string_view name, std::string_view labels, double value);
  void write(std::string_view name, std::string_view help, Type type, std::string_view labels, double value);
  void write(std::string_view name, std::string_view help, std::string_view labels, HistogramSnapshot const& snapshot);

  MetricsFormat format_;
  std::map<std::string, Family, std::less<>> families_;
};

// The registry. Any thread may call it. What it answers lives as long as the registry.
class Metrics {
 public:
  Metrics() = default;
  Metrics(Metrics const&) = delete;
  Metrics& operator=(Metrics const&) = delete;

  // The instrument of this name with these labels, made on first use.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, Buckets buckets, Labels labels = {});

  // Called at every render, on the thread that renders, one at a time; it must not call this registry. What it refers
  // to must outlive the last render.
  void add_collector(std::move_only_function<void(MetricsWriter&)> collector);

  // `more`, where there is one, writes what only the caller knows, as a collector does.
  std::string render(MetricsFormat format, std::function<void(MetricsWriter&)> const& more = {});

 private:
  using Instrument = std::variant<std::unique_ptr<Counter>, std::unique_ptr<Gauge>, std::unique_ptr<Histogram>>;
  struct Series {
    std::string help;
    Instrument instrument;
  };
  using Key = std::pair<std::string, std::string>;  // Name, and labels as text.

  template <class T, class... Arguments>
  T& ensure(std::string_view name, std::string_view help, Labels labels, Arguments&&... arguments);

  Mutex mutex_;
  std::map<Key, Series> series_ WM_GUARDED_BY(mutex_);
  // A lock of its own, held while they run: making an instrument does not wait for a slow collector.
  Mutex collectors_mutex_;
  std::vector<std::move_only_function<void(MetricsWriter&)>> collectors_ WM_GUARDED_BY(collectors_mutex_);
};

}  // namespace workmill::telemetry
