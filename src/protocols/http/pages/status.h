#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/reply.h"
#include "service/service.h"
#include "telemetry/stage_times.h"
#include "telemetry/thread_times.h"

// The figures of the whole server into text.
namespace workmill::http {

std::string_view to_string(service::Readiness readiness);  // "ready", "disk_full"…

// What the front end adds.
// How calls that asked for a cached value went, since the process started, over all I/O threads.
struct CacheCallFigures {
  std::uint64_t hit = 0, stale = 0, miss = 0, computed = 0, coalesced = 0, failed = 0, pending = 0;
};

struct FrontEndFigures {
  std::span<Fullness const> bounds;                 // Of the I/O thread that answers.
  telemetry::StageTimes const* stages = nullptr;    // None: they are not measured.
  telemetry::ThreadTimes const* threads = nullptr;  // None: nobody samples them.
  std::uint64_t connections = 0;                    // That came in.
  std::uint64_t requests = 0;                       // Answered.
  std::uint64_t refused = 0;                        // Of these: too large, or too many.
  CacheCallFigures cache{};
};

// GET /v1/status.
void append_status(StatusReply const& status, FrontEndFigures const& front_end, service::Service const& service,
                   std::string& out);

}  // namespace workmill::http
