#include "cache/frequency.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/rng.h"

namespace workmill::cache {
namespace {

// The words of a key's block, and which of their sixteen counters are its own: one in each pair of words.
struct Spots {
  std::size_t word[4];
  std::uint32_t shift[4];
};

Spots spots_of(std::uint64_t hash, std::size_t words, std::size_t block_words) {
  std::uint64_t const mixed = mix64(hash);
  std::size_t const block = (mixed >> 32 & (words / block_words - 1)) * block_words;
  Spots spots{};
  for (std::uint32_t row = 0; row < 4; ++row) {
    auto const bits = static_cast<std::uint32_t>(mixed >> (row * 8)) & 0xff;
    spots.word[row] = block + row * 2 + (bits & 1);
    spots.shift[row] = (bits >> 1 & 15) * 4;
  }
  return spots;
}

}  // namespace

void FrequencySketch::ensure(std::size_t entries_wanted) {
  while (entries() < entries_wanted) {
    // A bit more of the hash chooses the block: each key finds its counts in both copies.
    std::size_t const half = words_.size();
    words_.resize(half * 2);
    std::copy_n(words_.begin(), half, words_.begin() + static_cast<std::ptrdiff_t>(half));
  }
}

void FrequencySketch::add(std::uint64_t hash) {
  Spots const spots = spots_of(hash, words_.size(), kBlockWords);
  bool any = false;
  for (std::uint32_t row = 0; row < 4; ++row) {
    std::uint64_t& word = words_[spots.word[row]];
    if ((word >> spots.shift[row] & 15) == 15) continue;
    word += std::uint64_t{1} << spots.shift[row];
    any = true;
  }
  if (any && ++uses_ >= entries() * kUsesPerEntry) halve();
}

std::uint32_t FrequencySketch::count(std::uint64_t hash) const {
  Spots const spots = spots_of(hash, words_.size(), kBlockWords);
  std::uint64_t least = 15;
  for (std::uint32_t row = 0; row < 4; ++row) least = std::min(least, words_[spots.word[row]] >> spots.shift[row] & 15);
  return static_cast<std::uint32_t>(least);
}

void FrequencySketch::halve() {
  for (std::uint64_t& word : words_) word = word >> 1 & 0x7777'7777'7777'7777;
  uses_ /= 2;
}

void GhostTable::ensure(std::size_t entries) {
  std::size_t const wanted = std::bit_ceil(std::max(entries / 2, kWays));
  if (ghosts_.size() >= wanted) return;
  std::vector<Ghost> const before = std::exchange(ghosts_, std::vector<Ghost>(wanted));
  // Where the old one had one set, the new one has two or more: whose a ghost is cannot be told, so all have it.
  for (std::size_t i = 0; i < before.size(); ++i) {
    for (std::size_t at = i; at < wanted; at += before.size()) ghosts_[at] = before[i];
  }
}

GhostTable::Ghost* GhostTable::set_of(std::uint64_t hash) {
  std::size_t const sets = ghosts_.size() / kWays;
  return &ghosts_[(hash & (sets - 1)) * kWays];
}

void GhostTable::add(std::uint64_t hash, std::uint16_t stamp, std::uint16_t now) {
  Ghost* const set = set_of(hash);
  auto const age = [now](Ghost const& ghost) {
    return ghost.fingerprint == 0 ? kStampMask + 1 : (now - ghost.stamp) & kStampMask;
  };
  Ghost* const oldest = std::max_element(set, set + kWays, [&](auto& a, auto& b) { return age(a) < age(b); });
  *oldest = {fingerprint_of(hash), stamp};
}

std::optional<std::uint16_t> GhostTable::take(std::uint64_t hash) {
  if (ghosts_.empty()) return std::nullopt;
  Ghost* const set = set_of(hash);
  Ghost* const found =
      std::find_if(set, set + kWays, [&](Ghost const& g) { return g.fingerprint == fingerprint_of(hash); });
  if (found == set + kWays) return std::nullopt;
  return std::exchange(*found, Ghost{}).stamp;
}

}  // namespace workmill::cache
