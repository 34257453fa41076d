#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "app/config.h"
#include "base/assert.h"

// Whatever stands in a configuration file: it is refused with words, or read; and what was read is no change against
// itself, setting by setting.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill;
  // The reader takes a name. This file is in memory, and has one as long as we hold it.
  static int const file = ::memfd_create("configuration", MFD_CLOEXEC);
  WM_ASSERT(file >= 0 && ::ftruncate(file, 0) == 0);
  WM_ASSERT(::pwrite(file, data, size, 0) == static_cast<ssize_t>(size));

  app::Config config;
  auto const read = app::read_config("/proc/self/fd/" + std::to_string(file), config);
  if (!read) {
    WM_ASSERT(read.error().code == ErrorCode::bad_configuration && !read.error().message.empty());
    return 0;
  }
  if (auto const checked = app::check_config(config); !checked) WM_ASSERT(!checked.error().message.empty());
  WM_ASSERT(app::changes(config, config).empty());
  app::Config copy;
  for (app::Change const& change : app::changes(copy, config)) app::copy_setting(change.setting, config, copy);
  WM_ASSERT(app::changes(copy, config).empty());
  return 0;
}
