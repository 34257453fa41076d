#include "protocols/http/openapi.h"

#include <cstddef>

namespace workmill::http {

// Made from openapi.json at build time: cmake/WorkmillEmbed.cmake.
extern char const kOpenapiJson[];
extern std::size_t const kOpenapiJsonBytes;

std::string_view openapi_document() { return {kOpenapiJson, kOpenapiJsonBytes}; }

}  // namespace workmill::http
