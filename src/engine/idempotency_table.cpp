#include "engine/idempotency_table.h"

#include <algorithm>

#include "base/mutation.h"

namespace workmill::engine {

IdempotencyTable::Answer const* IdempotencyTable::find(Hash128 key, Instant now) const {
  auto const found = answers_.find(key);
  return found != answers_.end() && found->second.until > now ? &found->second : nullptr;
}

void IdempotencyTable::remember(Hash128 key, Answer answer) {
  auto const found = answers_.find(key);
  if (found != answers_.end() && found->second.until == answer.until) {
    segments_.add(answer.at, answer.bytes);  // The same answer, copied ahead.
    segments_.drop(found->second.at, found->second.bytes);
    if (!WM_MUTATION(copied_answer_keeps_its_place)) found->second.at = answer.at;
    found->second.bytes = answer.bytes;
    return;
  }
  if (found != answers_.end()) drop(found);  // Over. Its entry by time goes when that comes up.
  while (is_live_ && answers_.size() >= bound_ && !by_time_.empty()) drop_first();
  by_time_.emplace_back(answer.until, key);
  segments_.add(answer.at, answer.bytes);
  reply_bytes_ += answer.reply.size();
  answers_.emplace(key, std::move(answer));
}

void IdempotencyTable::drop(absl::flat_hash_map<Hash128, Answer>::iterator answer) {
  segments_.drop(answer->second.at, answer->second.bytes);
  reply_bytes_ -= answer->second.reply.size();
  answers_.erase(answer);
}

void IdempotencyTable::drop_first() {
  auto const [until, key] = by_time_.front();
  by_time_.pop_front();
  auto const found = answers_.find(key);
  if (found != answers_.end() && found->second.until == until) drop(found);
}

void IdempotencyTable::turn(Instant now, std::uint32_t steps_max) {
  for (std::uint32_t step = 0; step < steps_max && !by_time_.empty() && by_time_.front().first <= now; ++step) {
    drop_first();
  }
}

void IdempotencyTable::finish_replay(Instant now) {
  std::sort(by_time_.begin(), by_time_.end());
  while (!by_time_.empty() && (by_time_.front().first <= now || answers_.size() > bound_)) drop_first();
  is_live_ = true;
}

}  // namespace workmill::engine
