#pragma once
#include <cstdint>

#include "model/cache.h"

// Where cached values are in memory. Those of up to 32 KiB with their keys are in a pool of blocks (base/block_pool.h)
// that all values of the process share, as they outlive their caches and are made by threads that know of none. Larger
// ones are the program's allocator's.
//
// That pool gets scattered as the sizes of values change. Then whoever keeps values for long and finds one that should
// move puts a copy in its place; memory goes back to the system once all are gone from where it was. Any thread may
// call everything here.
namespace workmill {

// Whether it is worth while to look for values that should move: a look at one number.
bool should_cache_values_move();
// This one should. Of its copy it is rarely true, and that comes to an end as pages fill up.
bool should_move(CacheValue const& value);
// An equal one, somewhere else.
CacheValuePtr copy_of(CacheValue const& value);

// Of the pool, in bytes: what it takes, and what of that is lost, as no value is there. Zeros in builds with the
// address sanitizer, in which each value is by itself.
struct CacheValueMemory {
  std::uint64_t held_bytes = 0;
  std::uint64_t lost_bytes = 0;
};
CacheValueMemory cache_value_memory();

}  // namespace workmill
