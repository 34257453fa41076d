#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

// What the policy remembers of keys beyond their entries: about how often each was used of late, and when those were
// used last that have just gone. By hash, in tables that grow with the number of entries; both may err, as two keys may
// share a place. One owner, one thread.
namespace workmill::cache {

// Counts of uses up to 15, halved every so often: the sketch of Einziger, Friedman, Manes, "TinyLFU: a highly efficient
// cache admission policy", ACM Transactions on Storage 13(4), 2017. Four counters of 4 bits a key, all in one line of
// the processor's cache.
class FrequencySketch {
 public:
  // Room for so many entries from now on. Grows by doubling; what was counted stays.
  void ensure(std::size_t entries);
  void add(std::uint64_t hash);
  std::uint32_t count(std::uint64_t hash) const;
  std::size_t memory_bytes() const { return words_.capacity() * sizeof(std::uint64_t); }

 private:
  // Between 4 and 8 counters an entry, which is 2 to 4 bytes.
  static constexpr std::size_t kEntriesPerWord = 4;
  static constexpr std::size_t kBlockWords = 8;
  static constexpr std::size_t kUsesPerEntry = 10;

  std::size_t entries() const { return words_.size() * kEntriesPerWord; }
  void halve();

  std::vector<std::uint64_t> words_ = std::vector<std::uint64_t>(kBlockWords);
  std::size_t uses_ = 0;
};

// When keys were used last that went after they had been used too little: 4 bytes each, in sets of eight, from each of
// which the oldest gives way.
class GhostTable {
 public:
  static constexpr std::uint16_t kStampMask = 0x3fff;  // Stamps go round.

  // Room for half as many as there are entries, at least.
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
