#include "engine/intern.h"

namespace workmill::engine {

NameIndex NameTable::take(std::string_view name) {
  if (name.empty()) return kNone<NameIndex>;
  if (last_ == kNone<NameIndex> || entries_[last_].text != name) {
    last_ = find(name);
    if (last_ == kNone<NameIndex>) {
      last_ = entries_.take();
      entries_[last_].text = name;
      by_text_.emplace(entries_[last_].text, last_);
    }
  }
  ++entries_[last_].uses;
  return last_;
}

void NameTable::give(NameIndex index) {
  if (index == kNone<NameIndex>) return;
  Entry& entry = entries_[index];
  WM_ASSERT(entry.uses > 0);
  if (--entry.uses > 0) return;
  if (last_ == index) last_ = kNone<NameIndex>;
  by_text_.erase(entry.text);
  entries_.give(index);
}

NameIndex NameTable::find(std::string_view name) const {
  auto const found = by_text_.find(name);
  return found == by_text_.end() ? kNone<NameIndex> : found->second;
}

Policy policy_of(JobSpecView const& spec) {
  return {.lease = spec.lease.value_or(kLeaseDefault),
          .keep_result = spec.keep_result.value_or(kKeepResultDefault),
          .backoff = spec.backoff.value_or(Backoff{}),
          .max_attempts = spec.max_attempts.value_or(kMaxAttemptsDefault)};
}

PolicyIndex PolicyTable::take(Policy const& policy) {
  if (last_ == kNone<PolicyIndex> || !(entries_[last_].policy == policy)) {
    auto const [found, is_new] = by_policy_.try_emplace(policy, kNone<PolicyIndex>);
    if (is_new) {
      found->second = entries_.take();
      entries_[found->second].policy = policy;
    }
    last_ = found->second;
  }
  ++entries_[last_].uses;
  return last_;
}

void PolicyTable::give(PolicyIndex index) {
  Entry& entry = entries_[index];
  WM_ASSERT(entry.uses > 0);
  if (--entry.uses > 0) return;
  if (last_ == index) last_ = kNone<PolicyIndex>;
  by_policy_.erase(entry.policy);
  entries_.give(index);
}

}  // namespace workmill::engine
