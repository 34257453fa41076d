#include "log/log_scan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "log/conformance.h"
#include "log/memory/memory_disk.h"
#include "log/memory/memory_log.h"

namespace workmill::log {
namespace {

// What a scan has found, as values.
class Notes final : public ScanVisitor {
 public:
  Result<> frame(FrameHeader const& header, BytesView payload) override {
    if (header.kind == FrameKind::batch) batches.emplace_back(payload);
    return {};
  }
  void damage(Damage const& found, BytesView unsound) override {
    damages.push_back(found);
    guesses.emplace_back(unsound);
  }
  std::vector<Bytes> batches;
  std::vector<Damage> damages;
  std::vector<Bytes> guesses;
};

struct Written {
  MemoryDisk disk;
  std::vector<KnownBatch> known;
};

// Some twenty batches over several segments of 4 KiB, ended in order.
void fill(Written& out) {
  auto log = open_memory_log(out.disk, {.segment_bytes = 4096, .log_id = 7});
  RC_ASSERT(log.has_value());
  auto const nothing = [](ReplayedBatch const&) -> Result<> { return {}; };
  RC_ASSERT((*log)->replay(nothing, {}).has_value());
  RC_ASSERT((*log)->own().has_value());
  append_many(**log, out.known, 20, 700);
}

Notes scan(MemoryDisk& disk, ScanReport* report = nullptr) {
  Notes notes;
  auto const opened = disk.open();
  auto const done = scan_log(*opened, {}, notes, {});
  RC_ASSERT(done.has_value());
  if (report != nullptr) *report = *done;
  return notes;
}

RC_GTEST_PROP(LogScan, ReadsAllOfALogThatIsWhole, ()) {
  Written written;
  fill(written);

  auto const notes = scan(written.disk);

  RC_ASSERT(notes.damages.empty());
  RC_ASSERT(notes.batches.size() == written.known.size());
}

RC_GTEST_PROP(LogScan, ATurnedBitCostsOneBatchAtMostAndIsNamed, ()) {
  Written written;
  fill(written);
  auto const& hit = written.known[*rc::gen::inRange<std::size_t>(0, written.known.size() - 1)];
  std::uint64_t const frame = hit.base.offset - kFrameHeaderBytes;
  auto const size = static_cast<std::uint64_t>(kFrameHeaderBytes + hit.payload.size());
  RC_ASSERT(written.disk.flip_bit(hit.base.segment, frame + *rc::gen::inRange<std::uint64_t>(0, size),
                                  *rc::gen::inRange(0, 8)));

  ScanReport report;
  auto const notes = scan(written.disk, &report);

  RC_ASSERT(report.damages.size() == 1U);
  RC_ASSERT(report.damages.front().ordinal == hit.base.segment);
  RC_ASSERT(report.damages.front().from == frame);
  RC_ASSERT(report.damages.front().frames_lost == 1U);
  std::vector<Bytes> wanted;
  for (auto const& batch : written.known) {
    if (batch.base != hit.base) wanted.push_back(batch.payload);
  }
  RC_ASSERT(notes.batches == wanted);
}

TEST(LogScan, AMissingSegmentIsNamedAndTheOthersAreRead) {
  Written written;
  fill(written);
  std::uint32_t const gone = 2;
  written.disk.remove(gone);

  ScanReport report;
  auto const notes = scan(written.disk, &report);

  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_EQ(report.damages.front().kind, DamageKind::missing_segment);
  EXPECT_EQ(report.damages.front().ordinal, gone);
  auto const held = static_cast<std::size_t>(std::count_if(
      written.known.begin(), written.known.end(), [](KnownBatch const& batch) { return batch.base.segment == gone; }));
  EXPECT_EQ(report.damages.front().frames_lost, held);
  EXPECT_EQ(notes.batches.size() + held, written.known.size());
}

TEST(LogScan, GoesOnBehindASegmentHeaderThatIsDamaged) {
  Written written;
  fill(written);
  ASSERT_TRUE(written.disk.flip_bit(2, 20, 3));

  auto const notes = scan(written.disk);

  ASSERT_EQ(notes.damages.size(), 1U);
  EXPECT_EQ(notes.damages.front().kind, DamageKind::segment_header);
  EXPECT_EQ(notes.batches.size(), written.known.size());
}

}  // namespace
}  // namespace workmill::log
