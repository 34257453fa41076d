#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"
#include "engine/job_slot.h"
#include "model/retry_policy.h"

// What many jobs have in common, stored once and counted: the names of types and groups, and the policies. An entry
// goes with the last job that uses it, so the tables are bounded by the jobs.
namespace workmill::engine {

class NameTable {
 public:
  // The empty name is kNone and costs nothing.
  NameIndex take(std::string_view name);  // Found or made, and counted once more.
  void give(NameIndex index);
  NameIndex find(std::string_view name) const;  // kNone where no job has it.
  std::string_view text(NameIndex index) const {
    return index == kNone<NameIndex> ? std::string_view{} : std::string_view{entries_[index].text};
  }
  // A number that somebody else keeps with a name, for as long as it is in use: its line in TypeCounts. It fills a gap.
  static constexpr std::uint16_t kNoTally = 0xffff;
  std::uint16_t& tally(NameIndex index) { return entries_[index].tally; }
  std::size_t size() const { return entries_.size(); }
  std::size_t memory_bytes() const { return entries_.memory_bytes() + by_text_.capacity() * 33; }

 private:
  struct Entry {
    std::string text;
    std::uint32_t uses = 0;
    std::uint16_t tally = kNoTally;
  };
  Slab<Entry, NameIndex, 64> entries_;
  absl::flat_hash_map<std::string_view, NameIndex> by_text_;  // Borrows from the entries, which never move.
  NameIndex last_ = kNone<NameIndex>;                         // Jobs come in runs of one type.
};

struct Policy {
  Duration lease{};
  Duration keep_result{};
  Backoff backoff;
  std::uint32_t max_attempts = 0;

  bool operator==(Policy const&) const = default;
  template <class H>
  friend H AbslHashValue(H h, Policy const& p) {
    return H::combine(std::move(h), p.lease.count(), p.keep_result.count(), p.backoff.first.count(),
                      p.backoff.factor_permille, p.backoff.cap.count(), p.backoff.jitter_permille, p.max_attempts);
  }
};
// What a spec asks for, with the defaults where it is silent.
Policy policy_of(JobSpecView const& spec);

class PolicyTable {
 public:
  PolicyIndex take(Policy const& policy);
  void give(PolicyIndex index);
  Policy const& operator[](PolicyIndex index) const { return entries_[index].policy; }
  std::size_t size() const { return entries_.size(); }
  std::size_t memory_bytes() const { return entries_.memory_bytes() + by_policy_.capacity() * (sizeof(Policy) + 9); }

 private:
  struct Entry {
    Policy policy;
    std::uint32_t uses = 0;
  };
  Slab<Entry, PolicyIndex, 64> entries_;
  absl::flat_hash_map<Policy, PolicyIndex> by_policy_;
  PolicyIndex last_ = kNone<PolicyIndex>;
};

}  // namespace workmill::engine
