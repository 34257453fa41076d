#include "telemetry/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace workmill::telemetry {

std::string read_proc_file(std::string const& path) {
  constexpr std::size_t kBytesMax = 16 * 1024;
  int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  std::string text(kBytesMax, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    ssize_t const got = ::read(file, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += static_cast<std::size_t>(got);
  }
  ::close(file);
  text.resize(size);
  return text;
}

}  // namespace workmill::telemetry
