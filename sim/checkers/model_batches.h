#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "base/bytes.h"
#include "base/time.h"
#include "model/batch.h"

// What the model knows of a batch.
namespace workmill::sim {

struct ModelBatch {
  std::uint64_t number = 0;
  std::optional<Instant> closed_at;
  Instant changed_at{};                                // Made, closed, called back, lost a job.
  Instant touched_at{};                                // A job in it was in a record, or the server began anew.
  std::set<std::uint64_t> jobs;                        // In it, and still there.
  GoneJobs gone;                                       // The others.
  std::array<Bytes, kCallbackKinds> specs;             // Of its callbacks, as they were sent. Empty: none.
  std::array<std::uint64_t, kCallbackKinds> called{};  // The jobs that they are; 0: not yet.
  std::string meta, traceparent, tracestate;
};

}  // namespace workmill::sim
