#include "traces.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <queue>
#include <utility>

#include "base/rng.h"

namespace workmill::bench {
namespace {

double unit(Rng& rng) { return (static_cast<double>(rng.next() >> 11) + 0.5) * 0x1p-53; }

// Independent draws, where the i-th most popular of n keys comes in proportion to 1 / i^alpha. Breslau, Cao, Fan,
// Phillips, Shenker, "Web caching and Zipf-like distributions: evidence and implications", INFOCOM 1999, who measured
// alphas of 0.64 to 0.83 in web proxies; YCSB takes 0.99 (Cooper et al., SoCC 2010).
class Zipf {
 public:
  Zipf(std::uint32_t n, double alpha) {
    double sum = 0;
    for (std::uint32_t i = 1; i <= n; ++i) sums_.push_back(sum += std::pow(i, -alpha));
  }
  std::uint32_t draw(Rng& rng) const {
    auto const at = std::ranges::lower_bound(sums_, unit(rng) * sums_.back());
    return static_cast<std::uint32_t>(std::min<std::ptrdiff_t>(at - sums_.begin(), std::ssize(sums_) - 1));
  }

 private:
  std::vector<double> sums_;
};

Trace finish(Trace trace) {
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t& key : trace.keys) {
    if (key >= numbers.size()) numbers.resize(key + std::size_t{1}, 0);
    if (numbers[key] == 0) numbers[key] = ++trace.distinct;
    key = numbers[key] - 1;
  }
  return trace;
}

Trace zipf(std::uint32_t requests, double alpha, std::string name, Rng rng) {
  Trace trace{.name = std::move(name), .kind = "zipf"};
  Zipf const popular{100'000, alpha};
  for (std::uint32_t i = 0; i < requests; ++i) trace.keys.push_back(popular.draw(rng));
  return finish(std::move(trace));
}

// Popular keys, and every now and then somebody who reads a long row of keys once, one after another: what LRU-K
// (O'Neil, O'Neil, Weikum, SIGMOD 1993, example 1.2) and ARC (Megiddo, Modha, FAST 2003) are made to bear. A third of
// the requests are of scans, each of 10,000 keys that never come again, or of one table that is read again and again.
Trace scans(std::uint32_t requests, bool again, std::string name, Rng rng) {
  Trace trace{.name = std::move(name), .kind = "scan"};
  constexpr std::uint32_t kPopular = 50'000;
  constexpr std::uint32_t kScan = 10'000;
  Zipf const popular{kPopular, 0.9};
  std::uint32_t next = kPopular;
  while (trace.keys.size() < requests) {
    for (std::uint32_t i = 0; i < 2 * kScan; ++i) trace.keys.push_back(popular.draw(rng));
    if (again) next = kPopular;
    // The scanner shares the time with the others, who go on.
    for (std::uint32_t i = 0; i < kScan; ++i) {
      trace.keys.push_back(next++);
      if (i % 4 == 0) trace.keys.push_back(popular.draw(rng));
    }
  }
  trace.keys.resize(requests);
  return finish(std::move(trace));
}

// The same keys round and round, more than fit: Smaragdakis, Kaplan, Wilson, "EELRU: simple and effective adaptive page
// replacement", SIGMETRICS 1999, and LIRS (Jiang, Zhang, SIGMETRICS 2002). Alone, and with popular keys beside it.
Trace loop(std::uint32_t requests, std::uint32_t others_permille, std::string name, Rng rng) {
  Trace trace{.name = std::move(name), .kind = "loop"};
  constexpr std::uint32_t kLoop = 20'000;
  Zipf const popular{20'000, 0.9};
  for (std::uint32_t at = 0; trace.keys.size() < requests;) {
    trace.keys.push_back(rng.chance(others_permille) ? kLoop + popular.draw(rng) : at++ % kLoop);
  }
  return finish(std::move(trace));
}

// Keys that are born, asked for often for a while, and never again: the shot noise model of Traverso, Ahmed, Garetto,
// Giaccone, Leonardi, Niccolini, "Temporal locality in today's content caching: why it matters and how to model it",
// ACM CCR 43(5), 2013. Births are a Poisson process; how often a key is asked for is Pareto (exponent `tail`, mean
// about `mean`), and when, exponential from its birth on with a mean of `life` requests of the whole trace.
Trace bursts(std::uint32_t requests, double mean, double tail, double life, std::string name, Rng rng) {
  Trace trace{.name = std::move(name), .kind = "bursty"};
  std::vector<std::pair<double, std::uint32_t>> calls;
  double const span = requests + 4 * life;  // What was born before the trace begins is in it too.
  std::uint32_t key = 0;
  for (double born = 0; born < span; born += -std::log(unit(rng)) * mean) {
    double const volume = mean * (tail - 1) / tail * std::pow(unit(rng), -1 / tail);
    auto const count = static_cast<std::uint32_t>(std::min(volume + unit(rng), 100'000.0));
    for (std::uint32_t i = 0; i < count; ++i) calls.emplace_back(born - std::log(unit(rng)) * life, key);
    ++key;
  }
  std::ranges::sort(calls);
  auto const first = std::ranges::lower_bound(calls, std::pair{4 * life, std::uint32_t{0}}) - calls.begin();
  for (auto i = static_cast<std::size_t>(first); i < calls.size() && trace.keys.size() < requests; ++i) {
    trace.keys.push_back(calls[i].second);
  }
  return finish(std::move(trace));
}

}  // namespace

std::vector<Trace> make_traces(std::uint32_t requests, std::uint64_t seed) {
  Rng rng{seed};
  std::vector<Trace> traces;
  traces.push_back(zipf(requests, 0.7, "Zipf 0.7", rng.fork()));
  traces.push_back(zipf(requests, 0.9, "Zipf 0.9", rng.fork()));
  traces.push_back(zipf(requests, 1.1, "Zipf 1.1", rng.fork()));
  traces.push_back(scans(requests, false, "scans once", rng.fork()));
  traces.push_back(scans(requests, true, "scans again", rng.fork()));
  traces.push_back(loop(requests, 0, "loop", rng.fork()));
  traces.push_back(loop(requests, 500, "loop and Zipf", rng.fork()));
  traces.push_back(bursts(requests, 5, 2.0, 20'000, "bursts, short", rng.fork()));
  traces.push_back(bursts(requests, 10, 1.5, 200'000, "bursts, long", rng.fork()));
  return traces;
}

}  // namespace workmill::bench
