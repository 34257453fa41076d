#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "cache/cache.h"
#include "model/effect.h"
#include "model/position.h"
#include "model/segment_counts.h"
#include "shard/batch.h"
#include "shard/job_reader.h"

// Between the batch and the index: what is decided of the shared cache and not durable yet.
//
// Every thread reads the index (cache/cache.h), so nothing gets there before it is on disk: the desk hears of each
// effect as it is written, keeps it, and publishes it when its batch is durable, before an answer of that batch leaves.
// The shard itself looks here first. On the shard's thread.
namespace workmill::shard {

// How much of what takes long one turn does. The defaults are well below a millisecond's work.
struct CacheDeskOptions {
  std::size_t looks_per_part = 4'096;  // Of a walk over the index. An entry is a miss of the processor's cache or two.
  std::size_t found_per_part = 500;
  std::size_t swept_per_turn = 1'024;  // Places of the index that are looked at for what is over.
  // Bytes of records of what is gone, at least; a turn that follows a larger one writes as many as that (write_gone()).
  std::size_t gone_bytes_min = std::size_t{64} << 10;
};

class CacheDesk final : public CacheWatch {
 public:
  // `on_damage` is told of an entry whose value the disk has lost: once, as it is forgotten then.
  CacheDesk(CacheDeskOptions options, cache::Cache& index, JobReader& reader,
            std::function<void(Error const&)> on_damage)
      : options_(options), index_(index), reader_(reader), on_damage_(std::move(on_damage)) {}

  // An effect of the cache. No position: it is not written down (it is volatile).
  void changed(Effect const& effect, EffectSink::Written written) override;
  void landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) override;
  // What has changed since the last call rests on batch number `batch`.
  void staged(std::uint64_t batch);
  // All batches up to this one are on disk: publishes what rests on them.
  void durable(std::uint64_t batch);

  // What there is for a key, as it is decided.
  cache::Lookup look(std::string_view key, Instant now) const;
  // Likewise: is there a value that has this tag, and is not over?
  bool has_tag(std::string_view key, std::string_view tag, Instant now) const;
  // The newest value that was stored under a key and is not published, however short its time and whatever came after.
  struct Made {
    CacheValuePtr value;
    CacheTimes times;
    bool is_kept = true;  // False: it was over at once, or overtaken. It is for those who wait for it.
  };
  std::optional<Made> made(std::string_view key) const;
  // What a flight has computed in this turn, however short its time and whatever came after: what those who wait for it
  // are answered with.
  Made const* landed(JobNumber flight) const;
  // The keys of values that were stored in this turn, in their order, one perhaps more than once. Good until the next
  // change.
  std::vector<std::string const*> stored_now() const;
  // What is to be called before read_cold() of this key, on another thread, so that it waits for no device: see
  // log::Log.
  std::move_only_function<void()> fetch(std::string_view key);
  // Reads a cold value back, into the index too. Nothing where it is damaged: then the entry is forgotten. io_failed.
  Result<CacheValuePtr> read_cold(std::string_view key, std::uint64_t etag);
  // Its record is still to be read, whatever becomes of the key: the segment does not begin to go.
  void hold(cache::Place const& place) { held_.add(place.at, place.bytes); }
  void release(cache::Place const& place) { held_.drop(place.at, place.bytes); }
  bool is_held_in(std::uint32_t segment) const { return held_.in(segment) > 0; }
  // The same of a value that stood there when look() found it, and has been put or deleted since: nothing becomes of
  // the index. Nothing also where its segment has gone.
  Result<CacheValuePtr> read_outdated(std::string_view key, cache::Place place, std::uint64_t etag);

  // Keys to be forgotten, in parts: those that are not published first, then some of the index. `cursor` is 0 at first,
  // and kAllFound when all were seen. Exactly one of `tag` and `prefix` is set. What was there at the first part is
  // found, unless something took its place; what was put since then may be found or not,
  // and what is over is not there.
  static constexpr std::uint64_t kAllFound = UINT64_MAX;
  void find_by(std::string_view tag, std::string_view prefix, Instant now, std::uint64_t& cursor,
               std::vector<std::string>& out) const;

  // Keys that are gone from the index while a record of theirs is still in the log: they gave way to others, or what
  // they stood on is damaged. It is to be written down, some in each turn, or a restart brings a value back. Up to
  // `most`, appended to `out`; those that have a newer value meanwhile are left out. One may have a newer failure
  // (look()): whoever writes down that the key is gone has to write that again behind it.
  void take_gone(std::size_t most, std::vector<std::string>& out);
  bool has_gone() const { return !damaged_keys_.empty() || index_.has_evicted(); }

  // --- For the keeper of the log. As long as something of a segment waits to be published, the segment stays.
  std::uint64_t live_records_in(std::uint32_t segment) const {
    return index_.live_records_in(segment) + waiting_.in(segment);
  }
  bool is_waiting_in(std::uint32_t segment) const { return waiting_.in(segment) > 0; }
  std::uint64_t live_bytes() const { return index_.live_bytes() + waiting_.bytes(); }
  // A record of the oldest segment, which is to go: writes its copy, if a key stands on it. So many bytes were written.
  std::uint64_t survive(Effect const& record, Position at, Instant now, Batch& batch);
  // What stands in a segment from `from` to before `until` cannot be read: forgets such values, and writes failures
  // again, which are in memory. In parts, until `cursor` is done. So many values; the bytes are added to `copied`.
  std::size_t forget_damaged(Position from, Position until, cache::Cursor& cursor, Batch& batch, std::uint64_t& copied);
  void tell_damage(Error const& error) const {
    if (on_damage_) on_damage_(error);
  }

  // Drops some of what is over. So many places of the index were looked at.
  std::size_t sweep(Instant now);

  CacheDeskOptions const& options() const { return options_; }
  cache::Cache const& index() const { return index_; }
  std::uint64_t damaged() const { return damaged_; }
  std::uint64_t cold_reads() const { return cold_reads_; }

 private:
  struct Change {
    enum class What : std::uint8_t { stored, failed, forgotten, moved };
    What what{};
    std::uint64_t batch = 0;  // Rests on this one.
    std::string key;
    CacheValuePtr value{};
    CacheTimes times{};
    Bytes tags{};
    CacheFailure failure{};
    cache::Place place{};
    Position from{};  // Moved: where it stood.
  };
  // What all changes of a key together come to.
  struct Decided {
    std::size_t changes = 0;  // Not published.
    bool is_value_decided = false;
    bool is_failure_decided = false;
    CacheValuePtr value{};  // Null: forgotten.
    CacheTimes times{};
    std::optional<CacheFailure> failure{};
    std::optional<Made> made{};
    Bytes tags{};
  };

  Change& add(Change::What what, std::string_view key, EffectSink::Written written);
  void publish(Change& change);
  // log_corrupt where another thing stands there.
  Result<CacheValuePtr> read_value(std::string_view key, cache::Place place, std::uint64_t etag);
  void forget_value(std::string_view key);
  std::uint64_t write_failure_again(std::string const& key, Batch& batch);

  CacheDeskOptions options_;
  cache::Cache& index_;
  JobReader& reader_;
  std::function<void(Error const&)> on_damage_;
  std::deque<Change> changes_;                           // In their order; bounded by the bytes that may be staged.
  std::size_t unstaged_ = 0;                             // So many, the newest, rest on the batch that is being filled.
  std::map<std::string, Decided, std::less<>> decided_;  // Ordered: what is found here is written down.
  std::map<JobNumber, Made> landed_;                     // In this turn.
  SegmentCounts waiting_;
  SegmentCounts held_;
  std::vector<std::string_view> tags_;  // Reused.
  std::vector<std::string> damaged_keys_;
  std::uint64_t damaged_ = 0;
  std::uint64_t cold_reads_ = 0;
};

}  // namespace workmill::shard
