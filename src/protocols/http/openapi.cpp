#include "protocols/http/openapi.h"
namespace workmill::http {
std::string_view openapi_document() { return "{}"; }
}  // namespace workmill::http
