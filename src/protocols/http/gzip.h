#pragma once
#include <string>
#include <string_view>

// Answers that are large and much alike, for clients that ask for them so (zlib).
namespace workmill::http {

// Does an Accept-Encoding header allow gzip? It counts where it is named, or `*` is, with a quality above 0.
bool accepts_gzip(std::string_view accept_encoding);

// Appends `text` as one gzip member, at the fastest level: a page of metrics shrinks to a tenth at about 100 MB/s.
// False, with `out` as it was, where zlib has no memory.
bool append_gzip(std::string_view text, std::string& out);

}  // namespace workmill::http
