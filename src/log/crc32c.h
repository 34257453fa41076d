#pragma once
#include <cstdint>

#include "base/bytes.h"

// CRC32C (Castagnoli, reflected, as in iSCSI, RFC 3720): the checksum of everything in the log.
//
// By the processor's own instruction where it has one (SSE4.2), three streams at once, because one stream waits three
// cycles for each eight bytes; by table elsewhere. Pure functions; any thread.
namespace workmill::log {

// The checksum of `data`, or of everything before it as well: crc32c(b, crc32c(a)) is crc32c(a + b).
std::uint32_t crc32c(BytesView data, std::uint32_t before = 0);

// The same by table, on any machine. Here for the test that holds the two together, and for its bench.
std::uint32_t crc32c_portable(BytesView data, std::uint32_t before = 0);

}  // namespace workmill::log
