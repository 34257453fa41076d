#include "shard/waiters.h"

#include <algorithm>

#include "base/assert.h"
#include "base/variant.h"

namespace workmill::shard {
namespace {

// Of one that waits for a job's end, for whatever reason.
std::uint64_t awaited_job(Waiter const& waiter) {
  auto const* const flight = std::get_if<FlightWait>(&waiter.what);
  return std::to_underlying(flight != nullptr ? flight->job : std::get<JobWait>(waiter.what).job);
}

}  // namespace

void Waiters::add(Waiter waiter) { insert(next_++, std::move(waiter)); }

void Waiters::insert(Id id, Waiter waiter) {
  bool const alone = by_asker_.emplace(std::pair{waiter.port, waiter.cookie}, id).second;
  WM_ASSERT(alone);
  by_deadline_.emplace(waiter.deadline, id);
  if (auto const* lease = std::get_if<LeaseWait>(&waiter.what)) {
    for (QueueChoice const& queue : lease->request.queues) by_queue_[queue.name].insert(id);
  } else {
    by_job_[awaited_job(waiter)].insert(id);
    if (auto const* flight = std::get_if<FlightWait>(&waiter.what)) ++by_key_[flight->key][awaited_job(waiter)];
  }
  by_id_.emplace(id, std::move(waiter));
}

std::optional<Waiter> Waiters::take(Port port, Cookie cookie) {
  auto const found = by_asker_.find({port, cookie});
  if (found == by_asker_.end()) return std::nullopt;
  return take(found->second);
}

std::optional<Waiter> Waiters::take(Id id) {
  auto const found = by_id_.find(id);
  if (found == by_id_.end()) return std::nullopt;
  Waiter waiter = std::move(found->second);
  by_id_.erase(found);
  unlink(id, waiter);
  return waiter;
}

void Waiters::unlink(Id id, Waiter const& waiter) {
  by_asker_.erase({waiter.port, waiter.cookie});
  by_deadline_.erase({waiter.deadline, id});
  if (auto const* lease = std::get_if<LeaseWait>(&waiter.what)) {
    for (QueueChoice const& queue : lease->request.queues) {
      auto const line = by_queue_.find(queue.name);
      if (line == by_queue_.end()) continue;  // A queue that the request named twice.
      line->second.erase(id);
      if (line->second.empty()) by_queue_.erase(line);
    }
  } else {
    auto const line = by_job_.find(awaited_job(waiter));
    WM_ASSERT(line != by_job_.end());
    line->second.erase(id);
    if (line->second.empty()) by_job_.erase(line);
    if (auto const* flight = std::get_if<FlightWait>(&waiter.what)) {
      auto const flights = by_key_.find(flight->key);
      WM_ASSERT(flights != by_key_.end());
      auto const others = flights->second.find(awaited_job(waiter));
      WM_ASSERT(others != flights->second.end());
      if (--others->second == 0) flights->second.erase(others);
      if (flights->second.empty()) by_key_.erase(flights);
    }
  }
  WM_ASSERT(by_id_.size() == by_asker_.size() && by_id_.size() == by_deadline_.size());
}

std::optional<Waiters::Id> Waiters::first_id_for_queue(std::string const& queue) const {
  auto const line = by_queue_.find(queue);
  if (line == by_queue_.end()) return std::nullopt;
  return *line->second.begin();
}

Waiter const* Waiters::first_for_queue(std::string const& queue) const {
  auto const id = first_id_for_queue(queue);
  return id ? &by_id_.at(*id) : nullptr;
}

std::vector<Waiters::Id> Waiters::ids_for_job(JobNumber job) const {
  auto const line = by_job_.find(std::to_underlying(job));
  if (line == by_job_.end()) return {};
  return {line->second.begin(), line->second.end()};
}

std::vector<Waiters::Id> Waiters::ids_for_key(std::string const& key) const {
  auto const flights = by_key_.find(key);
  if (flights == by_key_.end()) return {};
  std::vector<Id> ids;
  for (auto const& [job, count] : flights->second) {
    for (Id const id : by_job_.at(job)) {
      if (holds<FlightWait>(by_id_.at(id).what)) ids.push_back(id);
    }
  }
  std::ranges::sort(ids);
  return ids;
}

std::optional<Waiters::Id> Waiters::first_overdue(Instant now) const {
  if (by_deadline_.empty() || by_deadline_.begin()->first > now) return std::nullopt;
  return by_deadline_.begin()->second;
}

std::optional<Instant> Waiters::next_deadline() const {
  if (by_deadline_.empty()) return std::nullopt;
  return by_deadline_.begin()->first;
}

std::optional<Waiters::Id> Waiters::any() const {
  if (by_deadline_.empty()) return std::nullopt;
  return by_deadline_.begin()->second;
}

}  // namespace workmill::shard
