#include "net/input_buffer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace workmill::net {
namespace {

// A connection whose head trickles keeps its buffer, and there may be thousands of them; what is larger soon grows.
constexpr std::size_t kLeastBytes = 512;

}  // namespace

std::span<char> InputBuffer::prepare(std::size_t room) {
  if (capacity_ - start_ - size_ < room) {
    if (capacity_ - size_ >= room && start_ >= capacity_ / 2) {
      std::memmove(data_.get(), data_.get() + start_, size_);  // At most once for every half a buffer that was used.
    } else {
      std::size_t const capacity = std::max<std::size_t>(std::bit_ceil(size_ + room), kLeastBytes);
      auto grown = std::make_unique<char[]>(capacity);
      if (size_ > 0) std::memcpy(grown.get(), data_.get() + start_, size_);
      data_ = std::move(grown);
      capacity_ = capacity;
    }
    start_ = 0;
  }
  char* const end = data_.get() + start_ + size_;
  return {end, capacity_ - start_ - size_};
}

void InputBuffer::append(std::string_view bytes) {
  if (bytes.empty()) return;
  std::span<char> const room = prepare(bytes.size());
  std::memcpy(room.data(), bytes.data(), bytes.size());
  commit(bytes.size());
}

void InputBuffer::consume(std::size_t count) {
  WM_ASSERT(count <= size_);
  size_ -= count;
  start_ = size_ == 0 ? 0 : start_ + count;
}

void InputBuffer::shrink(std::size_t keep) {
  if (size_ > 0 || capacity_ <= keep) return;
  data_.reset();
  capacity_ = 0;
  start_ = 0;
}

}  // namespace workmill::net
