#include "service/attempts.h"

#include <algorithm>

namespace workmill::service {

Attempts::Outcome Attempts::failed(Client client, Time now) {
  auto found = by_client_.find(client);
  if (found == by_client_.end()) {
    if (by_client_.size() == kClientsMax) {
      by_client_.erase(entries_.back().client);
      entries_.pop_back();
    }
    entries_.push_front({.client = client, .last = now});
    found = by_client_.emplace(client, entries_.begin()).first;
  }
  entries_.splice(entries_.begin(), entries_, found->second);
  Entry& entry = entries_.front();
  if (now - entry.last >= kForgottenAfter) entry = {.client = client};
  entry.last = now;
  bool const was_locked = entry.failures > kFree;
  if (now >= entry.locked_until) {  // What comes while he is locked out does not make it longer: it would never end.
    entry.failures += 1;
    if (entry.failures <= kFree) return {};
    auto const doublings = std::min<std::uint32_t>(entry.failures - kFree - 1, 16);
    entry.locked_until = now + std::min<Time>(kFirstWait * (std::uint64_t{1} << doublings), kLongestWait);
  }
  auto const wait = std::chrono::ceil<std::chrono::seconds>(entry.locked_until - now);
  return {.verdict = was_locked ? Verdict::locked_out : Verdict::newly_locked,
          .wait = std::max(wait, std::chrono::seconds{1})};
}

}  // namespace workmill::service
