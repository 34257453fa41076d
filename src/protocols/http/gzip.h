#pragma once
#include <string_view>

// Which clients want large answers small: base/gzip.h makes them so.
namespace workmill::http {

// Does an Accept-Encoding header allow gzip? It counts where it is named, or `*` is, with a quality above 0.
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace workmill::http
