#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/guarded.h"

// Memory for very many blocks of up to 32 KiB that live long and differ in size, with little of it lost: a block takes
// its bytes rounded up to the next 16 (to the next 64th of itself above 8 KiB), where general allocators have four
// sizes to a doubling and lose a tenth.
//
// Pages of 256 KiB (of 1 MiB above 2 KiB) hold blocks of one size each. What fine sizes cost is what stays free in
// pages of sizes that are asked for less than they were; three things hold it down:
//  - A page that is empty goes back to the system, but for 2 MiB in hand.
//  - Where more than a 32nd of the memory is free, a block takes the free place of one up to an eighth larger before a
//    page grows.
//  - Where what is lost is more than a 16th of what is used and 4 MiB, should_move() names blocks of pages of which an
//    eighth or more is free and for which others have room. Whoever can put a copy of such a block elsewhere does so,
//    and gives this one back.
//
// Any thread may call everything; a block may be given back by another thread than took it. One lock for all, held for
// tens of nanoseconds. That is enough where a block's bytes are copied for each call; it is no allocator for a loop.
namespace workmill {

class BlockPool {
 public:
  static constexpr std::size_t kBlockBytesMax = std::size_t{32} << 10;

  // What a block of 1 to kBlockBytesMax bytes is counted with.
  static constexpr std::size_t rounded(std::size_t bytes) {
    std::size_t const step = bytes <= kFineMax ? 16 : std::bit_floor(bytes - 1) / 64;
    return (bytes + step - 1) & ~(step - 1);
  }

  BlockPool() = default;
  ~BlockPool();  // All blocks have been given back.
  BlockPool(BlockPool const&) = delete;
  BlockPool& operator=(BlockPool const&) = delete;

  // A block for 1 to kBlockBytesMax bytes, at an address divisible by 16; its bytes are whatever they are. Never null:
  // std::bad_alloc where the system has no memory, as of operator new.
  void* take(std::size_t bytes) WM_EXCLUDES(mutex_);
  // As taken, with as many bytes.
  void give(void* block, std::size_t bytes) WM_EXCLUDES(mutex_);

  // Whether moving blocks is worth while at all: a look at one number.
  bool is_scattered() const { return is_scattered_.load(std::memory_order_relaxed); }
  // Whether this block, which stays taken meanwhile, should be copied to another one and given back. Once true of a
  // block it is true of all in its page, into which nobody else is put as long as is_scattered().
  bool should_move(void const* block) WM_EXCLUDES(mutex_);

  struct Figures {
    std::uint64_t held_bytes = 0;  // Memory taken from the system, as far as it was ever written to since.
    std::uint64_t used_bytes = 0;  // Of blocks taken, each as rounded() has it.
  };
  Figures figures() const WM_EXCLUDES(mutex_);

 private:
  static constexpr std::size_t kFineMax = 8'192;
  static constexpr std::size_t kFineSizes = kFineMax / 16;
  static constexpr std::size_t kSmallMax = 2'048;             // Of blocks in small pages.
  static constexpr std::size_t kSizes = kFineSizes + 2 * 64;  // Two doublings to 32 KiB.
  static constexpr std::size_t kWords = (kSizes + 63) / 64;

  struct Page;
  struct Chunk;
  // Pages of one size of blocks.
  struct Size {
    Page* partial = nullptr;    // Where places are free, those first that were full last.
    Page* fresh = nullptr;      // Whose end was never used yet. It may be among the partial ones too.
    std::uint32_t free = 0;     // Places, in the partial ones.
    std::uint32_t made = 0;     // Places ever used, in the partial ones: free or not.
    std::uint32_t to_move = 0;  // Blocks in pages that are to be emptied.
  };

  static constexpr std::size_t size_number(std::size_t rounded_bytes);
  static constexpr std::size_t size_bytes(std::size_t number);
  static std::size_t largest_instead(std::size_t number);
  static Page& page_of(void const* block);

  void* take_free(std::size_t number) WM_REQUIRES(mutex_);
  void* take_fresh(std::size_t number) WM_REQUIRES(mutex_);
  bool has_room_elsewhere(Page const& page) const WM_REQUIRES(mutex_);
  std::size_t larger_with_free(std::size_t number) const WM_REQUIRES(mutex_);
  Page& new_page(std::size_t number) WM_REQUIRES(mutex_);
  Page* unused_page(bool is_large) WM_REQUIRES(mutex_);
  void add_chunk(bool is_large) WM_REQUIRES(mutex_);
  void list(Page& page) WM_REQUIRES(mutex_);
  void unlist(Page& page) WM_REQUIRES(mutex_);
  void account() WM_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::array<Size, kSizes> sizes_ WM_GUARDED_BY(mutex_){};
  std::array<std::uint64_t, kWords> with_free_ WM_GUARDED_BY(mutex_){};  // A bit for each size that has free places.
  std::uint64_t free_bytes_ WM_GUARDED_BY(mutex_) = 0;                   // Of free places in partial pages.
  std::uint64_t held_bytes_ WM_GUARDED_BY(mutex_) = 0;
  std::uint64_t used_bytes_ WM_GUARDED_BY(mutex_) = 0;
  // Pages that nobody uses, small and large.
  struct Unused {
    Page* in_hand = nullptr;  // Kept as they are,
    std::size_t in_hand_count = 0;
    Page* given_back = nullptr;  // and those whose memory the system has.
  };
  std::array<Unused, 2> unused_ WM_GUARDED_BY(mutex_){};
  std::vector<Chunk*> chunks_ WM_GUARDED_BY(mutex_);  // Never given back: what they take is address space.
  std::atomic<bool> is_scattered_{false};
};

}  // namespace workmill
