#include "app/descriptors.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "protocols/http/limits.h"
#include "telemetry/process_metrics.h"

namespace workmill::app {

Result<DescriptorRoom> share_descriptors(std::uint64_t max, std::uint64_t open, std::uint32_t io_threads) {
  constexpr std::uint64_t kMost = std::numeric_limits<int>::max();  // That is what a descriptor is.
  max = std::min(max, kMost);
  std::uint64_t const kept = kDescriptorsKept + kDescriptorsKeptEachThread * io_threads;
  // Those that are told that there are too many have one each, too.
  std::uint64_t const least = open + kept + (kConnectionsLeast + http::kTurnedAwayMax) * std::uint64_t{io_threads};
  if (max < least) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the process may have {} files open, and {} I/O threads need {}: raise `ulimit -n`, or "
                            "LimitNOFILE= in the unit",
                            max, io_threads, least));
  }
  std::uint64_t const each = (max - open - kept) / io_threads - http::kTurnedAwayMax;
  return DescriptorRoom{
      .descriptors_max = max, .connections_max = static_cast<std::uint32_t>(each), .connections_from = max - kept};
}

Result<DescriptorRoom> take_descriptors(std::uint32_t io_threads) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return fail(ErrorCode::io_failed,
                "cannot ask for the limit of open files: " + std::generic_category().message(errno));
  }
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;  // Else it is as it was.
  return share_descriptors(limit.rlim_cur, telemetry::open_files(), io_threads);
}

}  // namespace workmill::app
