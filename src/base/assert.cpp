#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace workmill {

void assert_failed(char const* condition, char const* file, int line) noexcept {
  // Straight to standard error: the logger, its thread and its locks may be what is broken.
  std::fprintf(stderr, "workmill: assertion failed: %s (%s:%d)\n", condition, file, line);
  std::fflush(stderr);
  std::abort();
}

}  // namespace workmill
