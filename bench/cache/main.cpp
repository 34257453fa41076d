#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "cache/cache.h"
#include "cache/entry.h"
#include "model/cache_memory.h"
#include "own_policy.h"
#include "policies.h"
#include "traces.h"

// What bench/cache_policies and bench/run call.
//
//   wm_bench_cache ratios [REQUESTS] [SEED]    hit ratios of each policy and of the cache itself over each trace
//   wm_bench_cache throughput [REQUESTS] [SEED] [ROUNDS] [PERCENT]
//                                              what a request costs each policy, of its thread's CPU, where so much of
//                                              the keys fits; the policies take turns, and a ratio is of one round
//   wm_bench_cache memory [ENTRIES] [BODY] [EXACT]
//                                              what an entry takes beyond its key and value, by resident memory; EXACT:
//                                              all bodies are of BODY bytes
//   wm_bench_cache drift [PUTS] [MIB] [FROM] [TO] [SPREAD]
//                                              resident memory beside the budget while values come that are ever
//                                              larger, or smaller: from FROM bytes to TO, SPREAD per cent less or more
//
// Each prints JSON.
namespace workmill::bench {
namespace {

constexpr Instant kNow = instant_from_ms(1'700'000'000'000);
constexpr CacheTimes kTimes{
    .stored_at = kNow, .fresh_until = kNow + std::chrono::hours{1}, .stale_until = kNow + std::chrono::hours{2}};

// The cache itself, with room for so many values of 100 bytes. They are volatile, so that who is evicted is gone.
class Shipped final : public Simulated {
 public:
  explicit Shipped(std::size_t capacity)
      : cache_(
            {.memory_bytes = capacity * (cache::kEntryBytes + cache::allocated_bytes(kBlockBytes)), .hash_seed = 1}) {}
  bool request(std::uint32_t number) override {
    char key[10];
    std::snprintf(key, sizeof key, "k%08x", number);
    if (cache_.find(key, kNow).value) return true;
    cache_.put(key, CacheValue::make(key, "text/plain", body_), kTimes, {}, {});
    return false;
  }

 private:
  static constexpr std::size_t kBlockBytes = 10 + 9 + 100;
  std::string const body_ = std::string(100, 'b');
  cache::Cache cache_;
};

int ratios(std::uint32_t requests, std::uint64_t seed) {
  std::vector<Contender> all = contenders();
  all.push_back({"Workmill", [](Trace const&, std::size_t n) { return std::make_unique<Shipped>(n); }});
  char const* between = "[";
  for (Trace const& trace : make_traces(requests, seed)) {
    for (double const part : {0.003, 0.01, 0.03, 0.1, 0.3, 0.6}) {
      auto const capacity = static_cast<std::size_t>(std::max(10.0, trace.distinct * part));
      for (Contender const& contender : all) {
        auto const policy = contender.make(trace, capacity);
        std::size_t hits = 0;
        auto const start = std::chrono::steady_clock::now();
        for (std::uint32_t const key : trace.keys) hits += policy->request(key) ? 1U : 0U;
        std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - start;
        std::printf(
            R"(%s{"trace":"%s","kind":"%s","distinct":%u,"part":%g,"capacity":%zu,"policy":"%s","hits":%.5f,"ns":%.1f})",
            between, trace.name.c_str(), trace.kind.c_str(), trace.distinct, part, capacity, contender.name.c_str(),
            static_cast<double>(hits) / static_cast<double>(trace.keys.size()),
            took.count() / static_cast<double>(trace.keys.size()));
        between = ",\n";
      }
    }
    std::fflush(stdout);
  }
  std::puts("]");
  return 0;
}

// Of this thread, in nanoseconds: what others take of the machine meanwhile does not count.
double cpu_now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int throughput(std::uint32_t requests, std::uint64_t seed, std::size_t rounds, double percent) {
  std::vector<Contender> all = contenders();
  std::erase_if(all, [](Contender const& one) { return one.name == "optimum"; });
  all.push_back({"Workmill", own_policy});
  all.push_back({"the whole cache", [](Trace const&, std::size_t n) { return std::make_unique<Shipped>(n); }});
  char const* between = "[";
  bool are_same = true;
  for (Trace const& trace : make_traces(requests, seed)) {
    auto const capacity = static_cast<std::size_t>(std::max(10.0, trace.distinct * percent / 100));
    std::vector<std::vector<double>> ns(all.size());
    std::vector<std::size_t> hits(all.size());
    for (std::size_t round = 0; round < rounds; ++round) {
      for (std::size_t turn = 0; turn < all.size(); ++turn) {
        std::size_t const which = (turn + round) % all.size();
        auto const policy = all[which].make(trace, capacity);
        std::size_t hit = 0;
        double const start = cpu_now();
        for (std::uint32_t const key : trace.keys) hit += policy->request(key) ? 1U : 0U;
        ns[which].push_back((cpu_now() - start) / static_cast<double>(trace.keys.size()));
        hits[which] = hit;
      }
    }
    // Keys are hashed otherwise, and the table of who was sent away takes some for others.
    double const off = static_cast<double>(hits[all.size() - 2]) - static_cast<double>(hits.back());
    are_same = are_same && std::abs(off) < 0.005 * static_cast<double>(trace.keys.size());
    for (std::size_t which = 0; which < all.size(); ++which) {
      std::vector<double> ratios;  // To LRU, which is the first.
      for (std::size_t round = 0; round < rounds; ++round) ratios.push_back(ns[which][round] / ns[0][round]);
      auto const [least, most] = std::ranges::minmax(ratios);
      std::printf(R"(%s{"trace":"%s","percent":%g,"policy":"%s","hits":%.5f,"ns":%.2f,"of_lru":%.3f,)"
                  R"("of_lru_least":%.3f,"of_lru_most":%.3f})",
                  between, trace.name.c_str(), percent, all[which].name.c_str(),
                  static_cast<double>(hits[which]) / static_cast<double>(trace.keys.size()), median(ns[which]),
                  median(ratios), least, most);
      between = ",\n";
    }
    std::fflush(stdout);
  }
  std::puts("]");
  if (!are_same) std::fputs("the policy over arrays is not the cache's\n", stderr);
  return are_same ? 0 : 1;
}

// Resident memory as the kernel has it, in bytes.
std::uint64_t resident() {
  std::uint64_t pages = 0;
  if (std::FILE* const file = std::fopen("/proc/self/statm", "r")) {
    unsigned long long total = 0;
    unsigned long long used = 0;
    if (std::fscanf(file, "%llu %llu", &total, &used) == 2) pages = used;
    std::fclose(file);
  }
  return pages * 4'096;
}

// Bodies of half to one and a half times `body` bytes, so that no size of the allocator's fits them by chance.
int memory(std::uint32_t entries, std::uint32_t body, bool exact) {
  cache::Cache cache{{.memory_bytes = std::uint64_t{1} << 40, .hash_seed = 1}};
  std::string const text(body * 2, 'b');
  Rng rng{7};
  std::uint64_t payload = 0;
  std::uint64_t const before = resident();
  for (std::uint32_t i = 0; i < entries; ++i) {
    std::string const key = "thumbnail/" + std::to_string(rng.next() % 1'000'000'000) + "/" + std::to_string(i);
    std::size_t const bytes = exact ? body : body / 2 + rng.below(body + 1);
    payload += key.size() + bytes;
    cache.put(key, CacheValue::make(key, "application/json", std::string_view{text}.substr(0, bytes)), kTimes, {}, {});
  }
  double const each = (static_cast<double>(resident() - before) - static_cast<double>(payload)) / entries;
  double const reckoned =
      (static_cast<double>(cache.figures().memory_bytes) - static_cast<double>(payload)) / static_cast<double>(entries);
  std::printf(
      R"({"entries":%u,"body":%u,"payload_bytes_each":%.1f,"overhead_bytes_each":%.1f,"reckoned_bytes_each":%.1f})"
      "\n",
      entries, body, static_cast<double>(payload) / entries, each, reckoned);
  return 0;
}

// Half of the requests are for keys that are asked for again and again, the popular ones far more often, and whose
// values stay as long as they are let: they lie between those of the others, which come and go.
int drift(std::uint64_t puts, std::uint64_t mib, double from, double to, double spread) {
  std::uint64_t const budget = mib << 20;
  std::uint64_t const before = resident();
  cache::Cache cache{{.memory_bytes = budget, .hash_seed = 1}};
  std::string const text(1 << 20, 'b');
  Rng rng{11};
  std::uint64_t const popular = budget / 4'096;
  std::uint64_t most = 0;
  std::uint64_t lost_most = 0;
  double sum = 0;
  std::uint64_t samples = 0;
  auto const start = std::chrono::steady_clock::now();
  std::uint64_t fresh = 0;
  for (std::uint64_t done = 0; done < puts;) {
    bool const again = rng.below(2) == 0;
    std::uint64_t const rank = rng.below(popular) * rng.below(popular) / popular;
    std::string const key =
        again ? "popular/thumbnail/" + std::to_string(rank) : "other/thumbnail/" + std::to_string(++fresh);
    if (again && cache.find(key, kNow).value) continue;
    double const part = static_cast<double>(done) / static_cast<double>(puts);
    double const mean = from + (to - from) * part;
    double const off = 1 + spread / 100 * (static_cast<double>(rng.below(2'001)) / 1'000 - 1);
    auto const bytes = static_cast<std::size_t>(mean * off);
    cache.put(key, CacheValue::make(key, "application/json", std::string_view{text}.substr(0, bytes)), kTimes, {}, {});
    // From when it is full on.
    if (++done % 20'000 == 0 && cache.figures().memory_bytes > budget / 100 * 98) {
      std::uint64_t const now = resident() - before;
      most = std::max(most, now);
      lost_most = std::max(lost_most, cache_value_memory().lost_bytes);
      sum += static_cast<double>(now);
      ++samples;
    }
  }
  std::chrono::duration<double, std::nano> const took = std::chrono::steady_clock::now() - start;
  std::printf(
      R"({"puts":%llu,"budget_bytes":%llu,"resident_of_budget":{"mean":%.3f,"most":%.3f,"end":%.3f},"lost_most":%.3f,"ns_each":%.0f})"
      "\n",
      static_cast<unsigned long long>(puts), static_cast<unsigned long long>(budget),
      sum / static_cast<double>(std::max<std::uint64_t>(samples, 1)) / static_cast<double>(budget),
      static_cast<double>(most) / static_cast<double>(budget),
      static_cast<double>(resident() - before) / static_cast<double>(budget),
      static_cast<double>(lost_most) / static_cast<double>(budget), took.count() / static_cast<double>(puts));
  return 0;
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace
}  // namespace workmill::bench

int main(int count, char** words) {
  using namespace workmill::bench;
  std::string_view const what = count > 1 ? words[1] : "";
  auto const word = [&](int i, std::uint64_t otherwise) { return count > i ? number(words[i]) : otherwise; };
  if (what == "ratios") return ratios(static_cast<std::uint32_t>(word(2, 1'000'000)), word(3, 7));
  if (what == "throughput") {
    return throughput(static_cast<std::uint32_t>(word(2, 1'000'000)), word(3, 7), std::max<std::size_t>(1, word(4, 9)),
                      static_cast<double>(word(5, 10)));
  }
  if (what == "memory") {
    return memory(static_cast<std::uint32_t>(word(2, 1'000'000)), static_cast<std::uint32_t>(word(3, 100)),
                  word(4, 0) != 0);
  }
  if (what == "drift") {
    return drift(word(2, 3'000'000), word(3, 256), static_cast<double>(word(4, 600)),
                 static_cast<double>(word(5, 1'500)), static_cast<double>(word(6, 30)));
  }
  std::fputs(
      "usage: wm_bench_cache ratios [REQUESTS] [SEED] | throughput [REQUESTS] [SEED] [ROUNDS] [PERCENT] | memory "
      "[ENTRIES] [BODY] [EXACT] | "
      "drift [PUTS] [MIB] [FROM] [TO] [SPREAD]\n",
      stderr);
  return 2;
}
