#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "protocols/http/calls/cache_heads.h"
#include "protocols/http/router.h"

// Any path and any query, a line break between. What is found is a part of what was sent, and no parameter of a path
// holds a slash, so that nothing reaches beyond its segment.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill::http;
  std::string_view const text{reinterpret_cast<char const*>(data), size};
  std::size_t const line = std::min(text.find('\n'), text.size());
  std::string_view const path = text.substr(0, line);
  std::string_view const query = text.substr(std::min(line + 1, text.size()));
  for (Method const method : {Method::get, Method::head, Method::post, Method::put, Method::patch, Method::remove}) {
    auto const found = match(method, path);
    if (!found) {
      WM_ASSERT(found.error().code == workmill::ErrorCode::not_found || !allowed_methods(path).empty());
      continue;
    }
    WM_ASSERT(found->parameter.find('/') == std::string_view::npos);
    WM_ASSERT(path.find(found->parameter) != std::string_view::npos);
    auto const parsed = Query::parse(query, found->query_names);
    if (parsed) static_cast<void>(parsed->get("state"));
  }
  // The second line as an If-None-Match, too: one that names a tag goes on to do so with another ahead of it.
  if (names_etag(query, 7) && query.find('*') == std::string_view::npos) {
    WM_ASSERT(names_etag(std::string{"W/\"a, b\" ,"}.append(query), 7));
  }
  static_cast<void>(Query::parse(query, "state queue type tag group q limit cursor wait verbose"));
  return 0;
}
