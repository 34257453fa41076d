#pragma once
#include <string_view>

namespace workmill::app {

// The commit that this was built from, 12 hex digits; "unknown" where it was built outside of git. Written by
// cmake/WorkmillRevision.cmake at each build.
std::string_view revision();

}  // namespace workmill::app
