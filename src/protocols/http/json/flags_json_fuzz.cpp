#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "flags/evaluation.h"
#include "flags/flag_set.h"
#include "protocols/http/json/flags_json.h"

// Any body as a flag's definition and as a request to evaluate: it is refused, or it is written as what reads back the
// same, and it answers with one of its variants.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill;
  static http::FlagsIn in;
  std::string_view const body{reinterpret_cast<char const*>(data), size};
  flags::Context context;
  std::string_view text;
  bool const is_context = !in.parse_context(body, context, text);
  WM_ASSERT(!is_context || !context.targeting_key().empty());
  if (auto const parsed = in.parse_definition(body, "f")) {
    Bytes bytes;
    flags::encode_flag(parsed->flag, bytes);
    auto const entry = flags::make_entry("f", bytes, 1, Instant{}, {});
    WM_ASSERT(entry.has_value());
    WM_ASSERT(flags::evaluate("f", (*entry)->flag, context).variant < (*entry)->flag.variants.size());
    std::string written;
    http::append_flag(**entry, written);
    auto const again = in.parse_definition(written, "f");
    WM_ASSERT(again.has_value());
    Bytes same;
    flags::encode_flag(again->flag, same);
    WM_ASSERT(same == bytes);
  }
  return 0;
}
