#include "base/block_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "base/assert.h"

namespace workmill {
namespace {

// Small and large pages, as powers of two. What the end of a page is too short for is lost: of 1 KiB two bytes a block
// so, of 4 KiB eight. Small ones are empty sooner.
constexpr std::array<std::uint32_t, 2> kPageBits{18, 20};
constexpr std::size_t kBytesInHand = std::size_t{1} << 20;  // Of each.
constexpr std::size_t kChunkBytes = std::size_t{16} << 20;
constexpr std::size_t kPagesMax = kChunkBytes >> kPageBits[0];
constexpr std::size_t kSystemPageMax = std::size_t{64} << 10;
constexpr std::uint32_t kNoPlace = 0xffff'ffff;  // Places are named by where in their page they begin.
// More of the memory free than this part: a larger place serves.
constexpr std::uint64_t kFreePart = 32;
constexpr std::uint32_t kPageFreePart = 8;  // Less of a page free than this part: who is in it stays.
// More lost than this part of what is used and this beside: blocks should move. The second is what small pools are
// spared, whose few pages are never all full.
constexpr std::uint64_t kLostPart = 16;
constexpr std::uint64_t kLostBeside = std::uint64_t{4} << 20;

}  // namespace

// What is known of a page. Written with the lock held; what is atomic is read without.
struct alignas(64) BlockPool::Page {
  Page* previous = nullptr;  // In the list of the partial ones.
  Page* next = nullptr;      // In whatever list it is.
  char* memory = nullptr;    // The first place.
  std::uint32_t bytes = 0;   // From there on.
  std::uint32_t place_bytes = 0;
  std::uint32_t first_free = kNoPlace;
  std::uint32_t touched = 0;           // How many of its bytes may have been written to: the first ones.
  std::atomic<std::uint32_t> made{0};  // Places ever used: the first ones.
  std::atomic<std::uint32_t> free{0};  // Of these.
  std::uint16_t number = 0;            // Of its size.
  bool is_large = false;
  bool is_listed = false;                // Among the partial ones.
  std::atomic<bool> is_draining{false};  // Nobody is put in here any more.

  std::uint32_t get_made() const { return made.load(std::memory_order_relaxed); }
  std::uint32_t get_free() const { return free.load(std::memory_order_relaxed); }
};

// Address space that begins where a multiple of its length does, so that a block's page is found by its address. What
// is known of the pages is together at the front, and not at the front of each page: there it would be in the same few
// lines of the processor's cache for all of them.
struct BlockPool::Chunk {
  std::uint32_t page_bits = 0;
  std::array<Page, kPagesMax> pages;  // Small ones, or fewer large ones.
};

constexpr std::size_t BlockPool::size_number(std::size_t rounded_bytes) {
  if (rounded_bytes <= kFineMax) return rounded_bytes / 16 - 1;
  std::size_t const floor = std::bit_floor(rounded_bytes - 1);
  auto const doublings = static_cast<std::size_t>(std::countr_zero(floor / kFineMax));
  return kFineSizes + doublings * 64 + (rounded_bytes - floor) / (floor / 64) - 1;
}
constexpr std::size_t BlockPool::size_bytes(std::size_t number) {
  if (number < kFineSizes) return (number + 1) * 16;
  std::size_t const floor = kFineMax << (number - kFineSizes) / 64;
  return floor + ((number - kFineSizes) % 64 + 1) * (floor / 64);
}

BlockPool::Page& BlockPool::page_of(void const* block) {
  auto const address = reinterpret_cast<std::uintptr_t>(block);
  auto* const chunk = reinterpret_cast<Chunk*>(address & ~(kChunkBytes - 1));
  return chunk->pages[address % kChunkBytes >> chunk->page_bits];
}

BlockPool::~BlockPool() {
  Lock const lock{mutex_};
  WM_ASSERT(used_bytes_ == 0);
  for (Chunk* const chunk : chunks_) ::munmap(chunk, kChunkBytes);
}

void* BlockPool::take(std::size_t bytes) {
  WM_ASSERT(bytes > 0 && bytes <= kBlockBytesMax);
  std::size_t const wanted = rounded(bytes);
  std::size_t const number = size_number(wanted);
  Lock const lock{mutex_};
  void* block = nullptr;
  if (sizes_[number].partial != nullptr) {
    block = take_free(number);
  } else if (std::size_t const larger = larger_with_free(number); larger != kSizes) {
    block = take_free(larger);
  } else {
    block = take_fresh(number);
  }
  used_bytes_ += wanted;
  account();
  return block;
}

// The smallest that is large enough, or kSizes: where there is little to be had, or only with much lost.
std::size_t BlockPool::larger_with_free(std::size_t number) const {
  if (free_bytes_ <= used_bytes_ / kFreePart) return kSizes;
  std::size_t word = (number + 1) / 64;
  if (word == kWords) return kSizes;
  std::uint64_t bits = with_free_[word] & ~std::uint64_t{0} << (number + 1) % 64;
  while (bits == 0 && ++word < kWords) bits = with_free_[word];
  if (bits == 0) return kSizes;
  std::size_t const found = word * 64 + static_cast<std::size_t>(std::countr_zero(bits));
  return found <= largest_instead(number) ? found : kSizes;
}

void* BlockPool::take_free(std::size_t number) {
  Page& page = *sizes_[number].partial;
  void* const block = page.memory + page.first_free;
  std::memcpy(&page.first_free, block, sizeof page.first_free);
  page.free.store(page.get_free() - 1, std::memory_order_relaxed);
  --sizes_[number].free;
  free_bytes_ -= page.place_bytes;
  if (page.get_free() == 0) unlist(page);
  return block;
}

void* BlockPool::take_fresh(std::size_t number) {
  Size& size = sizes_[number];
  Page& page = size.fresh != nullptr ? *size.fresh : new_page(number);
  std::uint32_t const begin = page.get_made() * page.place_bytes;
  std::uint32_t const end = begin + page.place_bytes;
  if (end > page.touched) held_bytes_ += end - std::exchange(page.touched, end);
  page.made.store(page.get_made() + 1, std::memory_order_relaxed);
  if (page.is_listed) ++size.made;
  size.fresh = end + page.place_bytes <= page.bytes ? &page : nullptr;
  return page.memory + begin;
}

void BlockPool::give(void* block, std::size_t bytes) {
  Page* surplus = nullptr;
  {
    Lock const lock{mutex_};
    Page& page = page_of(block);
    Size& size = sizes_[page.number];
    WM_ASSERT(page.get_free() < page.get_made() && bytes <= page.place_bytes);
    used_bytes_ -= rounded(bytes);
    std::memcpy(block, &page.first_free, sizeof page.first_free);
    page.first_free = static_cast<std::uint32_t>(static_cast<char*>(block) - page.memory);
    page.free.store(page.get_free() + 1, std::memory_order_relaxed);
    if (page.is_listed) {
      ++size.free;
      free_bytes_ += page.place_bytes;
    }
    if (page.is_draining.load(std::memory_order_relaxed)) --size.to_move;
    Unused& unused = unused_[page.is_large ? 1 : 0];
    if (page.get_free() == page.get_made()) {
      if (page.is_listed) unlist(page);
      if (size.fresh == &page) size.fresh = nullptr;
      if (unused.in_hand_count < (kBytesInHand >> kPageBits[page.is_large ? 1 : 0])) {
        page.next = std::exchange(unused.in_hand, &page);
        ++unused.in_hand_count;
      } else {
        surplus = &page;
        held_bytes_ -= std::exchange(page.touched, 0);
      }
    } else if (!page.is_listed && !(page.is_draining.load(std::memory_order_relaxed) && is_scattered())) {
      if (page.is_draining.load(std::memory_order_relaxed)) size.to_move -= page.get_made() - page.get_free();
      page.is_draining.store(false, std::memory_order_relaxed);
      list(page);
    }
    account();
  }
  if (surplus == nullptr) return;
  // Without the lock, as it takes long. From the first place on where any system's page begins: behind the chunk's
  // head.
  std::size_t const head = -reinterpret_cast<std::uintptr_t>(surplus->memory) % kSystemPageMax;
  ::madvise(surplus->memory + head, surplus->bytes - head, MADV_DONTNEED);
  Lock const lock{mutex_};
  surplus->next = std::exchange(unused_[surplus->is_large ? 1 : 0].given_back, surplus);
}

bool BlockPool::should_move(void const* block) {
  if (!is_scattered()) return false;
  Page& page = page_of(block);
  if (page.is_draining.load(std::memory_order_relaxed)) return true;
  if (page.get_free() < page.get_made() / kPageFreePart) return false;
  Lock const lock{mutex_};
  if (!page.is_listed || !has_room_elsewhere(page)) return false;
  unlist(page);
  Size& size = sizes_[page.number];
  if (size.fresh == &page) size.fresh = nullptr;
  size.to_move += page.get_made() - page.get_free();
  page.is_draining.store(true, std::memory_order_relaxed);
  return true;
}

// For all that is in it, besides those who are to move already, and in pages that are fuller on average: then there is
// a page to be had back.
bool BlockPool::has_room_elsewhere(Page const& page) const {
  std::uint64_t const made = page.get_made();
  std::uint64_t const free = page.get_free();
  std::uint64_t all_made = 0;
  std::uint64_t all_free = 0;
  std::uint64_t to_move = 0;
  std::size_t const most = largest_instead(page.number);
  for (std::size_t number = page.number; number <= most; ++number) {
    all_made += sizes_[number].made;
    all_free += sizes_[number].free;
    to_move += sizes_[number].to_move;
  }
  return all_free - free >= made - free + to_move && free * all_made >= all_free * made;
}

// The largest size that a block of this one may be put into.
std::size_t BlockPool::largest_instead(std::size_t number) {
  std::size_t const bytes = size_bytes(number) * 9 / 8;
  return size_number(std::min(rounded(bytes - 15), kBlockBytesMax));
}

BlockPool::Figures BlockPool::figures() const {
  Lock const lock{mutex_};
  return {.held_bytes = held_bytes_, .used_bytes = used_bytes_};
}

void BlockPool::account() {
  bool const is_scattered = held_bytes_ > used_bytes_ + used_bytes_ / kLostPart + kLostBeside;
  if (is_scattered != this->is_scattered()) is_scattered_.store(is_scattered, std::memory_order_relaxed);
}

// With its free places. In front, as who was full last is the fullest: the others empty meanwhile.
void BlockPool::list(Page& page) {
  Size& size = sizes_[page.number];
  page.is_listed = true;
  page.previous = nullptr;
  page.next = size.partial;
  if (size.partial != nullptr) size.partial->previous = &page;
  size.partial = &page;
  size.free += page.get_free();
  size.made += page.get_made();
  free_bytes_ += std::uint64_t{page.get_free()} * page.place_bytes;
  with_free_[page.number / 64] |= std::uint64_t{1} << page.number % 64;
}

void BlockPool::unlist(Page& page) {
  Size& size = sizes_[page.number];
  page.is_listed = false;
  (page.previous != nullptr ? page.previous->next : size.partial) = page.next;
  if (page.next != nullptr) page.next->previous = page.previous;
  size.free -= page.get_free();
  size.made -= page.get_made();
  free_bytes_ -= std::uint64_t{page.get_free()} * page.place_bytes;
  if (size.partial == nullptr) with_free_[page.number / 64] &= ~(std::uint64_t{1} << page.number % 64);
}

BlockPool::Page& BlockPool::new_page(std::size_t number) {
  Page& page = *unused_page(size_bytes(number) > kSmallMax);
  page.previous = page.next = nullptr;
  page.place_bytes = static_cast<std::uint32_t>(size_bytes(number));
  page.first_free = kNoPlace;
  page.number = static_cast<std::uint16_t>(number);
  page.is_draining.store(false, std::memory_order_relaxed);
  page.made.store(0, std::memory_order_relaxed);
  page.free.store(0, std::memory_order_relaxed);
  return page;
}

BlockPool::Page* BlockPool::unused_page(bool is_large) {
  Unused& unused = unused_[is_large ? 1 : 0];
  if (unused.in_hand != nullptr) {
    --unused.in_hand_count;
    return std::exchange(unused.in_hand, unused.in_hand->next);
  }
  if (unused.given_back == nullptr) add_chunk(is_large);
  return std::exchange(unused.given_back, unused.given_back->next);
}

void BlockPool::add_chunk(bool is_large) {
  chunks_.reserve(chunks_.size() + 1);
  // Twice what is needed, as one that begins in the right place has to be cut out of it.
  void* const found =
      ::mmap(nullptr, 2 * kChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc{};
  char* const begin = static_cast<char*>(found);
  std::size_t const before = -reinterpret_cast<std::uintptr_t>(begin) % kChunkBytes;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + before + kChunkBytes, kChunkBytes - before);
  // Where the system gives out 2 MiB for the first byte written to, each size's first block would take as much.
  ::madvise(begin + before, kChunkBytes, MADV_NOHUGEPAGE);
  auto* const chunk = new (begin + before) Chunk;
  chunks_.push_back(chunk);
  held_bytes_ += sizeof(Chunk);
  chunk->page_bits = kPageBits[is_large ? 1 : 0];
  std::size_t const page_bytes = std::size_t{1} << chunk->page_bits;
  for (std::size_t i = kChunkBytes / page_bytes; i-- > 0;) {
    Page& page = chunk->pages[i];
    std::size_t const head = i == 0 ? sizeof(Chunk) : 0;
    page.memory = begin + before + i * page_bytes + head;
    page.bytes = static_cast<std::uint32_t>(page_bytes - head);
    page.is_large = is_large;
    page.next = std::exchange(unused_[is_large ? 1 : 0].given_back, &page);
  }
}

}  // namespace workmill
