#pragma once
#include <string_view>

// The description of the API, as served at /openapi.json: the file openapi.json beside this one, built in.
namespace workmill::http {

std::string_view openapi_document();

}  // namespace workmill::http
