#include "log/block_sums.h"

#include <algorithm>

#include "log/crc32c.h"

namespace workmill::log {

void BlockSums::add(std::uint32_t ordinal, BytesView bytes) {
  if (ordinal != growing_) {
    if (std::size_t const rest = growing_bytes_ % kBlockBytes; rest != 0) {
      Segment& ended = segments_[growing_];
      ended.crcs.push_back(sum_);
      ended.last_bytes = rest;
    }
    growing_ = ordinal;
    growing_bytes_ = 0;
    sum_ = 0;
  }
  while (!bytes.empty()) {
    std::size_t const room = kBlockBytes - static_cast<std::size_t>(growing_bytes_ % kBlockBytes);
    BytesView const part = bytes.substr(0, room);
    sum_ = crc32c(part, sum_);
    growing_bytes_ += part.size();
    bytes.remove_prefix(part.size());
    if (part.size() == room) {
      segments_[growing_].crcs.push_back(sum_);
      sum_ = 0;
    }
  }
}

std::optional<BlockSums::Sum> BlockSums::find(std::uint32_t ordinal, std::uint64_t block) const {
  if (ordinal == growing_ && block == growing_bytes_ / kBlockBytes) {
    std::size_t const bytes = static_cast<std::size_t>(growing_bytes_ % kBlockBytes);
    return bytes == 0 ? std::optional<Sum>{} : Sum{sum_, bytes};
  }
  auto const found = segments_.find(ordinal);
  if (found == segments_.end() || block >= found->second.crcs.size()) return {};
  Segment const& segment = found->second;
  bool const is_last = block + 1 == segment.crcs.size();
  return Sum{segment.crcs[static_cast<std::size_t>(block)], is_last ? segment.last_bytes : kBlockBytes};
}

}  // namespace workmill::log
