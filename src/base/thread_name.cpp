#include "base/thread_name.h"

#include <pthread.h>

#include <string>

namespace workmill {

void name_this_thread(std::string_view name) {
  constexpr std::size_t kBytesMax = 15;  // Linux' own limit, without the NUL.
  std::string const cut{name.substr(0, kBytesMax)};
  static_cast<void>(pthread_setname_np(pthread_self(), cut.c_str()));
}

}  // namespace workmill
