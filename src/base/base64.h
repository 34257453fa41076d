#pragma once
#include <optional>
#include <string>

#include "base/bytes.h"

// Base64 (RFC 4648). Pure functions.
namespace workmill {

// The standard alphabet, with padding. Appends to `out`.
void append_base64(BytesView bytes, std::string& out);
// Appends the bytes to `out`. False, and `out` as it was, where `text` is not exactly what append_base64 writes for
// some bytes: padding is required, the bits that it leaves over are zero, and white space is no part of it.
bool decode_base64(std::string_view text, Bytes& out);

// The URL-safe alphabet, without padding: for opaque texts that stand in URLs.
std::string base64url(BytesView bytes);
std::optional<Bytes> decode_base64url(std::string_view text);

}  // namespace workmill
