#pragma once
#include <cstdint>
#include <string>
#include <vector>

// Streams of keys to measure eviction by, made here from a seed, each of a kind that others have published and argued
// about. Keys are numbers without gaps.
namespace workmill::bench {

struct Trace {
  std::string name;
  std::string kind;  // zipf, scan, loop or bursty
  std::vector<std::uint32_t> keys{};
  std::uint32_t distinct = 0;
};

// `requests`: how long each is.
std::vector<Trace> make_traces(std::uint32_t requests, std::uint64_t seed);

}  // namespace workmill::bench
