#include "app/allocations.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
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

// As the C++ library does it where no allocator stands before it.
void* from_malloc(std::size_t size, std::nothrow_t const&) { return std::malloc(std::max<std::size_t>(size, 1)); }
void* from_malloc(std::size_t size, std::align_val_t alignment, std::nothrow_t const&) {
  auto const unit = static_cast<std::size_t>(alignment);
  std::size_t const rounded = (std::max<std::size_t>(size, 1) + unit - 1) / unit * unit;
  return rounded < size ? nullptr : std::aligned_alloc(unit, rounded);
}

bool is_in_library_of(void const* symbol, void const* other) {
  Dl_info first{};
  Dl_info second{};
  return ::dladdr(symbol, &first) != 0 && ::dladdr(other, &second) != 0 && first.dli_fbase == second.dli_fbase;
}

// The operator that would have been called without ours: the allocator's, or that of a test that lets it fail. What it
// hands out goes back to it by its own operator delete, which we leave alone.
//
// Asked for is the form that answers with null, and the handler is called here: an allocator compiled as C, as mimalloc
// is, knows neither handlers nor exceptions, and the other form ends the process by abort(), without a word.
template <class... Arguments>
class Next {
 public:
  // `symbol`: as compilers write the operator's name.
  constexpr explicit Next(char const* symbol) : symbol_(symbol) {}

  void* operator()(Arguments... arguments) {
    count();
    void* const memory = ask(arguments...);
    if (memory != nullptr) [[likely]]
      return memory;
    return insist(arguments...);
  }

 private:
  using Ask = void* (*)(Arguments..., std::nothrow_t const&);

  void* ask(Arguments... arguments) {
    Ask found = found_.load(std::memory_order_relaxed);
    if (found == nullptr) [[unlikely]]
      found = find();
    return found(arguments..., std::nothrow);
  }

  [[gnu::cold]] Ask find() {
    void* const symbol = ::dlsym(RTLD_NEXT, symbol_);
    // That of the C++ library would ask the throwing form, which is ours.
    bool const is_the_librarys =
        symbol == nullptr || is_in_library_of(symbol, ::dlsym(RTLD_NEXT, "_ZSt15set_new_handlerPFvvE"));
    Ask const found = is_the_librarys ? static_cast<Ask>(&from_malloc) : reinterpret_cast<Ask>(symbol);
    found_.store(found, std::memory_order_relaxed);
    return found;
  }

  // As the standard has it: the handler is called until there is memory, or no handler.
  [[gnu::cold]] void* insist(Arguments... arguments) {
    while (true) {
      std::new_handler const handler = std::get_new_handler();
      if (handler == nullptr) throw std::bad_alloc{};
      handler();
      if (void* const memory = ask(arguments...)) return memory;
    }
  }

  char const* symbol_;
  std::atomic<Ask> found_{nullptr};
};

constinit Next<std::size_t> next_new{"_ZnwmRKSt9nothrow_t"};
constinit Next<std::size_t> next_new_array{"_ZnamRKSt9nothrow_t"};
constinit Next<std::size_t, std::align_val_t> next_new_aligned{"_ZnwmSt11align_val_tRKSt9nothrow_t"};
constinit Next<std::size_t, std::align_val_t> next_new_array_aligned{"_ZnamSt11align_val_tRKSt9nothrow_t"};

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
