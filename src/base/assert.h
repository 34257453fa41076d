#pragma once

// WM_ASSERT(condition): what must hold if our own code is right. On in every build, release too: a server that knows
// its state to be wrong stops, and is started again from the log, rather than writing that state down.
namespace workmill {
[[noreturn]] void assert_failed(char const* condition, char const* file, int line) noexcept;
}  // namespace workmill

#define WM_ASSERT(condition)                                     \
  do {                                                           \
    if (!(condition)) [[unlikely]]                               \
      ::workmill::assert_failed(#condition, __FILE__, __LINE__); \
  } while (false)
