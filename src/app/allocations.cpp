#include "app/allocations.h"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define WM_FOREIGN_OPERATORS
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WM_FOREIGN_OPERATORS
#endif

#ifdef WM_FOREIGN_OPERATORS

namespace workmill::app {
std::optional<std::uint64_t> allocations() { return std::nullopt; }
}  // namespace workmill::app

#else

namespace {

// One for each of the first threads; later ones share the last.
constexpr std::size_t kPlaces = 64;

struct alignas(64) Place {
  std::atomic<std::uint64_t> made{0};
};
constinit std::array<Place, kPlaces> places{};
constinit std::atomic<std::size_t> places_taken{0};
constinit thread_local Place* my_place = nullptr;

Place& take_place() {
  std::size_t const number = places_taken.fetch_add(1, std::memory_order_relaxed);
  my_place = &places[number < kPlaces ? number : kPlaces - 1];
  return *my_place;
}

void count() {
  Place& place = my_place != nullptr ? *my_place : take_place();
  // Its thread alone writes it, but for the last place's.
  if (&place == &places.back()) {
    place.made.fetch_add(1, std::memory_order_relaxed);
  } else {
    place.made.store(place.made.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
}

// The operator that would have been called without ours: the allocator's, or that of a test that lets it fail. What it
// hands out goes back to it by its own operator delete, which we leave alone.
template <class... Arguments>
class Next {
 public:
  // `symbol`: as compilers write the operator's name.
  constexpr explicit Next(char const* symbol) : symbol_(symbol) {}

  void* operator()(Arguments... arguments) {
    count();
    void* found = found_.load(std::memory_order_relaxed);
    if (found == nullptr) {
      found = ::dlsym(RTLD_NEXT, symbol_);
      if (found == nullptr) throw std::bad_alloc{};
      found_.store(found, std::memory_order_relaxed);
    }
    return reinterpret_cast<void* (*)(Arguments...)>(found)(arguments...);
  }

 private:
  char const* symbol_;
  std::atomic<void*> found_{nullptr};
};

constinit Next<std::size_t> next_new{"_Znwm"};
constinit Next<std::size_t> next_new_array{"_Znam"};
constinit Next<std::size_t, std::align_val_t> next_new_aligned{"_ZnwmSt11align_val_t"};
constinit Next<std::size_t, std::align_val_t> next_new_array_aligned{"_ZnamSt11align_val_t"};

}  // namespace

void* operator new(std::size_t size) { return next_new(size); }
void* operator new[](std::size_t size) { return next_new_array(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return next_new_aligned(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return next_new_array_aligned(size, alignment); }

namespace workmill::app {

std::optional<std::uint64_t> allocations() {
  std::uint64_t made = 0;
  for (Place const& each : places) made += each.made.load(std::memory_order_relaxed);
  return made;
}

}  // namespace workmill::app

#endif
