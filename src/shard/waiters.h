#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/time.h"
#include "model/command.h"
#include "model/queue_set.h"
#include "model/reply.h"
#include "shard/request.h"

// Requests that wait: workers for a job, callers for the end of one. They are the shard's, not the engine's: who waits
// is forgotten with the process, and comes back by asking again.
//
// On the shard's thread. Nobody waits twice under one port and cookie. Whoever has waited longest comes first.
namespace workmill::shard {

// Waits until one of the request's queues has a job for it.
struct LeaseWait {
  Lease request;                      // Its reports have been decided already.
  std::vector<ReportResult> reports;  // And this is what became of them: part of the answer.
};
// Waits until the job is finished.
struct JobWait {
  JobNumber job{};
};

// Waits for the value that a flight computes.
struct FlightWait {
  JobNumber job{};
  std::string key;
  bool collapsed = false;  // Another request began it.
};

struct Waiter {
  Port port = 0;
  Cookie cookie = 0;
  Instant deadline{};
  std::variant<LeaseWait, JobWait, FlightWait> what;
  AllowedQueues allowed{};  // Of who waits for a job's end: it may have moved to another queue meanwhile.
};

class Waiters {
 public:
  using Id = std::uint64_t;  // Grows: a smaller one has waited longer.

  void add(Waiter waiter);
  // One that was just taken, in its old place.
  void put_back(Id id, Waiter waiter) { insert(id, std::move(waiter)); }
  // Nothing where it does not wait (any more).
  std::optional<Waiter> take(Port port, Cookie cookie);
  std::optional<Waiter> take(Id id);

  // Who has waited longest for a job of this queue. Null where nobody does.
  Waiter const* first_for_queue(std::string const& queue) const;
  std::optional<Id> first_id_for_queue(std::string const& queue) const;
  // Who waits for the end of this job, or for what it computes.
  std::vector<Id> ids_for_job(JobNumber job) const;
  // Who waits for the value of this key, by whichever flight.
  std::vector<Id> ids_for_key(std::string const& key) const;
  bool has_flight_waits() const { return !by_key_.empty(); }
  // One whose deadline is at or before `now`.
  std::optional<Id> first_overdue(Instant now) const;
  std::optional<Instant> next_deadline() const;
  // Any at all, for a drain.
  std::optional<Id> any() const;

  std::size_t size() const { return by_id_.size(); }

 private:
  void insert(Id id, Waiter waiter);
  void unlink(Id id, Waiter const& waiter);

  std::unordered_map<Id, Waiter> by_id_;
  std::map<std::pair<Port, Cookie>, Id> by_asker_;
  std::set<std::pair<Instant, Id>> by_deadline_;
  std::unordered_map<std::string, std::set<Id>> by_queue_;
  std::unordered_map<std::uint64_t, std::set<Id>> by_job_;
  // How many wait for what a job computes, by its key: thousands may, and the jobs are few.
  std::unordered_map<std::string, std::map<std::uint64_t, std::size_t>> by_key_;
  Id next_ = 1;
};

}  // namespace workmill::shard
