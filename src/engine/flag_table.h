#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "flags/flag_set.h"
#include "model/effect.h"
#include "model/segment_counts.h"

// The flags of a store, each with its last changes: as they stand in the log,
// and decoded.
//
// Of a flag the newest kChangesMax changes are kept, as long as their
// definitions take kChangeBytesMax together; the newest always is. So what is
// kept follows from the changes alone, and a replay keeps the same. Each kept
// change holds its record in the log alive. One owner, one thread; what set()
// answers may be shared.
namespace workmill::engine {

class FlagTable {
 public:
  static constexpr std::size_t kChangesMax = 100;
  static constexpr std::size_t kChangeBytesMax = std::size_t{64} << 10;

  struct Change {
    std::uint64_t version = 0;
    Instant at{};
    std::string by;
    Bytes definition;
    Position stands_at{};
    std::uint32_t bytes = 0;  // Of the record.

    effect::FlagChanged effect(std::string_view key) const {
      return {.key = key, .version = version, .at = at, .by = by, .definition = definition};
    }
  };
  using Changes = std::deque<Change>;  // Oldest first, with no version left out.

  explicit FlagTable(SegmentCounts& segments) : segments_(segments) {}
  FlagTable(FlagTable const&) = delete;
  FlagTable& operator=(FlagTable const&) = delete;

  std::size_t size() const { return by_key_.size(); }
  // Nothing where there is no such flag.
  Changes const* find(std::string_view key) const;
  // In the order of keys.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (auto const& [key, changes] : by_key_) visit(std::string_view{key}, changes);
  }
  // The largest version that a flag had which was removed. One that is made anew goes on above it: whoever polls by
  // versions sees that it is another one.
  std::uint64_t removed_version() const { return removed_version_; }
  flags::FlagSetPtr const& set() const { return set_; }
  std::uint64_t revision() const { return revision_; }  // Another one after each change of the set.
  bool stands_on(effect::FlagChanged const& record, Position at) const;

  // A new version, or the copy of one that is kept: then only its record is
  // another. The definition decodes.
  void apply(effect::FlagChanged const& e, EffectSink::Written w);
  void apply(effect::FlagRemoved const& e);
  void apply(effect::StoreCreated const& e) { removed_version_ = std::max(removed_version_, e.last_flag_version); }
  // While the log is replayed no set is made. log_corrupt where a definition is
  // damaged.
  static Result<> check(effect::FlagChanged const& e);
  void finish_replay();

 private:
  void shorten(Changes& changes);
  void drop_oldest(Changes& changes);
  void publish();

  SegmentCounts& segments_;
  std::map<std::string, Changes, std::less<>> by_key_;
  std::uint64_t removed_version_ = 0;
  bool is_live_ = false;
  flags::FlagSetPtr set_ = std::make_shared<flags::FlagSet const>();
  std::uint64_t revision_ = 0;
};

}  // namespace workmill::engine
