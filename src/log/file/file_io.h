#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/error.h"

// Calls of the system on open files, repeated until they are done. Any thread.
namespace workmill::log {

// Fills `out` from `offset` on; fewer bytes where the file ends before. Nothing on an error, which is in errno.
std::optional<std::size_t> read_at(int fd, std::uint64_t offset, std::span<char> out);
// The same for a caller that has the path at hand; io_failed.
Result<std::size_t> read_at(int fd, std::uint64_t offset, std::span<char> out, std::string const& path);

// Whether the system has all of these bytes in memory, so that reading them waits for no device. True where it cannot
// tell.
bool is_at_hand(int fd, std::uint64_t offset, std::uint64_t bytes);
// Reads them for nothing but that: then they are, for a while. What cannot be read is left out.
void read_through(int fd, std::uint64_t offset, std::uint64_t bytes);

// All of `bytes`. io_failed, disk_full.
Result<> write_at(int fd, std::uint64_t offset, BytesView bytes, std::string const& path);

// io_failed, disk_full. After an error nobody knows what is on disk, and a second call may say that all is well.
Result<> sync_file(int fd, std::string const& path);
Result<> sync_folder(std::string const& folder);
// The folder that `path` is in: what was made or renamed is an entry there.
Result<> sync_parent(std::string const& path);

}  // namespace workmill::log
