#pragma once

// WM_MUTATION(name): is the program to be broken in this way? Never, but in a build of its own (-DWM_MUTATIONS=ON),
// which proves that the simulation would find such a mistake: sim/mutation.h lists them, and turns one on.
#ifdef WM_MUTATIONS
#include <string_view>

namespace workmill {
inline std::string_view mutation;  // One at a time, set before anything else runs.
inline bool is_mutated(std::string_view name) { return mutation == name; }
}  // namespace workmill

#define WM_MUTATION(name) ::workmill::is_mutated(#name)
#else
#define WM_MUTATION(name) false
#endif
