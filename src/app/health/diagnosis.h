#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "app/health/snapshot.h"

// What limits a server now, in plain words: rules over two snapshots, a few seconds apart.
//
// Pure: no I/O, no clock. Each rule looks for one cause and keeps silent where a figure that it needs is missing. What
// is doing its job is no finding: an admission limit that is full has something behind it that fills it, and that is
// named.
namespace workmill::app::health {

struct Finding {
  std::string_view code;  // For programs: "disk_flush", "hot_queue"… See docs/reference/cli.md.
  std::string what;       // What limits, with the numbers; a sentence.
  std::string why;        // What that means.
  std::string advice;     // What to do.
};

// Of both, `after` is the later one, by `seconds` (more than 0). What limits most comes first; empty: nothing does.
// Causes come before what they cause: a full queue of requests behind a slow disk is the disk's doing.
std::vector<Finding> diagnose(Snapshot const& before, Snapshot const& after, double seconds);

// The figures that the verdict "nothing limits" rests on, as a sentence.
std::string figures(Snapshot const& before, Snapshot const& after, double seconds);

// ---- Where each rule begins. Below these a figure is ordinary.
inline constexpr double kFlushShare = 0.5;            // Of the time, spent flushing.
inline constexpr double kBusy = 0.7;                  // Of a core, by one thread: from here on queues grow quickly.
inline constexpr double kWaiting = 0.1;               // Of the time, ready to run and without a core: worth a word.
inline constexpr double kFull = 0.9;                  // Of a bound.
inline constexpr double kHotShare = 0.8;              // Of all jobs, in one queue.
inline constexpr double kConnectionsEach = 0.5;       // For a request.
inline constexpr double kRequestsPerSecond = 20;      // Fewer say nothing about how clients connect.
inline constexpr double kRefusedShare = 0.05;         // Of requests.
inline constexpr double kWaitSeconds = 2;             // That the first job in line has waited.
inline constexpr double kForgottenSeconds = 60;       // The same, where nobody takes jobs and none come in.
inline constexpr double kFailingShare = 0.5;          // Of the attempts of a queue that ended.
inline constexpr std::uint64_t kFailingAttempts = 5;  // As many at least, or it is chance.
inline constexpr Duration kCertificateEndsSoon = std::chrono::days{14};
inline constexpr std::uint64_t kDiskFreeBytes = std::uint64_t{512} << 20;

}  // namespace workmill::app::health
