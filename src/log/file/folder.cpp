#include "log/file/folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

namespace workmill::log {
namespace {

constexpr std::string_view kSuffix = ".wal";

}  // namespace

std::string segment_file_name(std::uint32_t ordinal) { return fmt::format("{:08}{}", ordinal, kSuffix); }

std::optional<std::uint32_t> segment_ordinal(std::string_view name) {
  if (!name.ends_with(kSuffix)) return {};
  name.remove_suffix(kSuffix.size());
  std::uint32_t ordinal = 0;
  auto const [end, error] = std::from_chars(name.data(), name.data() + name.size(), ordinal);
  if (error != std::errc{} || end != name.data() + name.size() || name.size() < 8 || ordinal == 0) return {};
  return ordinal;
}

std::unexpected<Error> io_error(std::string_view what, std::string_view path, int error) {
  ErrorCode const code = error == ENOSPC || error == EDQUOT ? ErrorCode::disk_full : ErrorCode::io_failed;
  return fail(code, fmt::format("cannot {} {}: {}", what, path, std::generic_category().message(error)));
}

std::unexpected<Error> in_use(int lock, std::string const& folder) {
  std::array<char, 32> holder{};
  ssize_t const size = ::pread(lock, holder.data(), holder.size(), 0);
  std::string_view pid{holder.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
  pid = pid.substr(0, pid.find('\n'));
  return fail(ErrorCode::log_in_use,
              fmt::format("{} is in use by process {}: one server to a folder", folder, pid.empty() ? "?" : pid));
}

}  // namespace workmill::log
