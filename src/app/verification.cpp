#include "app/verification.h"

#include <chrono>
#include <string_view>

namespace workmill::app {

Result<std::unique_ptr<log::Verifier>> start_verifier(Config const& config, Clock const& clock,
                                                      telemetry::Logger& logger, telemetry::Metrics& metrics) {
  if (config.verify_bytes_per_second == 0) return std::unique_ptr<log::Verifier>{};
  WM_TRY(auto verifier,
         log::Verifier::start(
             {.folder = config.data, .bytes_per_second = config.verify_bytes_per_second, .every = config.verify_every},
             clock, [&logger](log::Verifier::Finding const& found) {
               logger.error("the log is damaged on the disk; a server would refuse to start on it",
                            {{"file", found.file}, {"offset", found.offset}, {"what", found.what}});
             }));
  metrics.add_collector([it = verifier.get()](telemetry::MetricsWriter& out) {
    log::VerifierFigures const figures = it->figures();
    out.counter("workmill_verify_bytes_total", "Of the log on disk, read again and found right.", {},
                static_cast<double>(figures.bytes));
    out.counter("workmill_verify_passes_total", "Passes over all full segments.", {},
                static_cast<double>(figures.passes));
    out.counter("workmill_verify_damaged_total", "Places of the log found damaged on the disk.", {},
                static_cast<double>(figures.damaged));
    out.gauge("workmill_verify_last_pass_timestamp_seconds", "When the last pass ended; 0 before the first.", {},
              std::chrono::duration<double>(figures.last_pass_at.time_since_epoch()).count());
  });
  return verifier;
}

std::function<void(JobNumber, Error const&)> damage_reporter(JobIdCodec const& ids, telemetry::Logger& logger,
                                                             telemetry::Metrics& metrics) {
  auto& damaged =
      metrics.counter("workmill_damaged_jobs_total", "Jobs of which something could not be read back from the disk.");
  return [ids, &logger, &damaged](JobNumber job, Error const& error) {
    damaged.add();
    auto const id = ids.encode(job);
    logger.error("a part of a job is damaged on the disk",
                 {{"job", std::string_view{id.data(), id.size()}}, {"error", describe(error)}});
  };
}

std::function<void(Error const&)> cache_damage_reporter(telemetry::Logger& logger) {
  return [&logger](Error const& error) {
    logger.error("cached values are damaged on the disk and are forgotten", {{"error", describe(error)}});
  };
}

std::function<void(shard::Shortage const&)> shortage_reporter(telemetry::Logger& logger) {
  return [&logger](shard::Shortage const& is) {
    if (is.of == shard::Shortage::Of::disk) {
      auto& log = logger.of(telemetry::LogComponent::log);
      if (is.begins) {
        log.warn("the disk is nearly full: new jobs are refused, while reports and deletions go on",
                 {{"free_bytes", is.bytes},
                  {"disk_reserve_bytes", is.bound},
                  {"room_for_next_segment", !is.next_has_no_room}});
      } else {
        log.info("the disk has space again: new jobs are taken",
                 {{"free_bytes", is.bytes}, {"disk_reserve_bytes", is.bound}});
      }
      return;
    }
    auto& log = logger.of(telemetry::LogComponent::shard);
    if (is.begins) {
      log.warn("jobs take as much memory as they may: new ones are refused, while reports and deletions go on",
               {{"used_bytes", is.bytes}, {"jobs_memory_max_bytes", is.bound}});
    } else {
      log.info("jobs take less memory than they may: new ones are taken",
               {{"used_bytes", is.bytes}, {"jobs_memory_max_bytes", is.bound}});
    }
  };
}

}  // namespace workmill::app
