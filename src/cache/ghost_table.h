#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace workmill::cache {

// When keys were used last that were sent away, for a while: 4 bytes each, by hash, in sets of eight, from each of
// which the oldest gives way. Two keys may be taken for one. One owner, one thread.
class GhostTable {
 public:
  static constexpr std::uint16_t kStampMask = 0x3fff;  // Stamps go round.

  // Room for a quarter more than as many, at least. Where that is more than before, all are forgotten.
  void ensure(std::size_t entries);
  void add(std::uint64_t hash, std::uint16_t stamp, std::uint16_t now);
  // And forgets it.
  std::optional<std::uint16_t> take(std::uint64_t hash);
  std::size_t memory_bytes() const { return ghosts_.capacity() * sizeof(Ghost); }

 private:
  static constexpr std::size_t kWays = 8;
  struct Ghost {
    std::uint16_t fingerprint = 0;  // 0: free.
    std::uint16_t stamp = 0;
  };

  Ghost* set_of(std::uint64_t hash);
  static std::uint16_t fingerprint_of(std::uint64_t hash) {
    auto const print = static_cast<std::uint16_t>(hash >> 40);
    return print != 0 ? print : std::uint16_t{1};
  }

  std::vector<Ghost> ghosts_;
};

}  // namespace workmill::cache
