#include "sim/workloads/stream_workers.h"

#include <fmt/format.h>

#include <utility>

#include "base/variant.h"

namespace workmill::sim {
namespace {

constexpr std::size_t kHeldMax = 60;  // Of those whose leases have ended, too.
constexpr std::size_t kReportsMax = 6;

}  // namespace

StreamWorkers::Step StreamWorkers::next(shard::Cookie fresh) {
  std::size_t const place = below(workers_.size());
  Worker& worker = workers_[place];
  if (worker.silent && chance(200)) {  // The server finds out that nobody is there.
    shard::Cookie const silent = *worker.silent;
    hung_up(silent);
    return {.hangs_up = silent};
  }
  if (!worker.stream) {
    if (chance(700)) return {};  // It is away.
    return subscribe(place, !worker.silent && chance(850), fresh);
  }
  TellStream word{.stream = *worker.stream};
  switch (below(24)) {
    case 0: {
      shard::Cookie const stream = *worker.stream;
      hung_up(stream);
      return {.hangs_up = stream};
    }
    case 1:  // It comes back on another connection, and the server has not seen the old one go.
      if (worker.silent || chance(500)) return {};
      worker.silent = worker.stream;
      return subscribe(place, true, fresh);
    case 2:
      if (worker.silent || chance(800)) return {};
      worker.silent = std::exchange(worker.stream, std::nullopt);
      return {};
    case 3:
    case 4:
    case 5: word.credit = static_cast<std::uint32_t>(below(options_.credit_max + 1)); break;
    case 6:
      if (worker.drains || chance(600)) return {};
      worker.drains = word.drain = true;
      break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
      if (worker.untaken == 0) return {};
      word.taken_bytes = chance(700) ? worker.untaken : 1 + below(worker.untaken);
      worker.untaken -= word.taken_bytes;
      break;
    default: {
      ReportBatch batch = report(worker);
      if (batch.reports.empty()) return {};
      return {.sends = std::move(batch), .cookie = fresh};
    }
  }
  return {.sends = word, .cookie = word.stream};
}

StreamWorkers::Step StreamWorkers::subscribe(std::size_t place, bool goes_on, shard::Cookie fresh) {
  Step step{.sends = open(place, goes_on), .cookie = fresh};
  workers_[place].stream = fresh;
  by_cookie_.emplace(fresh, place);
  return step;
}

OpenStream StreamWorkers::open(std::size_t place, bool goes_on) {
  Worker& worker = workers_[place];
  OpenStream open;
  if (goes_on) open.resume = worker.token;
  if (goes_on && !worker.silent && chance(80)) open.resume = worker.old_token;
  // A token that is not its own does not help it, and a name that somebody may have is not taken.
  bool const is_renamed = !goes_on || (!worker.silent && chance(40));
  if (is_renamed) worker.generation += 1;
  open.lease.worker = fmt::format("s{}.{}", place, worker.generation);
  for (std::uint32_t queue = 0; queue < options_.queues; ++queue) {
    std::uint32_t const weight = chance(200) ? static_cast<std::uint32_t>(1 + below(5)) : 0;
    if (chance(700)) open.lease.queues.push_back({.name = "q" + std::to_string(queue), .weight = weight});
  }
  if (open.lease.queues.empty()) open.lease.queues.push_back({.name = "q0", .weight = 0});
  if (chance(300)) open.lease.lease = kLeaseMin + Duration{static_cast<Duration::rep>(below(3'000))};
  open.credit = static_cast<std::uint32_t>(below(options_.credit_max + 1));
  open.token = {chance_.next(), chance_.next()};
  if (chance(150)) worker.holds.clear();  // It was started anew.
  std::uint32_t const share = chance(500) ? 1'000 : 600;
  for (Held const& held : worker.holds) {
    if (chance(share)) open.held.push_back({.number = held.number, .text = {}});
  }
  if (chance(100)) open.held.push_back({.number = JobNumber{below(1'000)}, .text = {}});
  worker.old_token = std::exchange(worker.token, open.token);
  worker.untaken = 0;
  worker.drains = false;
  return open;
}

ReportBatch StreamWorkers::report(Worker& worker) {
  ReportBatch batch;
  while (!worker.holds.empty() && batch.reports.size() < kReportsMax && chance(800)) {
    std::size_t const place = below(worker.holds.size());
    Held const held = worker.holds[place];
    batch.reports.push_back({.job = {.number = held.number, .text = {}}, .lease = held.token, .outcome = outcome()});
    Outcome const& last = batch.reports.back().outcome;
    bool const goes_on = holds<Extend>(last) || holds<Checkpoint>(last);
    bool const again = chance(60);  // It will report once more.
    if (!goes_on && !again) worker.holds.erase(worker.holds.begin() + static_cast<std::ptrdiff_t>(place));
  }
  return batch;
}

Outcome StreamWorkers::outcome() {
  switch (below(10)) {
    case 0: return Released{};
    case 1: return Failed{.code = "broken", .message = {}, .detail = {}, .retry_in = Duration{0}};
    case 2: return Failed{.code = "broken", .message = {}, .detail = {}, .retry_in = {}};
    case 3: return Extend{.by = kLeaseMin + Duration{static_cast<Duration::rep>(below(3'000))}};
    case 4: return Checkpoint{fmt::format("{{\"at\":{}}}", below(1'000))};
    default: return Completed{};
  }
}

void StreamWorkers::pushed(shard::Cookie stream, Reply const& reply) {
  auto const found = by_cookie_.find(stream);
  if (found == by_cookie_.end()) return;
  Worker& worker = workers_[found->second];
  if (holds<StreamEnded>(reply) || holds<Error>(reply)) return hung_up(stream);
  auto const* sent = std::get_if<StreamJobs>(&reply);
  if (sent == nullptr || worker.stream != stream) return;  // It does not listen there any more.
  worker.untaken += sent->bytes;
  for (LeasedJob const& job : sent->jobs) worker.holds.push_back({.number = job.number, .token = job.token});
  if (worker.holds.size() <= kHeldMax) return;
  worker.holds.erase(worker.holds.begin(), worker.holds.end() - static_cast<std::ptrdiff_t>(kHeldMax));
}

void StreamWorkers::refused(shard::Cookie cookie, Command const& command) {
  auto const found = by_cookie_.find(cookie);
  if (found == by_cookie_.end()) return;
  Worker& worker = workers_[found->second];
  if (holds<OpenStream>(command)) return hung_up(cookie);
  if (auto const* word = std::get_if<TellStream>(&command); word != nullptr && worker.stream == cookie) {
    worker.untaken += word->taken_bytes;
    if (word->drain) worker.drains = false;
  }
}

void StreamWorkers::hung_up(shard::Cookie stream) {
  auto const found = by_cookie_.find(stream);
  if (found == by_cookie_.end()) return;
  Worker& worker = workers_[found->second];
  if (worker.stream == stream) worker.stream.reset();
  if (worker.silent == stream) worker.silent.reset();
  by_cookie_.erase(found);
}

void StreamWorkers::server_died() {
  for (Worker& worker : workers_) {
    worker.stream.reset();
    worker.silent.reset();
  }
  by_cookie_.clear();
}

}  // namespace workmill::sim
