#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "telemetry/trace.h"

// Any traceparent header: refused, or written again as version 00 and then read as the same.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill::telemetry;
  auto const parsed = parse_traceparent({reinterpret_cast<char const*>(data), size});
  if (!parsed) return 0;
  auto const written = format_traceparent(*parsed);
  auto const again = parse_traceparent({written.data(), written.size()});
  WM_ASSERT(again && format_traceparent(*again) == written);
  return 0;
}
