#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "base/assert.h"

// Records of one type, named by a 32-bit index for as long as they live. Nothing ever moves: growth adds a chunk, so
// there is no pause to copy a million records, and a reference stays good until its record is given back. Chunks that
// fall empty go back to the allocator, but for one kept in hand.
//
// One owner, one thread. Cost of take() and give() is constant.
namespace workmill::engine {

// No record: the index that stands for "none" in every kind of index.
template <class Index>
inline constexpr Index kNone{0xffff'ffff};

template <class T, class Index, std::uint32_t kChunkRecords = 4'096>
class Slab {
  static_assert(std::has_single_bit(kChunkRecords) && kChunkRecords >= 64);

 public:
  Slab() = default;
  Slab(Slab const&) = delete;
  Slab& operator=(Slab const&) = delete;
  ~Slab() {
    for (std::uint32_t chunk = 0; chunk < chunks_.size(); ++chunk) {
      if (!chunks_[chunk].records) continue;
      for (std::uint32_t i = 0; i < kChunkRecords; ++i) {
        if (!chunks_[chunk].is_free(i)) chunks_[chunk].at(i)->~T();
      }
    }
  }

  T& operator[](Index index) { return *find(index); }
  T const& operator[](Index index) const { return *find(index); }

  // A record made anew.
  Index take() {
    if (open_ == kNoChunk || chunks_[open_].free_count == 0) open_ = next_open();
    Chunk& chunk = chunks_[open_];
    std::uint32_t const i = chunk.take_free();
    new (chunk.at(i)) T{};
    ++size_;
    return Index{open_ * kChunkRecords + i};
  }

  void give(Index index) {
    std::uint32_t const number = std::to_underlying(index) / kChunkRecords;
    std::uint32_t const i = std::to_underlying(index) % kChunkRecords;
    Chunk& chunk = chunks_[number];
    WM_ASSERT(!chunk.is_free(i));
    chunk.at(i)->~T();
    chunk.set_free(i);
    --size_;
    if (number == open_) return;
    if (chunk.free_count == kChunkRecords) {
      release(number);
    } else if (!chunk.is_listed) {
      chunk.is_listed = true;
      partly_free_.push_back(number);
    }
  }

  // All that live, in the order of their indexes. None may be taken or given back meanwhile.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (std::uint32_t number = 0; number < chunks_.size(); ++number) {
      if (!chunks_[number].records) continue;
      for (std::uint32_t i = 0; i < kChunkRecords; ++i) {
        if (!chunks_[number].is_free(i)) visit(Index{number * kChunkRecords + i});
      }
    }
  }

  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const {
    return made_ * kChunkBytes + chunks_.capacity() * sizeof(Chunk) +
           (partly_free_.capacity() + unmade_.capacity()) * 4;
  }

 private:
  static constexpr std::uint32_t kNoChunk = 0xffff'ffff;
  static constexpr std::uint32_t kWords = kChunkRecords / 64;
  static constexpr std::size_t kChunkBytes = sizeof(T) * kChunkRecords + kWords * sizeof(std::uint64_t);
  static constexpr std::uint32_t kChunksMax = 0xff00'0000 / kChunkRecords;  // The top is for kNone and list heads.

  struct Records {
    alignas(T) std::array<std::byte, sizeof(T) * kChunkRecords> bytes;
    std::array<std::uint64_t, kWords> free;
  };

  struct Chunk {
    std::unique_ptr<Records> records;  // None: released; the number may be used again.
    std::uint32_t free_count = 0;
    std::uint32_t hint = 0;  // No word before this one has a free record.
    bool is_listed = false;

    T* at(std::uint32_t i) { return std::launder(reinterpret_cast<T*>(records->bytes.data() + sizeof(T) * i)); }
    T const* at(std::uint32_t i) const {
      return std::launder(reinterpret_cast<T const*>(records->bytes.data() + sizeof(T) * i));
    }
    bool is_free(std::uint32_t i) const { return (records->free[i / 64] >> (i % 64) & 1) != 0; }
    void set_free(std::uint32_t i) {
      records->free[i / 64] |= std::uint64_t{1} << (i % 64);
      hint = i / 64 < hint ? i / 64 : hint;
      ++free_count;
    }
    std::uint32_t take_free() {
      while (records->free[hint] == 0) ++hint;  // There is one: free_count says so.
      std::uint64_t& word = records->free[hint];
      auto const bit = static_cast<std::uint32_t>(std::countr_zero(word));
      word &= word - 1;
      --free_count;
      return hint * 64 + bit;
    }
  };

  T* find(Index index) {
    return chunks_[std::to_underlying(index) / kChunkRecords].at(std::to_underlying(index) % kChunkRecords);
  }
  T const* find(Index index) const {
    return chunks_[std::to_underlying(index) / kChunkRecords].at(std::to_underlying(index) % kChunkRecords);
  }

  // A chunk with room, other than the one that has just filled up.
  std::uint32_t next_open() {
    while (!partly_free_.empty()) {
      std::uint32_t const number = partly_free_.back();
      partly_free_.pop_back();
      chunks_[number].is_listed = false;
      if (chunks_[number].records && chunks_[number].free_count > 0) return number;
    }
    std::uint32_t number = 0;
    if (!unmade_.empty()) {
      number = unmade_.back();
      unmade_.pop_back();
    } else {
      number = static_cast<std::uint32_t>(chunks_.size());
      WM_ASSERT(number < kChunksMax);
      chunks_.emplace_back();
    }
    Chunk& chunk = chunks_[number];
    if (spare_) {
      chunk.records = std::move(spare_);
    } else {
      chunk.records = std::unique_ptr<Records>(new Records);  // Not make_unique, which would zero it.
      ++made_;
    }
    chunk.records->free.fill(~std::uint64_t{0});
    chunk.free_count = kChunkRecords;
    chunk.hint = 0;
    return number;
  }

  void release(std::uint32_t number) {
    if (!spare_) {
      spare_ = std::move(chunks_[number].records);  // So that a backlog around a chunk's edge does not allocate.
    } else {
      chunks_[number].records.reset();
      --made_;
    }
    unmade_.push_back(number);
  }

  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> partly_free_;  // Stacks. May name chunks that were released since: see next_open().
  std::vector<std::uint32_t> unmade_;
  std::unique_ptr<Records> spare_;
  std::uint32_t open_ = kNoChunk;
  std::size_t size_ = 0;
  std::size_t made_ = 0;
};

}  // namespace workmill::engine
