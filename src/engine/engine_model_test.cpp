#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/rng.h"
#include "base/variant.h"
#include "engine/engine_fixture_test.h"

// The whole engine against a model that is slow and plain: jobs in a map, every question answered by looking at all
// of them. Random commands, random clocks; in between the log is replayed, and its oldest segments are dropped.
namespace workmill::engine {
namespace {

constexpr std::uint32_t kBudget = 12;
constexpr std::array<std::string_view, 2> kQueues{"a", "b"};
constexpr std::array<std::string_view, 3> kGroups{"", "g", "h"};
constexpr std::array<std::string_view, 4> kIds{"", "", "x", "y"};
constexpr std::array<std::string_view, 3> kTypes{"t", "u", "v"};
constexpr std::array<std::string_view, 2> kFlags{"f", "g"};
constexpr std::array<std::string_view, 2> kBatches{"p", "q"};
constexpr std::uint32_t kBatchesMax = 2;
constexpr Duration kBatchKept{60'000};
constexpr std::array<std::string_view, 5> kKeys{"", "", "", "k", "l"};
constexpr std::array<std::string_view, 5> kCacheKeys{"", "", "", "k", "c"};  // One is a unique key as well: no matter.

struct ModelJob {
  std::string type, queue, group, id, key, cache_key, batch;
  UniqueWhile unique_while{};
  std::optional<Instant> unique_until;
  std::optional<Duration> expires_in;
  std::optional<Instant> expires_at;
  Duration keep{};
  std::uint8_t priority = 0;
  std::uint32_t max_attempts = 0;

  JobState state{};
  std::uint32_t attempt = 0;
  Instant due{};           // Ready at, deadline, or finished at.
  std::uint64_t line = 0;  // Larger: later in line.
  std::uint64_t finish = 0;
  LeaseToken token{};
  bool cancel_requested = false;
  std::string checkpoint;
};

struct ModelBatch {
  JobNumber number{};  // As a job's would be.
  bool is_closed = false;
  Instant changed{};
  std::optional<Instant> over_since{};
  GoneJobs gone{};
  std::array<bool, kCallbackKinds> has{};
  std::array<JobNumber, kCallbackKinds> called{};
};

class Model {
 public:
  explicit Model(std::uint64_t seed) : rng(seed) {}

  std::map<std::string, ModelBatch> batches;

  // The batch that a job is in, where that is still there.
  ModelBatch* batch_of(JobNumber number) {
    auto const found = batches.find(jobs.at(number).batch);
    return found == batches.end() || found->second.number > number ? nullptr : &found->second;
  }
  BatchCounts counts(std::string const& id) const {
    ModelBatch const& batch = batches.at(id);
    BatchCounts counts{.completed = batch.gone.completed,
                       .dead = batch.gone.dead,
                       .cancelled = batch.gone.cancelled,
                       .deleted = batch.gone.deleted};
    for (auto const& [number, job] : jobs) {
      if (job.batch != id || number < batch.number) continue;
      if (job.state == JobState::completed) {
        ++counts.completed;
      } else if (job.state == JobState::dead) {
        ++counts.dead;
      } else if (job.state == JobState::cancelled) {
        ++counts.cancelled;
      } else {
        ++counts.pending;
      }
    }
    counts.total = counts.pending + counts.completed + counts.dead + counts.cancelled + counts.deleted;
    return counts;
  }
  CallbackState callback_state(ModelBatch const& batch, CallbackKind kind) const {
    auto const i = static_cast<std::size_t>(kind);
    if (!batch.has[i]) return CallbackState::none;
    if (batch.called[i] != JobNumber{}) return CallbackState::enqueued;
    return kind == CallbackKind::success && batch.gone.lost() > 0 ? CallbackState::not_coming : CallbackState::waiting;
  }
  bool is_due(std::string const& id, CallbackKind kind) const {
    ModelBatch const& batch = batches.at(id);
    BatchCounts const now = counts(id);
    if (!batch.is_closed || now.pending > 0 || callback_state(batch, kind) != CallbackState::waiting) return false;
    return kind == CallbackKind::finish || now.completed == now.total;
  }
  bool is_over(std::string const& id) const {
    ModelBatch const& batch = batches.at(id);
    if (!batch.is_closed || counts(id).pending > 0) return false;
    for (CallbackKind const kind : kAllCallbackKinds) {
      if (callback_state(batch, kind) == CallbackState::waiting) return false;
    }
    return true;
  }
  // From when on it is kept only to be looked at.
  Instant kept_from(std::string const& id) const {
    ModelBatch const& batch = batches.at(id);
    return std::max(batch.changed, batch.over_since.value_or(kInstantMin));
  }
  void note_over(Instant now) {
    for (auto& [id, batch] : batches) {
      if (!is_over(id)) batch.over_since.reset();
      if (is_over(id) && !batch.over_since) batch.over_since = now;
    }
  }
  void erase(JobNumber number, Instant now) {
    if (ModelBatch* const batch = batch_of(number)) {
      JobState const state = jobs.at(number).state;
      batch->gone.count(state);
      if (state != JobState::completed) batch->changed = now;
    }
    jobs.erase(number);
  }

  std::map<JobNumber, ModelJob> jobs;
  std::map<std::string, std::set<std::string>> closed_by;  // The types that each flag keeps back.
  std::uint64_t line = 0;
  std::uint64_t finish = 0;
  Rng rng;

  std::optional<JobNumber> holder(std::string_view queue, std::string_view key, Instant now) const {
    for (auto const& [number, job] : jobs) {
      if (job.queue != queue || job.key != key || (job.unique_until && *job.unique_until <= now)) continue;
      bool const is_scheduled = job.state == JobState::scheduled;
      bool const is_queued = is_scheduled || job.state == JobState::ready;
      if (job.unique_while == UniqueWhile::scheduled && is_scheduled) return number;
      if (job.unique_while == UniqueWhile::queued && is_queued) return number;
      if (job.unique_while == UniqueWhile::unfinished && !is_finished(job.state)) return number;
    }
    return std::nullopt;
  }
  // The job that computes a cached value.
  std::optional<JobNumber> flight(std::string_view cache_key) const {
    for (auto const& [number, job] : jobs) {
      if (job.cache_key == cache_key && !is_finished(job.state)) return number;
    }
    return std::nullopt;
  }
  bool can_retry(ModelJob const& job) const {
    if (job.state == JobState::scheduled) return true;
    if (job.state != JobState::dead && job.state != JobState::cancelled) return false;
    return job.cache_key.empty() || !flight(job.cache_key);
  }
  std::optional<JobNumber> with_id(std::string_view id) const {
    for (auto const& [number, job] : jobs) {
      if (job.id == id) return number;
    }
    return std::nullopt;
  }
  std::vector<JobNumber> in_state(JobState state) const {
    std::vector<JobNumber> found;
    for (auto const& [number, job] : jobs) {
      if (job.state == state) found.push_back(number);
    }
    return found;
  }
  std::optional<JobNumber> any() {
    if (jobs.empty()) return std::nullopt;
    return std::next(jobs.begin(), static_cast<std::ptrdiff_t>(rng.below(jobs.size())))->first;
  }
  bool is_closed(ModelJob const& job) const {
    return std::any_of(closed_by.begin(), closed_by.end(),
                       [&](auto const& flag) { return flag.second.contains(job.type); });
  }
  bool is_offered(ModelJob const& job, std::string_view queue) const {
    return job.queue == queue && job.state == JobState::ready && !is_closed(job);
  }
  // Is this a job that may be leased now? Of no closed type, the highest priority of its queue, and the first of its
  // group.
  bool may_be_next(JobNumber number, std::string_view queue) const {
    ModelJob const& chosen = jobs.at(number);
    if (!is_offered(chosen, queue)) return false;
    for (auto const& [other_number, other] : jobs) {
      if (!is_offered(other, queue)) continue;
      if (other.priority > chosen.priority) return false;
      if (other.priority == chosen.priority && other.group == chosen.group && other.line < chosen.line) return false;
    }
    return true;
  }
  void make_ready(ModelJob& job, Instant now) {
    job.state = JobState::ready;
    job.due = now;
    job.line = ++line;
    outlive(job, now);
  }
  // Put in line again after its time, it does not expire any more.
  static void outlive(ModelJob& job, Instant now) {
    if (job.expires_at && *job.expires_at <= now) job.expires_at.reset();
  }
  // Finished: and what that pushes out.
  void finish_job(JobNumber number, JobState state, Instant now) {
    ModelJob& job = jobs.at(number);
    job.state = state;
    job.due = now;
    job.finish = ++finish;
    job.cancel_requested = false;
    if (state == JobState::dead) return;
    std::string const queue = job.queue;
    if (job.keep == Duration{0}) erase(number, now);
    std::vector<std::pair<std::uint64_t, JobNumber>> kept;
    for (auto const& [n, j] : jobs) {
      if (j.queue == queue && (j.state == JobState::completed || j.state == JobState::cancelled))
        kept.emplace_back(j.finish, n);
    }
    std::sort(kept.begin(), kept.end());
    for (std::size_t i = 0; i + kBudget < kept.size(); ++i) erase(kept[i].second, now);
  }
};

class EngineModel : public EngineTest {
 protected:
  EngineModel()
      : EngineTest(EngineOptions{
            .finished_kept_per_queue = kBudget, .steps_max = 5, .batches_max = kBatchesMax, .batch_kept = kBatchKept}) {
  }

  void run(std::uint64_t seed, int steps) {
    Model model{seed};
    for (int i = 0; i < steps; ++i) {
      // A millisecond at least between two steps: which of two jobs finished first is then never in doubt.
      pass(Duration{1 + static_cast<std::int64_t>(model.rng.below(40))});
      step(model);
      settle(model);
      model.note_over(now);
      compare(model);
      if (model.rng.chance(20)) trim(model);
      if (model.rng.chance(30)) check_replay();
    }
    check_replay();
  }

 private:
  template <class T, std::size_t N>
  static T const& choose(std::array<T, N> const& from, Rng& rng) {
    return from[rng.below(N)];
  }

  void step(Model& model) {
    switch (model.rng.below(17)) {
      case 0:
      case 1:
      case 2:
      case 3: return do_enqueue(model);
      case 4:
      case 5:
      case 6: return do_lease(model);
      case 7:
      case 8:
      case 9: return do_report(model);
      case 10: return do_to_any(model);
      case 11: return do_patch(model);
      case 12: return do_bulk(model);
      case 13: return do_flag(model);
      case 14:
      case 15: return do_batch(model);
      default: pass(Duration{model.rng.below(30'000)});
    }
  }

  void do_enqueue(Model& model) {
    Rng& rng = model.rng;
    ModelJob job;
    job.type = choose(kTypes, rng);
    job.queue = choose(kQueues, rng);
    job.group = choose(kGroups, rng);
    job.id = choose(kIds, rng);
    job.key = choose(kKeys, rng);
    job.cache_key = choose(kCacheKeys, rng);
    if (!job.cache_key.empty()) job.id = job.key = "";
    job.unique_while = static_cast<UniqueWhile>(rng.below(3));
    job.priority = static_cast<std::uint8_t>(rng.below(3));
    job.max_attempts = 1 + static_cast<std::uint32_t>(rng.below(3));
    job.keep = rng.chance(200) ? Duration{0} : Duration{std::chrono::hours{100}};
    JobSpecView spec{.type = job.type, .queue = job.queue, .id = job.id, .priority = job.priority};
    if (rng.chance(300)) spec.delay = Duration{rng.below(5'000)};
    if (rng.chance(200)) spec.expires_in = Duration{1 + rng.below(5'000)};
    spec.max_attempts = job.max_attempts;
    spec.lease = Duration{1'000};
    spec.unique_key = job.key;
    spec.cache_key = job.cache_key;
    spec.unique_while = job.unique_while;
    if (rng.chance(300)) spec.unique_for = Duration{rng.below(5'000)};
    spec.group = job.group;
    spec.keep_result = job.keep;

    // A batch that is not there, or closed, is an error, and in no case of a job that is there.
    if (job.cache_key.empty() && rng.chance(500)) job.batch = choose(kBatches, rng);
    spec.batch = job.batch;
    Reply reply = execute(Enqueue{.specs = {bytes(spec)}});
    if (auto const* refused = std::get_if<Error>(&reply)) {
      auto const batch = model.batches.find(job.batch);
      RC_ASSERT(batch == model.batches.end() || batch->second.is_closed);
      RC_ASSERT(refused->code == (batch == model.batches.end() ? ErrorCode::batch_not_found : ErrorCode::batch_closed));
      return;
    }
    auto const sent = std::get<EnqueueReply>(reply).jobs.at(0);

    std::optional<JobNumber> same = job.id.empty() ? std::nullopt : model.with_id(job.id);
    if (!same && !job.key.empty()) same = model.holder(job.queue, job.key, now);
    if (!job.cache_key.empty()) same = model.flight(job.cache_key);
    RC_ASSERT(sent.duplicate == same.has_value());
    if (same) {
      RC_ASSERT(sent.number == *same);
      return;
    }
    RC_ASSERT(!model.jobs.contains(sent.number));
    if (!job.batch.empty()) RC_ASSERT(model.batches.contains(job.batch) && !model.batches.at(job.batch).is_closed);
    job.due = now + spec.delay.value_or(Duration{0});
    job.state = job.due > now ? JobState::scheduled : JobState::ready;
    if (job.state == JobState::ready) job.line = ++model.line;
    if (spec.unique_for) job.unique_until = now + *spec.unique_for;
    if (spec.expires_in) job.expires_at = now + *spec.expires_in;
    job.expires_in = spec.expires_in;
    model.jobs.emplace(sent.number, std::move(job));
  }

  void do_lease(Model& model) {
    std::string_view const queue = choose(kQueues, model.rng);
    auto const max = 1 + static_cast<std::uint32_t>(model.rng.below(4));
    auto const ready = std::count_if(model.jobs.begin(), model.jobs.end(),
                                     [&](auto const& entry) { return model.is_offered(entry.second, queue); });

    auto const leased = lease({queue}, max);

    RC_ASSERT(leased.size() == std::min<std::size_t>(max, static_cast<std::size_t>(ready)));
    for (LeasedJob const& got : leased) {
      RC_ASSERT(model.may_be_next(got.number, queue));
      ModelJob& job = model.jobs.at(got.number);
      job.state = JobState::leased;
      job.due = now + Duration{1'000};
      job.token = got.token;
      RC_ASSERT(++job.attempt == got.attempt);
      RC_ASSERT(got.lease_expires_at == job.due);
    }
  }

  void do_report(Model& model) {
    auto const leased = model.in_state(JobState::leased);
    if (leased.empty()) return;
    JobNumber const number = leased[model.rng.below(leased.size())];
    ModelJob& job = model.jobs.at(number);
    LeasedJob const held{.number = number, .token = job.token};
    if (model.rng.chance(100)) {
      RC_ASSERT(report(LeasedJob{.number = number, .token = LeaseToken{1}}, Completed{}).error->code ==
                ErrorCode::lease_lost);
      return;
    }
    bool const was_asked = job.cancel_requested;
    ReportResult result;
    switch (model.rng.below(8)) {
      case 0:
      case 1:
        result = report(held, Completed{});
        job.checkpoint.clear();
        model.finish_job(number, JobState::completed, now);
        break;
      case 2: {
        Duration const wait{model.rng.below(3) * 700};
        result = report(held, Failed{.retry_in = wait});
        if (was_asked) {
          model.finish_job(number, JobState::cancelled, now);
        } else if (job.attempt >= job.max_attempts) {
          model.finish_job(number, JobState::dead, now);
        } else if (wait == Duration{0}) {
          model.make_ready(job, now);
        } else {
          job.state = JobState::scheduled;
          job.due = now + wait;
        }
        break;
      }
      case 3:
        result = report(held, Failed{.error_class = ErrorClass::fatal});
        model.finish_job(number, was_asked ? JobState::cancelled : JobState::dead, now);
        break;
      case 4:
        result = report(held, Released{});
        --job.attempt;
        if (was_asked) {
          model.finish_job(number, JobState::cancelled, now);
        } else {
          model.make_ready(job, now);
        }
        break;
      case 5:
        result = report(held, Extend{.by = Duration{2'000}});
        job.due = now + Duration{2'000};
        break;
      case 6:
        job.checkpoint = std::to_string(model.rng.below(1'000));
        result = report(held, Checkpoint{job.checkpoint});
        break;
      default: result = report(held, Progress{.percent = 3, .message = "m"}); report(held, LogLines{.lines = {"x"}});
    }
    RC_ASSERT(!result.error);
    RC_ASSERT(result.cancel_requested == was_asked);
  }

  // Cancel, retry or delete one: does the engine take what the model takes?
  void do_to_any(Model& model) {
    auto const number = model.any();
    if (!number) return;
    act(model, static_cast<BulkAction>(model.rng.below(3)), *number, [&](BulkAction action) {
      JobRef const job = ref(*number);
      Command command = RetryJob{job};
      if (action == BulkAction::cancel) command = CancelJob{job};
      if (action == BulkAction::remove) command = DeleteJob{job};
      return holds<DoneReply>(execute(command));
    });
  }

  template <class Do>
  void act(Model& model, BulkAction action, JobNumber number, Do const& do_it) {
    ModelJob& job = model.jobs.at(number);
    bool const done = do_it(action);
    switch (action) {
      case BulkAction::retry: {
        bool const can = model.can_retry(job);
        RC_ASSERT(done == can);
        if (!can) return;
        job.attempt = 0;
        return model.make_ready(job, now);
      }
      case BulkAction::cancel:
        RC_ASSERT(done == (job.state != JobState::completed && job.state != JobState::dead));
        if (job.state == JobState::leased) job.cancel_requested = true;
        if (job.state == JobState::scheduled || job.state == JobState::ready)
          model.finish_job(number, JobState::cancelled, now);
        return;
      case BulkAction::remove:
        RC_ASSERT(done == (job.state != JobState::leased));
        if (done) model.erase(number, now);
    }
  }

  void do_patch(Model& model) {
    auto const number = model.any();
    if (!number) return;
    ModelJob& job = model.jobs.at(*number);
    bool const can = job.state == JobState::scheduled || job.state == JobState::ready;
    auto const priority = static_cast<std::uint8_t>(model.rng.below(3));
    std::string const queue{choose(kQueues, model.rng)};
    std::optional<Instant> run_at;
    if (model.rng.chance(300)) run_at = now + Duration{static_cast<std::int64_t>(model.rng.below(3'000)) - 1'000};
    JobSpecView spec{.type = job.type, .queue = queue, .id = job.id, .priority = priority, .run_at = run_at};
    spec.expires_in = job.expires_in;
    spec.max_attempts = job.max_attempts;
    spec.lease = Duration{1'000};
    spec.unique_key = job.key;
    spec.cache_key = job.cache_key;
    spec.batch = job.batch;
    spec.unique_while = job.unique_while;
    if (job.unique_until) spec.unique_for = *job.unique_until - created_at(*number);
    spec.group = job.group;
    spec.keep_result = job.keep;

    Reply const reply = execute(PatchJob{.job = ref(*number),
                                         .changes = {.priority = priority, .run_at = run_at, .queue = queue},
                                         .new_spec = bytes(spec),
                                         .history = history_of(*number),
                                         .checkpoint = checkpoint(*number)});

    RC_ASSERT(holds<JobReply>(reply) == can);
    if (!can) return;
    bool const moves = priority != job.priority || queue != job.queue;
    job.priority = priority;
    job.queue = queue;
    bool const is_later = run_at && *run_at > now;
    if (job.state == JobState::scheduled || moves || is_later) Model::outlive(job, now);
    if (run_at && *run_at > now) {
      job.state = JobState::scheduled;
      job.due = *run_at;
    } else if (run_at && job.state == JobState::scheduled) {
      model.make_ready(job, now);
    } else if (job.state == JobState::ready && moves) {
      model.make_ready(job, now);
    }
  }

  void do_batch(Model& model) {
    std::string const id{choose(kBatches, model.rng)};
    auto const known = model.batches.find(id);
    switch (model.rng.below(8)) {
      case 0: {
        bool const done = holds<DoneReply>(execute(ForgetBatch{.id = id}));
        RC_ASSERT(done == (known != model.batches.end()));
        if (done) model.batches.erase(known);
        return;
      }
      case 1:
      case 2:
      case 3: {
        bool const done = holds<BatchReply>(execute(CloseBatch{.id = id}));
        RC_ASSERT(done == (known != model.batches.end()));
        if (!done || known->second.is_closed) return;
        known->second.is_closed = true;
        known->second.changed = now;
        return;
      }
      default: break;
    }
    MakeBatch command{.id = id};
    auto const kinds = 1 + model.rng.below(3);
    Duration const keep{std::chrono::hours{100}};
    JobSpecView const callback{
        .type = "t", .queue = "a", .max_attempts = 1, .lease = Duration{1'000}, .keep_result = keep};
    if (kinds & 1U) command.on_success = bytes(callback);
    if (kinds & 2U) command.on_finish = bytes(callback);
    Reply const reply = execute(command);
    if (known != model.batches.end()) {
      bool const is_same = known->second.has == std::array<bool, 2>{(kinds & 1U) != 0, (kinds & 2U) != 0};
      RC_ASSERT(holds<BatchReply>(reply) == is_same);
      return;
    }
    if (model.batches.size() >= kBatchesMax) {
      auto goes = model.batches.end();
      for (auto at = model.batches.begin(); at != model.batches.end(); ++at) {
        if (!model.is_over(at->first)) continue;
        if (goes == model.batches.end() || std::pair{model.kept_from(at->first), at->second.number} <
                                               std::pair{model.kept_from(goes->first), goes->second.number})
          goes = at;
      }
      RC_ASSERT(holds<BatchReply>(reply) == (goes != model.batches.end()));
      if (goes == model.batches.end()) return;
      model.batches.erase(goes);
    }
    RC_ASSERT(std::get<BatchReply>(reply).created);
    auto const& made = std::get<effect::BatchMade>(log.records.back().effect);
    model.batches[id] = {.number = JobNumber{std::to_underlying(made.batch)},
                         .changed = now,
                         .has = {(kinds & 1U) != 0, (kinds & 2U) != 0}};
  }

  // The engine has enqueued a callback: it must have been due, and is a job from now on.
  void take_callback(Model& model, effect::BatchFired const& fired, effect::JobEnqueued const& enqueued) {
    RC_ASSERT(fired.job == enqueued.number);
    auto const batch = std::find_if(model.batches.begin(), model.batches.end(), [&](auto const& entry) {
      return std::to_underlying(entry.second.number) == std::to_underlying(fired.batch);
    });
    RC_ASSERT(batch != model.batches.end());
    RC_ASSERT(model.is_due(batch->first, fired.callback));
    batch->second.called[static_cast<std::size_t>(fired.callback)] = fired.job;
    batch->second.changed = now;
    ModelJob job;
    job.type = "t";
    job.queue = "a";
    job.keep = std::chrono::hours{100};
    job.priority = kPriorityDefault;
    job.max_attempts = 1;
    job.due = now;
    job.state = JobState::ready;
    job.line = ++model.line;
    model.jobs.emplace(fired.job, std::move(job));
  }

  // A flag that gates some types, each open or not; or none of that key.
  void do_flag(Model& model) {
    std::string const key{choose(kFlags, model.rng)};
    if (model.rng.chance(200)) {
      RC_ASSERT(holds<DoneReply>(execute(RemoveFlag{.key = key})) == (model.closed_by.erase(key) > 0));
    } else {
      flags::Flag flag{.variants = {{.name = "on", .value = flags::boolean_value(true)},
                                    {.name = "off", .value = flags::boolean_value(false)}}};
      std::set<std::string>& closed = model.closed_by[key];
      closed.clear();
      for (std::string_view const type : kTypes) {
        if (model.rng.chance(500)) flag.gates.emplace_back(type);
        if (model.rng.chance(500)) continue;
        flag.rules.push_back(
            {.conditions = {{.attribute = "type", .values = {flags::string_value(type)}}}, .variant = 1});
        if (!flag.gates.empty() && flag.gates.back() == type) closed.emplace(type);
      }
      Bytes definition;
      flags::encode_flag(flag, definition);
      RC_ASSERT(holds<FlagReply>(execute(SetFlag{.key = key, .definition = definition, .by = "me"})));
    }
  }

  void do_bulk(Model& model) {
    if (!model.rng.chance(200)) return;
    BulkJobs bulk{.action = model.rng.chance(500) ? BulkAction::retry : BulkAction::remove};
    bulk.filter.state = bulk.action == BulkAction::retry ? JobState::dead : JobState::completed;
    bulk.filter.queue = choose(kQueues, model.rng);

    auto const counted = count(bulk);

    std::vector<JobNumber> matching;
    for (auto const& [number, job] : model.jobs) {
      if (job.state == *bulk.filter.state && job.queue == bulk.filter.queue) matching.push_back(number);
    }
    std::reverse(matching.begin(), matching.end());  // The newest first.
    std::uint64_t done = 0;
    for (JobNumber const number : matching) {
      // Of several dead jobs that compute one value, one is retried.
      if (bulk.action == BulkAction::retry && !model.can_retry(model.jobs.at(number))) continue;
      ++done;
      act(model, bulk.action, number, [](BulkAction) { return true; });
    }
    RC_ASSERT(counted == done);
  }

  // Lets the engine do what is due, reads from its log what it did in which order, and holds that against the rules.
  void settle(Model& model) {
    auto const before = log.records.size();
    advance();
    for (auto i = before; i < log.records.size(); ++i) {
      Effect const& effect = log.records[i].effect;
      if (auto const* ready = std::get_if<effect::JobReady>(&effect)) {
        ModelJob& job = model.jobs.at(ready->number);
        RC_ASSERT(job.state == JobState::scheduled && job.due <= now);
        model.make_ready(job, now);
      } else if (auto const* failed = std::get_if<effect::JobFailed>(&effect)) {
        ModelJob& job = model.jobs.at(failed->number);
        if (failed->code == "expired") {
          RC_ASSERT(!is_finished(job.state) && job.attempt == 0);
          RC_ASSERT(job.expires_at.has_value());
          RC_ASSERT(*job.expires_at <= now);
          model.finish_job(failed->number, JobState::dead, now);
          continue;
        }
        RC_ASSERT(job.state == JobState::leased && job.due <= now);
        if (job.cancel_requested) {
          model.finish_job(failed->number, JobState::cancelled, now);
        } else if (job.attempt >= job.max_attempts) {
          model.finish_job(failed->number, JobState::dead, now);
        } else {
          model.make_ready(job, now);
        }
      } else if (holds<effect::JobEnqueued>(effect)) {
        RC_ASSERT(i + 1 < log.records.size());
        auto const* fired = std::get_if<effect::BatchFired>(&log.records[++i].effect);
        RC_ASSERT(fired != nullptr);
        take_callback(model, *fired, std::get<effect::JobEnqueued>(effect));
      } else if (auto const* over = std::get_if<effect::BatchForgotten>(&effect)) {
        auto const batch = std::find_if(model.batches.begin(), model.batches.end(), [&](auto const& entry) {
          return std::to_underlying(entry.second.number) == std::to_underlying(over->batch);
        });
        RC_ASSERT(batch != model.batches.end());
        RC_ASSERT(model.is_over(batch->first) && model.kept_from(batch->first) + kBatchKept <= now);
        model.batches.erase(batch);
      } else {
        // What a cancellation pushed out, the model has pushed out already.
        RC_ASSERT(holds<effect::JobForgotten>(effect) || holds<effect::QueueRemoved>(effect));
      }
    }
    for (auto const& [number, job] : model.jobs) {
      if (job.state == JobState::scheduled || job.state == JobState::leased) RC_ASSERT(job.due > now);
      bool const waits = job.attempt == 0 && (job.state == JobState::scheduled || job.state == JobState::ready);
      if (waits && job.expires_at) RC_ASSERT(*job.expires_at > now);
    }
  }

  void compare(Model const& model) {
    RC_ASSERT(engine.check_invariants() == "");
    std::vector<BatchView> batches;
    engine.batch_views(batches);
    RC_ASSERT(batches.size() == model.batches.size());
    for (BatchView const& batch : batches) {
      ModelBatch const& known = model.batches.at(batch.id);
      RC_ASSERT(batch.jobs == model.counts(batch.id));
      RC_ASSERT(batch.closed_at.has_value() == known.is_closed);
      for (CallbackKind const kind : kAllCallbackKinds) {
        RC_ASSERT(!model.is_due(batch.id, kind));
        RC_ASSERT(batch.callback(kind).state == model.callback_state(known, kind));
        RC_ASSERT(batch.callback(kind).job == known.called[static_cast<std::size_t>(kind)]);
      }
      RC_ASSERT(!model.is_over(batch.id) || model.kept_from(batch.id) + kBatchKept > now);
    }
    RC_ASSERT(engine.status().jobs == model.jobs.size());
    std::uint64_t flights = 0;
    for (std::string_view const key : {"k", "c"}) {
      RC_ASSERT(engine.flight_of(key) == model.flight(key));
      flights += model.flight(key) ? 1U : 0U;
    }
    RC_ASSERT(engine.status().flights == flights);
    for (auto const& [number, job] : model.jobs) {
      auto const seen = engine.view(number);
      RC_ASSERT(seen.has_value());
      RC_ASSERT(seen->state == job.state);
      RC_ASSERT(seen->attempt == job.attempt);
      RC_ASSERT(seen->cancel_requested == job.cancel_requested);
      RC_ASSERT(seen->client_id == job.id);
      RC_ASSERT(checkpoint(number).data == job.checkpoint);
      if (job.state == JobState::ready || job.state == JobState::scheduled) RC_ASSERT(seen->ready_at == job.due);
      if (job.state == JobState::leased) RC_ASSERT(seen->lease_expires_at == job.due);
    }
  }

  Bytes history_of(JobNumber number) {
    JobHistory history;
    history.progress = view(number).progress;
    if (view(number).log_at) history.log_lines = {"x"};
    Bytes encoded;
    encode_history(history, encoded);
    return encoded;
  }

  // Drops some of the oldest segments, having copied ahead what lives in them; sometimes dies on the way.
  void trim(Model& model) {
    std::uint32_t const up_to =
        first_segment_ + static_cast<std::uint32_t>(model.rng.below(log.segment() - first_segment_ + 1));
    log.start_segment();
    bool const dies = model.rng.chance(200);
    auto const end = log.records.size();
    for (std::size_t i = 0; i < end; ++i) {
      ListLog::Record const record = log.records[i];
      if (record.written.at.segment < first_segment_ || record.written.at.segment > up_to) continue;
      if (dies && model.rng.chance(100)) return check_replay();
      if (engine.survive(record.effect, record.written.at, log) != Engine::Survival::copy_job) continue;
      auto const* sent = std::get_if<effect::JobEnqueued>(&record.effect);
      auto const* copied = std::get_if<effect::JobSnapshot>(&record.effect);
      JobNumber const number = sent ? sent->number : copied->number;
      engine.copy_ahead(number, sent ? sent->spec : copied->spec, history_of(number), checkpoint(number), log);
    }
    for (std::uint32_t segment = first_segment_; segment <= up_to; ++segment)
      RC_ASSERT(engine.live_records_in(segment) == 0U);
    first_segment_ = up_to + 1;
    check_replay();
  }

  void check_replay() {
    auto const again = replay(first_segment_);
    RC_ASSERT(again->check_invariants() == "");
    RC_ASSERT(dump(*again) == dump(engine));
  }

  std::uint32_t first_segment_ = 1;
};

RC_GTEST_FIXTURE_PROP(EngineModel, DoesWhatASlowPlainModelDoes, (std::uint64_t seed)) { run(seed, 300); }

}  // namespace
}  // namespace workmill::engine
