#include "engine/engine_fixture_test.h"

#include <fmt/format.h>

#include <utility>

namespace workmill::engine {

std::string dump(Engine& engine) {
  std::string out = fmt::format("salt {:x}, live bytes {}\n", engine.salt(), engine.live_bytes());
  ListLog unused;
  std::optional<JobNumber> before;
  do {
    bool again = false;
    Reply const reply = engine.execute(ListJobs{.filter = {}, .limit = 1'000, .before = before}, {}, unused, &again);
    auto const& page = std::get<JobsReply>(reply);
    for (JobView const& job : page.jobs) {
      fmt::format_to(std::back_inserter(out),
                     "{:x} [{}] {}{} attempt {}/{} ready {} until {} at {}.{} {} event {}.{} log {}.{} left {}.{} {}\n",
                     std::to_underlying(job.number), job.client_id, to_string(job.state),
                     job.cancel_requested ? " cancel" : "", job.attempt, job.max_attempts,
                     job.ready_at ? to_ms(*job.ready_at) : -1, job.lease_expires_at ? to_ms(*job.lease_expires_at) : -1,
                     job.spec_at.segment, job.spec_at.offset, job.spec_bytes, job.event_at.segment, job.event_at.offset,
                     job.log_at.segment, job.log_at.offset, job.checkpoint_at.segment, job.checkpoint_at.offset,
                     job.progress ? fmt::format("{}% {}", job.progress->percent, job.progress->message) : "");
    }
    before = page.next;
  } while (before);
  std::vector<QueueView> queues;
  engine.queue_views(queues);
  for (QueueView const& queue : queues) {
    // What nothing in the log speaks of any more is not there after a restart, and makes no difference.
    if (queue.settings == QueueSettings{} && queue.depth == decltype(queue.depth){}) continue;
    fmt::format_to(std::back_inserter(out), "{}{} {} {} [{}] oldest {}\n", queue.name,
                   queue.settings.paused ? " paused" : "",
                   queue.settings.max_depth ? fmt::format("{}", *queue.settings.max_depth) : "unbounded",
                   queue.settings.when_full == WhenFull::refuse ? "refuse" : "drop", fmt::join(queue.depth, " "),
                   queue.oldest_ready_at ? to_ms(*queue.oldest_ready_at) : -1);
  }
  std::vector<BatchView> batches;
  engine.batch_views(batches);
  for (BatchView const& batch : batches) {
    fmt::format_to(std::back_inserter(out), "batch {} made {} closed {} jobs {} = {} + {} + {} + {} + {} meta {}",
                   batch.id, to_ms(batch.created_at), batch.closed_at ? to_ms(*batch.closed_at) : -1, batch.jobs.total,
                   batch.jobs.pending, batch.jobs.completed, batch.jobs.dead, batch.jobs.cancelled, batch.jobs.deleted,
                   batch.meta);
    for (CallbackView const& callback : batch.callbacks) {
      fmt::format_to(std::back_inserter(out), ", {} {:x}", to_string(callback.state), std::to_underlying(callback.job));
    }
    out += '\n';
  }
  for (flags::FlagEntryPtr const& flag : engine.flags()->entries()) {
    bool again = false;
    Reply const reply = engine.execute(GetFlagHistory{.key = flag->key}, {}, unused, &again);
    for (FlagChange const& change : std::get<FlagHistoryReply>(reply).changes) {
      fmt::format_to(std::back_inserter(out), "{} {} {} [{}] {} bytes\n", flag->key, change.version, to_ms(change.at),
                     change.by, change.definition.size());
    }
  }
  return out;
}

EngineTest::EngineTest(EngineOptions const& engine_options)
    : options(engine_options), engine(engine_options), now(instant_from_ms(1'700'000'000'000)) {
  log.at = now;
  engine.finish_replay(now);
  engine.create_store(42, log);
}

void EngineTest::advance() {
  log.at = now;
  while (engine.advance({.now = now, .chance = ++chance}, log)) {
  }
  EXPECT_EQ(engine.check_invariants(), "");
}

Reply EngineTest::execute(Command const& command) {
  bool again = false;
  return engine.execute(command, {.now = now, .chance = ++chance}, log, &again);
}

std::uint64_t EngineTest::count(BulkJobs command) {
  std::uint64_t total = 0;
  for (bool again = true; again;) {
    Reply const reply = engine.execute(command, {.now = now, .chance = ++chance}, log, &again);
    total += std::get<CountReply>(reply).count;
    command.before = std::get<CountReply>(reply).next;
  }
  return total;
}

std::uint64_t EngineTest::count(PurgeQueue command) {
  std::uint64_t total = 0;
  for (bool again = true; again;) {
    Reply const reply = engine.execute(command, {.now = now, .chance = ++chance}, log, &again);
    total += std::get<CountReply>(reply).count;
    command.before = std::get<CountReply>(reply).next;
  }
  return total;
}

Bytes EngineTest::bytes(JobSpecView const& spec) {
  Bytes out;
  encode_spec(spec, out);
  return out;
}

EnqueuedJob EngineTest::enqueue(JobSpecView const& spec) {
  return expect<EnqueueReply>(Enqueue{.specs = {bytes(spec)}}).jobs.at(0);
}

std::vector<LeasedJob> EngineTest::lease(std::vector<std::string_view> queues, std::uint32_t max,
                                         std::optional<Duration> lease) {
  Lease request{.max = max, .lease = lease, .worker = "w"};
  for (std::string_view const name : queues) request.queues.push_back({.name = std::string{name}});
  return expect<LeaseReply>(request).jobs;
}

LeasedJob EngineTest::lease_one(std::string_view queue) {
  auto const jobs = lease({queue});
  if (jobs.size() == 1) return jobs[0];
  ADD_FAILURE() << "nothing to lease";
  return {};
}

ReportResult EngineTest::report(LeasedJob const& job, Outcome outcome) {
  ReportBatch batch;
  batch.reports.push_back({.job = ref(job.number), .lease = job.token, .outcome = std::move(outcome)});
  return expect<ReportsReply>(batch).reports.at(0);
}

JobView EngineTest::view(JobNumber number) {
  auto const found = engine.view(number);
  if (found) return *found;
  ADD_FAILURE() << "no such job";
  return {};
}

JobCheckpoint EngineTest::checkpoint(JobNumber number) {
  Position const at = view(number).checkpoint_at;
  if (!at) return {};
  for (ListLog::Record const& record : log.records) {
    if (record.written.at != at) continue;
    if (auto const* made = std::get_if<effect::CheckpointMade>(&record.effect)) return {.data = Bytes(made->data)};
    if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&record.effect)) {
      return {.data = Bytes(snapshot->checkpoint), .is_lost = snapshot->checkpoint_lost};
    }
  }
  ADD_FAILURE() << "no checkpoint stands there";
  return {};
}

QueueView EngineTest::queue(std::string_view name) {
  return expect<QueueReply>(GetQueue{.name = std::string{name}}).queue;
}

std::unique_ptr<Engine> EngineTest::replay(std::uint32_t from_segment) {
  auto again = std::make_unique<Engine>(options);
  for (auto const& record : log.records) {
    if (record.written.at.segment < from_segment) continue;
    auto const result = again->replay(record.effect, record.written, record.at);
    EXPECT_TRUE(result) << describe(result.error());
  }
  again->finish_replay(now);
  return again;
}

}  // namespace workmill::engine
