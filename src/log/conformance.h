#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "base/error.h"
#include "log/log.h"

// What every log device must do: the suite's tests are in conformance.cpp, and in conformance_survivors.cpp,
// conformance_damage.cpp and conformance_model.cpp beside it. A device's own test brings a Place and instantiates the
// suite:
//
//   INSTANTIATE_TEST_SUITE_P(Memory, LogConformance, testing::Values(DeviceUnderTest{"memory", make_memory_place}));
namespace workmill::log {

struct PlaceOptions {
  std::uint32_t segment_bytes = 64 << 10;
  Durability durability = Durability::sync;
  std::size_t recent_bytes = 4 << 20;  // 0: as good as everything is read from the device.
};

// Where a log lies, and what a test may do to it behind the log's back. Outlives the logs that are opened on it.
class Place {
 public:
  virtual ~Place() = default;
  virtual Result<std::unique_ptr<Log>> open(PlaceOptions const& options) = 0;
  // The process dies here: no destructor does anything orderly, and what was written stays.
  virtual void kill(std::unique_ptr<Log> log) = 0;

  // The segments as they are on the device, for tests that damage them while no log is open.
  virtual std::vector<std::uint32_t> ordinals() const = 0;
  virtual Bytes bytes_of(std::uint32_t ordinal) const = 0;
  virtual void replace(std::uint32_t ordinal, Bytes const& bytes) = 0;
  virtual void remove(std::uint32_t ordinal) = 0;
};

struct DeviceUnderTest {
  std::string name;
  std::unique_ptr<Place> (*make_place)();
};
inline void PrintTo(DeviceUnderTest const& device, std::ostream* out) { *out << device.name; }
inline std::string name_of(testing::TestParamInfo<DeviceUnderTest> const& info) { return info.param.name; }

class LogConformance : public testing::TestWithParam<DeviceUnderTest> {
 protected:
  std::unique_ptr<Place> place_ = GetParam().make_place();
};

// A batch as a test remembers it.
struct KnownBatch {
  Position base;
  Instant at;
  Bytes payload;
  bool operator==(KnownBatch const&) const = default;
};
std::ostream& operator<<(std::ostream& out, KnownBatch const& batch);

// An open log with what came out of its replay. Everything asserted on the way that a test does not look at itself.
struct Opened {
  std::unique_ptr<Log> log;
  ReplayReport report;
  std::vector<KnownBatch> batches;
  Epoch epoch{};
};
Opened open_log(Place& place, PlaceOptions const& options = {});
Result<Opened> try_open_log(Place& place, PlaceOptions const& options = {});

// Stages one batch and remembers it; `at` is `ms` after the epoch.
KnownBatch stage(Log& log, Bytes payload, int ms = 0);
KnownBatch append(Log& log, Bytes payload, int ms = 0);  // Flushed as well.
// Appends `count` batches of noise, a flush each, at 0, 1, 2… ms, and remembers them behind `known`.
void append_many(Log& log, std::vector<KnownBatch>& known, int count, int payload_bytes);
void append_many(Log& log, std::vector<KnownBatch>& known, int count, std::function<int(int)> const& payload_bytes);

Bytes noise(std::size_t size, std::uint64_t seed = 1);
// The payload as the log gives it back, or "error: …".
Bytes read(Log& log, KnownBatch const& batch);

}  // namespace workmill::log
