#pragma once
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

// What lies in a data folder and is called how (docs/log-format.md), and how the system's errors are told of.
namespace workmill::log {

inline constexpr char const* kLockFile = "LOCK";
inline constexpr char const* kSpareFile = "spare.wal";
inline constexpr char const* kNewFile = "new.tmp";

std::string segment_file_name(std::uint32_t ordinal);
// Nothing for the names of other files.
std::optional<std::uint32_t> segment_ordinal(std::string_view name);

// disk_full where the system has no room, else io_failed: "cannot WHAT PATH: reason".
std::unexpected<Error> io_error(std::string_view what, std::string_view path, int error);

// "is in use by process N": of a folder whose lock file, open as `lock`, somebody else holds.
std::unexpected<Error> in_use(int lock, std::string const& folder);

}  // namespace workmill::log
