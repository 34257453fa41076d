#pragma once
#include <absl/container/btree_map.h>
#include <absl/container/btree_set.h>
#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "engine/engine.h"
#include "model/batch.h"
#include "model/command.h"
#include "model/effect.h"
#include "model/segment_counts.h"

// The batches of a store, which jobs are in them, and what follows from both: whose callbacks are due, and which are
// kept only to be looked at.
//
// What a batch knows of jobs that are gone stands in the log: in the records of their going, and in the batch's own
// copy. Those that are there are counted by their states. So a replay that begins in the midst of the log, where many
// of them are not known yet, comes to the same figures at its end: until then they are only named, and
// finish_replay() counts them. A job that names a batch is in it if its number is larger: one with a smaller number was
// put into an earlier batch of that id.
//
// A job that is in no batch costs nothing here. One owner, one thread.
namespace workmill::engine {

class BatchTable {
 public:
  struct Callback {
    std::string queue;  // Of its job. Empty: the batch was made without it.
    Bytes spec;         // As it was sent, while it may still come.
    JobNumber job{};    // Once it is enqueued.
    bool exists() const { return !queue.empty(); }
    bool is_enqueued() const { return job != JobNumber{}; }
  };
  struct Batch {
    BatchNumber number{};
    std::string id;
    std::optional<Instant> closed_at;
    Instant changed_at{};  // Made, closed, a callback enqueued, a job lost.
    GoneJobs gone;
    std::array<std::uint64_t, kJobStates> present{};  // Jobs that are there. During replay none is counted.
    std::uint64_t fingerprint = 0;                    // Of what it was made from.
    std::array<Callback, kCallbackKinds> callbacks;
    std::string meta, traceparent, tracestate;
    Position stands_at{};
    std::uint32_t bytes = 0;  // Of that record.

    bool is_due = false;                // In the index of those that are.
    std::optional<Instant> over_since;  // As this process has seen it, or the last that its log says of that.
    std::size_t over_bytes = 0;         // What it counts for among those that are over.
    std::optional<Instant> keep_until;  // In the index of those that are kept only to be looked at.

    Callback const& callback(CallbackKind kind) const { return callbacks[static_cast<std::size_t>(kind)]; }
    std::uint64_t present_in(JobState state) const { return present[static_cast<std::size_t>(state)]; }
    std::uint64_t pending() const {
      return present_in(JobState::scheduled) + present_in(JobState::ready) + present_in(JobState::leased);
    }
    // May this callback be enqueued now?
    bool is_due_for(CallbackKind kind) const;
    CallbackState state_of(CallbackKind kind) const;
    BatchState state() const {
      return !closed_at ? BatchState::open : keep_until ? BatchState::over : BatchState::closed;
    }
    BatchView view() const;
    effect::BatchCopied copy() const;
  };

  // `now` is the time of the newest effect, and is followed.
  BatchTable(EngineOptions const& options, SegmentCounts& segments, Instant const& now)
      : max_(options.batches_max),
        memory_max_(options.batches_memory_max),
        kept_(options.batch_kept),
        now_(now),
        segments_(segments) {}
  BatchTable(BatchTable const&) = delete;
  BatchTable& operator=(BatchTable const&) = delete;

  static std::uint64_t fingerprint(BytesView on_success, BytesView on_finish, std::string_view meta);

  // --- To look at. What is answered is good until the next effect. Null: there is none.
  std::size_t size() const { return by_number_.size(); }
  bool is_full() const { return by_number_.size() >= max_; }
  // Bytes of callbacks and all else that was sent with the batches, as far as it is still needed.
  std::size_t content_bytes() const { return content_bytes_; }
  // The same without those that are over, which give way.
  std::size_t needed_bytes() const { return content_bytes_ - over_bytes_; }
  // Could there be room, when all have gone that are over? Is there, as it is?
  bool can_have_room_for(MakeBatch const& batch) const;
  bool has_room_for(MakeBatch const& batch) const;
  Batch const* find(BatchNumber number) const;
  Batch const* find(std::string_view id) const;
  // The batch that a job is in. Only of those whose slot says that they are in one.
  Batch const* batch_of(JobNumber job) const;
  // The first with a callback that is due; kNoBatch where there is none.
  static constexpr BatchNumber kNoBatch{};
  BatchNumber first_due() const { return due_.empty() ? kNoBatch : *due_.begin(); }
  // The one that goes first of those that are kept only to be looked at; and when.
  BatchNumber first_to_go() const { return kept_until_.empty() ? kNoBatch : kept_until_.begin()->second; }
  std::optional<Instant> next_to_go() const {
    return kept_until_.empty() ? std::nullopt : std::optional{kept_until_.begin()->first};
  }
  bool stands_on(BatchNumber number, Position at) const {
    Batch const* const batch = find(number);
    return batch != nullptr && batch->stands_at == at;
  }
  // In the order of numbers.
  template <class Visit>
  void walk(Visit const& visit) const {
    for (auto const& [number, batch] : by_number_) visit(*batch);
  }
  // From the first with this number or a larger one, for as long as `visit` says so.
  template <class Visit>
  void walk_from(BatchNumber first, Visit const& visit) const {
    for (auto at = by_number_.lower_bound(first); at != by_number_.end() && visit(*at->second); ++at) {
    }
  }
  // From the newest to the oldest, those before `before`, until `visit` says false.
  template <class Visit>
  void walk_older(BatchNumber before, Visit const& visit) const {
    for (auto it = by_number_.lower_bound(before); it != by_number_.begin();) {
      if (!visit(*(--it)->second)) return;
    }
  }
  // Those that are in a state.
  std::size_t count(BatchState state) const {
    switch (state) {
      case BatchState::open: return by_number_.size() - closed_;
      case BatchState::closed: return closed_ - kept_until_.size();
      case BatchState::over: return kept_until_.size();
    }
    return 0;
  }
  // Jobs that are, or were once, in a batch: with its number, in no order.
  template <class Visit>
  void walk_jobs(Visit const& visit) const {
    for (auto const& [job, batch] : batch_of_) visit(job, batch);
  }
  // Are the indexes what the batches say? An empty text means that they are.
  std::string check() const;
  std::size_t memory_bytes() const {
    return by_number_.size() * (sizeof(Batch) + 64) + content_bytes_ + batch_of_.capacity() * 17 + named_.size() * 24;
  }

  // --- To change it.
  void apply(effect::BatchMade const& e, std::array<std::string_view, kCallbackKinds> const& queues,
             EffectSink::Written w);
  void apply(effect::BatchClosed const& e);
  void apply(effect::BatchFired const& e);
  void apply(effect::BatchForgotten const& e);
  void apply(effect::BatchCopied const& e, EffectSink::Written w);

  // A job is made that names a batch, which is there but in a replay.
  void join(JobNumber job, std::string_view id);
  // A job that joined comes to a state, or leaves it. In life only.
  void enter(JobNumber job, JobState state);
  void leave(JobNumber job, JobState state);
  // A job that joined is gone.
  void part(JobNumber job);
  // A job that was in a batch is gone, as the log says: whether or not the job is known.
  void count_gone(BatchNumber batch, JobState last, Instant at);

  // The end of a replay. `find_id` is find(), knowing other spellings of an id; `state_of` is asked for the state of
  // each job that named a batch, and since when it is finished; `not_in` is told of those that are in none.
  template <class FindId, class StateOf, class NotIn>
  void finish_replay(FindId const& find_id, StateOf const& state_of, NotIn const& not_in) {
    for (auto const& [number, batch] : by_number_) batch->over_since = batch->changed_at;
    is_live_ = true;
    for (auto const& [job, place] : named_) {
      Batch const* const batch = find_id(ids_named_[place]);
      if (batch == nullptr || std::to_underlying(job) <= std::to_underlying(batch->number)) {
        not_in(job);
        continue;
      }
      batch_of_.emplace(job, batch->number);
      auto const [state, since] = state_of(job);
      Batch& joined = *at(batch->number);
      ++joined.present[static_cast<std::size_t>(state)];
      if (is_finished(state)) joined.over_since = std::max(*joined.over_since, since);
    }
    named_ = {};
    ids_named_ = {};
    places_ = {};
    for (auto const& [number, batch] : by_number_) refile(*batch);
  }

 private:
  Batch* at(BatchNumber number);
  Batch& add(BatchNumber number, std::string_view id, EffectSink::Written w);
  // What follows from what it is now.
  void refile(Batch& batch);
  static std::size_t content_of(Batch const& batch);
  static std::size_t content_of(MakeBatch const& batch);
  static void drop(Bytes& spec, std::size_t& content_bytes);

  std::uint32_t max_;
  std::uint64_t memory_max_;
  Duration kept_;
  Instant const& now_;
  SegmentCounts& segments_;
  bool is_live_ = false;
  absl::btree_map<BatchNumber, std::unique_ptr<Batch>> by_number_;
  absl::flat_hash_map<std::string_view, Batch*> by_id_;  // Borrows from the batches.
  // The batch may be gone: then the job is in none.
  absl::flat_hash_map<JobNumber, BatchNumber> batch_of_;
  absl::btree_set<BatchNumber> due_;
  absl::btree_set<std::pair<Instant, BatchNumber>> kept_until_;
  std::size_t closed_ = 0;  // Those that are over included.
  std::size_t content_bytes_ = 0;
  std::size_t over_bytes_ = 0;

  // While the log is replayed: which jobs name a batch, by the place of its id.
  absl::flat_hash_map<JobNumber, std::uint32_t> named_;
  absl::flat_hash_map<std::string, std::uint32_t> places_;
  std::vector<std::string> ids_named_;
};

}  // namespace workmill::engine
