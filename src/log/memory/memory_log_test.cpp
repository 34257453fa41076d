#include "log/memory/memory_log.h"

#include "log/conformance.h"

namespace workmill::log {
namespace {

class MemoryPlace final : public Place {
 public:
  Result<std::unique_ptr<Log>> open(PlaceOptions const& options) override {
    return open_memory_log(disk_, {.segment_bytes = options.segment_bytes,
                                   .durability = options.durability,
                                   .recent_bytes = options.recent_bytes,
                                   .log_id = 0x5eed});
  }
  void kill(std::unique_ptr<Log> log) override { log.reset(); }

  std::vector<std::uint32_t> ordinals() const override {
    std::vector<std::uint32_t> ordinals;
    for (DiskFile const& file : disk_.files()) ordinals.push_back(file.ordinal);
    return ordinals;
  }
  Bytes bytes_of(std::uint32_t ordinal) const override { return disk_.bytes_of(ordinal); }
  void replace(std::uint32_t ordinal, Bytes const& bytes) override { disk_.replace(ordinal, bytes); }
  void remove(std::uint32_t ordinal) override { disk_.remove(ordinal); }

 private:
  MemoryDisk disk_;
};

std::unique_ptr<Place> make_memory_place() { return std::make_unique<MemoryPlace>(); }

INSTANTIATE_TEST_SUITE_P(InMemory, LogConformance, testing::Values(DeviceUnderTest{"memory", make_memory_place}),
                         name_of);

}  // namespace
}  // namespace workmill::log
