#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/bytes.h"

// Checksums of the log by blocks of 64 KiB, kept in memory only: four bytes a block. The checksums on the disk are of
// whole batches; reading one small record could not look at them without reading its whole batch. So what was good when
// it was written, or when it was replayed, is known to be the same whenever a part of it is read again.
//
// A value; not to be shared between threads without a lock.
namespace workmill::log {

inline constexpr std::size_t kBlockBytes = std::size_t{64} << 10;

class BlockSums {
 public:
  // The next bytes of segment `ordinal`, from its first byte on, without gaps. Once bytes of another segment come, the
  // one before has its end, and its last block, which may be short, is known too.
  void add(std::uint32_t ordinal, BytesView bytes);
  struct Sum {
    std::uint32_t crc;
    std::size_t bytes;  // kBlockBytes, or fewer in the last block of a segment; so far, while that grows.
    bool operator==(Sum const&) const = default;
  };
  // Of the block as it is now; nothing where nothing is known of it.
  std::optional<Sum> find(std::uint32_t ordinal, std::uint64_t block) const;
  void forget(std::uint32_t ordinal) { segments_.erase(ordinal); }
  // The segment that grows, and how much of it is known.
  std::uint32_t growing() const { return growing_; }
  std::uint64_t growing_bytes() const { return growing_bytes_; }

 private:
  struct Segment {
    std::vector<std::uint32_t> crcs;       // Of its blocks, from the first.
    std::size_t last_bytes = kBlockBytes;  // Of the last of them.
  };
  std::map<std::uint32_t, Segment> segments_;
  std::uint32_t growing_ = 0;
  std::uint64_t growing_bytes_ = 0;
  std::uint32_t sum_ = 0;  // Of the block that grows.
};

}  // namespace workmill::log
