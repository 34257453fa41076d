#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "base/variant.h"
#include "engine/engine.h"
#include "model/command.h"
#include "model/effect.h"
#include "model/ids.h"
#include "model/job.h"
#include "model/queue.h"
#include "model/reply.h"
#include "shard/request.h"
#include "sim/checkers/model_batches.h"
#include "sim/checkers/model_cache.h"
#include "sim/checkers/model_flags.h"
#include "sim/figures.h"

// What a shard must do, said a second time: slow, with nothing but sets and maps, and written from the contract rather
// than from the engine. It is told each turn what was asked and answered, and says where the two differ.
//
// Where the rules leave the server a choice (which number a job gets, which of two jobs that became ready in the same
// millisecond goes first, how long a retry with jitter waits), the model takes the choice from what was written to the
// log and checks that it is a legal one. Everything else it predicts: the answer, the records, and the state. A turn
// whose flush failed was answered to nobody; where its batch turns out to be on the disk all the same, the model takes
// that turn without answers, and the state after it must still be what the rules say.
//
// Who overtook the computation of a volatile key may not be written down: then a turn is right if it is for one of
// those who may have, and is tried with each (model_cache_deletions.cpp).
namespace workmill::sim {

struct ModelOptions {
  std::uint32_t finished_kept_per_queue = 0;
  Duration dead_kept{};
  std::uint32_t idempotency_keys_max = 0;
  std::uint32_t steps_max = 0;
  std::size_t waiters_max = 0;
  std::size_t streams_max = 0;
  Duration reconnect_within{};
  std::uint64_t stream_window = 0;
  std::uint64_t stream_window_all = 0;
  std::uint32_t cache_jitter_permille = 0;
  std::vector<std::string> cache_volatile;
  std::uint64_t cache_disk_bytes = 0;  // The budgets.
  std::uint64_t cache_memory_bytes = 0;
  std::size_t flags_max = 0;
  std::size_t batches_max = 0;
  Duration batch_kept{};
};

struct ModelJob {
  JobNumber number{};
  Bytes spec;
  // From the spec, defaults filled in.
  std::string type, queue, group, client_id, unique_key, batch;
  std::vector<std::string> tags;
  std::uint8_t priority = 0;
  UniqueWhile unique_while{};
  Instant unique_until = Instant::max();
  Instant expires_at = Instant::max();
  Duration lease{}, keep_result{};
  Backoff backoff{};
  std::uint32_t max_attempts = 0;
  // Of a job that computes a cached value. Then `unique_key` is its key, in a name space of its own.
  std::string cache_key;
  Duration cache_fresh{}, cache_stale{}, cache_error_for{};
  std::vector<std::string> cache_tags;
  bool is_overtaken = false;  // Its key was put or deleted while it computed: nothing of it is kept.

  JobState state{};
  std::uint32_t attempt = 0;
  bool cancel_requested = false;
  Instant due{};            // Ready since, becomes ready, leased until, or finished at.
  Instant since{};          // Waiting: when it was put in line.
  std::uint64_t place = 0;  // In line: what became ready at one moment shares it.
  std::uint64_t order = 0;  // In line, as the log has it: nobody shares that.
  TypeIndex type_index = 0;
  LeaseToken token{};

  std::optional<Instant> started_at, finished_at;
  Instant leased_at{};  // As started_at, which damage may take from what is shown.
  std::string worker;
  std::deque<JobError> errors;  // Newest first.
  std::optional<JobProgress> progress;
  PayloadKind result_kind{};
  Bytes result;
  std::vector<Bytes> lines;
  JobCheckpoint checkpoint;
  bool has_old_checkpoint = false;  // From before a restart.
  bool was_retried = false;         // By hand, since it was dead or cancelled.
  bool is_lost = false;             // Its payload, as its copy says.
  std::uint32_t events = 0;         // Leases and failures: the history shows so many of them at most.

  bool is_waiting() const { return state == JobState::scheduled || state == JobState::ready; }
  bool is_unfinished() const { return !is_finished(state); }
  bool is_flight() const { return !cache_key.empty(); }
  // May it have read what it computes from?
  bool has_begun() const { return state == JobState::leased || (is_unfinished() && checkpoint.is_there()); }
  std::pair<std::string, std::string> key() const { return {is_flight() ? std::string{} : queue, unique_key}; }
};

struct ModelQueue {
  // Is there one to lease, at once?
  enum class Offer : std::uint8_t { no, maybe, yes };
  struct Line {              // The ready jobs of one group at one priority.
    std::uint64_t turn = 0;  // Its place among the groups: the smallest is served next.
    bool is_turn_known = true;
    std::map<std::uint64_t, std::uint64_t> jobs;           // Numbers, by their order.
    std::map<TypeIndex, std::set<std::uint64_t>> by_type;  // Their orders.
    // All up to this order have been at the front, and those that are left stand aside: the gate of their type was
    // closed then (docs/adr/0021). The server may be further where it goes on by itself (is_unsettled).
    std::uint64_t passed = 0;
    bool is_unsettled = false;  // Perhaps: at the front are closed ones, more than step aside at once.
    Offer offer{};
  };
  enum class Known : std::uint8_t { no, yes, maybe };

  QueueSettings settings;
  QueueCounters counters;
  std::array<std::uint64_t, kJobStates> depth{};
  std::array<std::map<std::string, Line>, kPriorityMax + 1> lines;
  std::array<std::array<std::uint32_t, 3>, kPriorityMax + 1> offers{};  // How many lines have each Offer.
  std::set<std::pair<Instant, std::uint64_t>> kept;  // Completed and cancelled, by when they finished.
  Known known = Known::no;

  std::uint64_t depth_in(JobState state) const { return depth[static_cast<std::size_t>(state)]; }
  std::uint64_t jobs() const;
  std::uint64_t unfinished() const {
    return depth_in(JobState::scheduled) + depth_in(JobState::ready) + depth_in(JobState::leased);
  }
  std::uint32_t lines_with(Offer offer) const {
    std::uint32_t sum = 0;
    for (auto const& lines_there : offers) sum += lines_there[static_cast<std::size_t>(offer)];
    return sum;
  }
  bool can_lease() const { return !settings.paused && lines_with(Offer::yes) > 0; }
  // The highest priority at which a line surely has one to lease; below 0: none has.
  int highest() const {
    int priority = kPriorityMax;
    while (priority >= 0 && offers[static_cast<std::size_t>(priority)][static_cast<std::size_t>(Offer::yes)] == 0) {
      --priority;
    }
    return priority;
  }
};

// What is out on one worker stream, and what it was promised. One that is away has no connection.
struct ModelStream {
  struct Out {
    std::uint64_t number = 0;
    LeaseToken token{};
    bool operator==(Out const&) const = default;
  };

  shard::Cookie cookie = 0;
  ResumeToken token{};
  std::string owner;
  Lease request;
  std::uint32_t credit = 0;
  bool is_away = false;
  Instant deadline{};      // While it is away.
  std::vector<Out> out;    // Oldest first.
  std::vector<Out> again;  // Of these: to be sent once more.
  std::vector<std::uint64_t> cancels;
  std::uint64_t window = 0;  // Bytes on their way.
  bool drains = false;
  bool owes_drained = false;
  Instant pushed_until{};    // When the last jobs that it was sent were on their way to it, and
  Instant reported_until{};  // when the last report on one was answered.

  std::uint32_t free_credit() const {
    return out.size() >= credit ? 0 : credit - static_cast<std::uint32_t>(out.size());
  }
};
struct Push {
  Reply reply;
  std::size_t answers_before = 0;  // In the same turn: so many requests were answered before.
};
using Pushes = std::map<shard::Cookie, std::vector<Push>>;

// One request that a turn has decided.
struct Asked {
  shard::Cookie cookie = 0;
  Command command;
  Instant give_up_at = shard::kNever;
};

struct TurnRecord {
  Instant now{};
  std::span<Asked const> asked;
  std::span<Effect const> effects;  // Of the batch, in order; none where there was none.
  std::unordered_map<shard::Cookie, Reply> const* replies = nullptr;  // None: the process died and nobody was answered.
  Pushes const* pushes = nullptr;                                     // With `replies`.
  bool is_settled = false;                                            // All that was due has been moved.
  bool is_draining = false;
  Instant answered_at{};  // None: see `replies`.
  // Entries that the cache had evicted in this life of the server, before the turn and after it.
  std::uint64_t evicted_before = 0, evicted_after = 0;
  bool is_disk_low = false;          // Before it, or after it.
  std::uint32_t oldest_segment = 0;  // Of the log, after it.
  std::size_t unfinished = 0;        // Requests of which the shard has done a part by then, and not all.
  // Who has begun to wait for the disk, in order, and for which keys it was done before the turn.
  std::span<shard::Cookie const> set_aside;
  std::span<std::string const> fetched;
};

class Model {
 public:
  Model(ModelOptions options, Figures& figures) : options_(std::move(options)), figures_(figures) {}

  // One turn. False: the server broke a rule, and complaint() says which. Nothing may be called after that.
  bool turn(TurnRecord const& record);
  // The process was started again at `now`; the newest batch that came through is of `last_batch_at`. By the end of the
  // life before, `evicted` entries of the cache had been evicted.
  bool restarted(Instant now, Instant last_batch_at, std::uint64_t evicted);
  // Somebody has looked into the index after the last turn of which we were told, and before the next was durable.
  bool saw(CacheSeen const& seen);
  // Who asked has gone: waits no more, and gets nothing if no turn has decided it yet; nor is decided then what frees
  // nothing.
  void abandon(shard::Cookie cookie, Instant at) {
    if (waiters_.erase(cookie) == 0 && !drop_stream(cookie, at) && !drop_fetching(cookie)) gone_.insert(cookie);
  }

  // A bit has turned in one batch of the log. Jobs of which a spec (and all that was copied with it), or something that
  // became of them, stands there: of these the server may find out, and of no others. It may act on what it has found
  // later, when the bit is right again: until the restart.
  void damage(std::set<std::uint64_t> const& specs, std::set<std::uint64_t> const& events) {
    damaged_specs_.insert(specs.begin(), specs.end());
    damaged_events_.insert(events.begin(), events.end());
  }

  // Everything the engine knows against everything we know. `with_content`: `views` carry specs and histories too.
  bool compare(std::span<JobView const> views, bool with_content);
  bool compare_queues(std::span<QueueView const> views);
  bool compare_status(engine::EngineStatus const& status);
  bool compare_lines(JobNumber number, std::vector<Bytes> const& lines);
  // `keys` are all that the index has, good or over; `look` looks one up as a reader does.
  bool compare_cache(std::span<std::string const> keys, std::function<CacheSeen(std::string const&)> const& look);
  // The record of this key's value cannot be read any more.
  void damage_cached(std::string const& key);
  // Or of one that it had before.
  void damage_fetched(std::string const& key);
  // Flags (model_flags.cpp), as somebody saw them after the last turn of which we were told, and before the next was
  // durable; then what the engine has, and how many jobs it holds back.
  bool saw(FlagsSeen const& seen);
  bool compare_flags(flags::FlagSet const& set);
  bool compare_history(std::string const& key, FlagHistory const& changes);
  bool compare_gates(engine::EngineStatus const& status);
  // Every batch that the engine has.
  bool compare_batches(std::span<BatchView const> views);

  std::string const& complaint() const { return complaint_; }

  // --- For the workload, which likes to aim.
  std::map<std::uint64_t, ModelJob> const& jobs() const { return jobs_; }
  ModelJob const* find(std::uint64_t number) const;
  std::uint64_t unfinished() const { return unfinished_; }
  std::size_t waiting() const { return waiters_.size(); }
  std::size_t waiting_for_flights() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(waiters_, [](auto const& waiter) { return !waiter.second.cache_key.empty(); }));
  }
  std::optional<JobNumber> job_on_stream() const;  // Any.
  std::size_t jobs_on_streams() const { return out_on_.size(); }
  bool has_unfinished_bulk() const { return !bulks_.empty(); }
  bool is_deleting_cached() const {  // By tag or prefix.
    return std::ranges::any_of(bulks_, [](Bulk const& bulk) { return holds<ForgetCachedBy>(bulk.command); });
  }
  std::map<std::string, ModelCached> const& cached() const { return cached_; }
  std::map<std::string, ModelFlag> const& flags() const { return flags_; }
  std::map<std::string, ModelBatch> const& batches() const { return batches_; }

 private:
  struct Waiter {
    std::optional<Lease> lease;  // Else it waits for the end of a job.
    std::vector<ReportResult> reports;
    JobNumber job{};
    Instant deadline{};
    std::string cache_key{};    // For the value that the job computes.
    bool has_begun_it = false;  // The flight.
    bool is_sure = true;        // Else there may have been no room for it, and nobody heard.
  };
  struct Answer {
    std::uint64_t fingerprint = 0;
    Instant until{};
    EnqueueReply reply;
    bool is_of_earlier_life = false;
  };
  struct Bulk {
    shard::Cookie cookie = 0;
    Command command;
    std::uint64_t count = 0;
    std::uint64_t serial = 0;  // Of the cached value that was stored last before.
    std::uint64_t unsure = 0;  // Records of keys that are gone which may be its own.
    std::uint32_t parts = 0;
    std::map<std::uint64_t, LeaseToken> flights{};  // To be overtaken: those that were leased when it began.
  };
  struct Fetching {  // Whoever waits for the disk.
    Asked asked;
    std::uint64_t serial = 0;  // Of the value that there was when he began to.
  };
  struct Outdated {  // What there was when the key was put or deleted.
    std::optional<ModelCached::Value> value{};
    bool is_sure = false;
    std::uint32_t oldest_segment = 0;  // Of the log, by then.
  };
  struct FetchLine {  // For one value.
    std::vector<Fetching> who{};
    std::optional<Outdated> outdated{};
  };
  enum class Room : std::uint8_t { yes, no, nobody_knows };

  // What a reference would be, in a model that is copied and assigned (turn()).
  class Counting {
   public:
    explicit Counting(Figures& figures) : figures_(&figures) {}
    std::uint64_t& operator[](Figure figure) const { return (*figures_)[figure]; }
    Figures& all() const { return *figures_; }

   private:
    Figures* figures_;
  };

  bool explain(TurnRecord const& record);

  template <class... Args>
  bool complain(fmt::format_string<Args...> text, Args&&... args) {
    if (complaint_.empty()) complaint_ = fmt::format(text, std::forward<Args>(args)...);
    return false;
  }

  // --- Commands.
  bool is_passed_over(Asked const& asked);
  bool execute(Asked const& asked);
  bool decide(Asked const& asked);
  bool run(shard::Cookie cookie, Enqueue const& command);
  bool run(shard::Cookie cookie, Lease const& command);
  bool run(shard::Cookie cookie, ReportBatch const& command);
  bool run(shard::Cookie cookie, GetJob const& command);
  bool run(shard::Cookie cookie, GetJobLog const& command);
  bool run(shard::Cookie cookie, ListJobs const& command);
  bool run(shard::Cookie cookie, CancelJob const& command);
  bool run(shard::Cookie cookie, RetryJob const& command);
  bool run(shard::Cookie cookie, DeleteJob const& command);
  bool run(shard::Cookie cookie, PatchJob const& command);
  bool run(shard::Cookie cookie, BulkJobs const& command);
  bool run(shard::Cookie cookie, ListQueues const& command);
  bool run(shard::Cookie cookie, GetQueue const& command);
  bool run(shard::Cookie cookie, PatchQueue const& command);
  bool run(shard::Cookie cookie, PurgeQueue const& command);
  bool run(shard::Cookie cookie, GetStatus const& command);
  bool run(shard::Cookie cookie, OpenStream const& command);
  bool run(shard::Cookie cookie, TellStream const& command);
  bool run(shard::Cookie cookie, PutCache const& command);
  bool run(shard::Cookie cookie, ComputeCached const& command);
  bool run(shard::Cookie cookie, ReadCached const& command);
  bool run(shard::Cookie cookie, ForgetCached const& command);
  bool run(shard::Cookie cookie, ForgetCachedBy const& command);
  bool run(shard::Cookie cookie, SetFlag const& command);
  bool run(shard::Cookie cookie, RemoveFlag const& command);
  bool run(shard::Cookie cookie, GetFlagHistory const& command);
  bool run(shard::Cookie cookie, MakeBatch const& command);
  bool run(shard::Cookie cookie, CloseBatch const& command);
  bool run(shard::Cookie cookie, ForgetBatch const& command);
  bool run(shard::Cookie cookie, GetBatch const& command);
  bool run(shard::Cookie cookie, ListBatches const& command);

  bool bulk_part(Bulk bulk);
  bool names_no_batch(JobFilter const& filter) const {
    return !filter.batch.empty() && !batches_.contains(filter.batch);
  }
  Room room_to_wait() const;
  // Whether there may have been none all the same for this request, which was answered in its turn: those who were
  // perhaps served after it waited still (see jobs_leased_later()).
  bool was_perhaps_full(shard::Cookie cookie) const;
  bool enqueue_one(Bytes const& spec, EnqueuedJob& answer);
  enum class Fits : std::uint8_t { no, maybe, yes };
  bool is_let_in(shard::Cookie cookie, Enqueue const& command) const;
  Fits fits(std::vector<Bytes> const& specs) const;
  bool fits_with(std::vector<Bytes> const& specs, Fits how) const;
  bool has_room(std::vector<Bytes> const& specs) const { return fits(specs) == Fits::yes; }
  bool make_room(std::string const& queue, bool& has_room);
  bool decide_report(Report const& report, ReportResult& result);
  bool lease_jobs(Lease const& request, std::vector<LeasedJob>& leased, ModelStream const* stream = nullptr);
  bool take_damaged(std::vector<LeasedJob>& leased, std::size_t& unread, bool& is_any);
  std::optional<ErrorCode> cancel(ModelJob& job, bool& fine);
  std::optional<ErrorCode> retry(ModelJob& job, bool& fine);
  std::optional<ErrorCode> remove(ModelJob& job, bool& fine);

  // --- What happens because time has passed, and to those who wait.
  bool advance();
  bool serve_waiting(bool is_last);  // In its turn.
  bool end_overdue();
  bool end_job_wait(shard::Cookie cookie, Waiter const& waiter);
  bool check_settled();
  bool take_copies();

  // --- Streams (model_streams.cpp).
  struct Heard {  // What must be pushed in this turn to one who opened a stream.
    std::optional<StreamOpened> opened;
    std::optional<ErrorCode> refused, ended;
    std::vector<LeasedJob> jobs;
    std::vector<ModelStream::Out> again;
    std::vector<std::uint64_t> cancels;
    bool is_drained = false;
  };
  struct Heading {  // How far the pushes to one have been looked at.
    std::size_t jobs = 0, again = 0;
    std::uint64_t bytes = 0;
    bool is_over = false;
  };
  bool drop_stream(shard::Cookie cookie, Instant at);
  ModelStream* attached_stream(shard::Cookie cookie);
  ModelStream* attached_stream(std::string const& worker);
  ModelStream* overdue_stream_of(ModelJob const& job);
  std::size_t streams_attached() const;
  std::uint64_t window_of_all() const;
  void end_out(std::uint64_t number);
  void note_cancel(std::uint64_t number);
  void leave_stream(ModelStream& stream);
  void take_over(ModelStream& stream, shard::Cookie cookie, OpenStream const& command);
  bool can_be_of(ModelStream const& stream, effect::JobLeased const& granted) const;  // By now?
  bool serve_stream(ModelStream& stream);
  bool take_damaged_again(bool& is_any);
  bool end_streams();
  bool check_streams();
  bool check_pushes();
  bool check_push(shard::Cookie cookie, Heard& heard, Heading& at, Reply const& push);
  bool check_jobs(Heard& heard, Heading& at, StreamJobs const& sent);
  bool check_cancel(Heard& heard, StreamCancel const& cancel);

  // --- The shared cache (model_cache*.cpp).
  struct Windows {
    Duration fresh{}, stale{};
    Duration compute_least{}, compute_most{};
  };
  Reply const* find_reply(shard::Cookie cookie) const;
  bool is_volatile(std::string const& key) const;
  ModelCached::Value* cached_value(std::string const& key, Instant at);      // Not over by then.
  ModelCached::Failure* cached_failure(std::string const& key, Instant at);  // Likewise.
  bool is_sure(ModelCached::Kept const* kept) const { return kept != nullptr && kept->is_sure(evicted_after_); }
  // Can the cache hold it, with nothing beside it?
  bool has_cache_room(std::string const& key, CacheSet const& set) const;
  // What was computed is of the flight `by`, and took from 1 ms to this long.
  bool store(std::string const& key, CacheSet const& set, ModelJob const* by = nullptr, Duration compute_most = {});
  // Of a report, whose result says what was not stored.
  bool store_of_report(std::string const& key, CacheSet const& set, ModelJob const* by, Duration compute_most,
                       ReportResult& result);
  bool answer_with_stored();
  // --- Who waits for the disk (model_fetches.cpp).
  bool set_aside(Asked const& asked);
  bool end_fetch(std::string const& key);
  void outdate_fetches(std::string const& key);
  bool answer_outdated(std::string const& key, Asked const& asked, Outdated& outdated);
  bool give_up_fetches();
  bool drop_fetching(shard::Cookie cookie);
  std::vector<Asked const*> computes_left(std::string const& key) const;
  bool overtake(std::string const& key);
  void overtake(ModelJob& flight);
  static bool says_tag(ModelJob const& flight, ForgetCachedBy const& forget);
  bool is_meant(ModelJob const& flight, ForgetCachedBy const& forget);
  bool is_overtaken_next(ModelJob const& flight);
  bool overtake_begun(Bulk& forget);
  bool is_to_be_set(std::string const& key) const;
  // `over_since`: the serial at which a deletion began that ends in this turn.
  bool is_reached(ModelJob const& flight, std::optional<std::uint64_t> over_since);
  bool guess(bool is_likely);
  bool leaves_guesses(TurnRecord const& record);
  bool take_overtaking(Bulk const& forget, std::optional<std::uint64_t> over_since);
  bool are_overtaken(Bulk const& forget);
  bool learn_times(std::string const& key, ModelCached::Value& value, CacheTimes const& times);
  bool store_results(ModelJob const& job, Completed const& completed, ReportResult& result);
  bool fail_flight(ModelJob const& job, ErrorClass error_class, std::string_view code, std::string_view message);
  bool begins_flight(Bytes const& spec) const;
  bool answer_compute(shard::Cookie cookie, ComputeCached const& command, ModelJob* flight, bool has_begun);
  bool end_flight_wait(shard::Cookie cookie, Waiter const& waiter);
  bool compare_pending(Reply const& reply, ModelJob const& flight);
  bool is_given_up_for_nobody(ModelJob const& job, JobState next) const;
  bool forget_part(Bulk forget);
  bool forget_rest(Bulk const& forget, bool is_over);
  bool matches(std::string const& key, ModelCached const& cached, ForgetCachedBy const& forget) const;
  bool compare_cached(std::string const& key, ModelCached::Value& value, CacheValuePtr const& shown,
                      CacheTimes const& times, Instant at);
  bool compare_failure(std::string const& key, CacheFailure const& wanted, CacheFailure const& got);
  void restart_cache(std::uint64_t evicted);
  bool take_evictions(std::span<Asked const> asked);
  bool is_written_again(std::string const& key);
  bool is_to_be_deleted(std::string const& key, std::span<Asked const> asked) const;
  bool take_cache_copy(effect::CacheStored const& copy);
  bool take_cache_copy(effect::CacheFailed const& copy);

  // --- Flags (model_flags.cpp).
  bool compare_change(std::string const& key, ModelFlagChange const& wanted, ModelFlagChange const& got);
  bool take_flag_copy(effect::FlagChanged const& copy);

  // --- Batches (model_batches.cpp).
  ModelBatch* batch_of(ModelJob const& job);  // Null: in none, or in one that is gone.
  std::map<std::string, ModelBatch>::iterator find_batch(BatchNumber number);
  BatchCounts counts_of(ModelBatch const& batch) const;
  static CallbackState callback_state(ModelBatch const& batch, CallbackKind kind);
  bool is_due(ModelBatch const& batch, CallbackKind kind) const;
  bool is_over(ModelBatch const& batch) const;
  BatchState state_of(ModelBatch const& batch) const;
  bool compare_batch(std::string const& id, ModelBatch const& batch, BatchView const& view);
  bool answer_batch(shard::Cookie cookie, std::string const& id, bool is_created);
  std::optional<ErrorCode> refuse_batches(std::vector<Bytes> const& specs);
  void join_batch(ModelJob const& job);
  void leave_batch(ModelJob const& job);
  bool take_callback(effect::JobEnqueued const& made, effect::BatchFired const& fired);
  bool take_end_of_batch(effect::BatchForgotten const& gone);
  bool check_batches();
  void note_touched_batches();
  void note_due_batches();
  void restart_batches();
  bool take_batch_copy(effect::BatchCopied const& copy);

  // --- Gates, and the lines of jobs that wait for them (model_gates.cpp).
  using Line = ModelQueue::Line;
  using Offer = ModelQueue::Offer;
  TypeIndex type_index(std::string const& type);
  std::pair<std::size_t, std::size_t> gates_of(std::string const& type) const;  // Closed, and open ones.
  bool is_gated(std::string const& type) const { return !flags_.empty() && gates_of(type).first > 0; }
  bool is_closed(TypeIndex type) const { return !closed_.empty() && closed_.contains(type); }
  std::optional<std::uint64_t> first_open(Line const& line) const;  // Its order.
  ModelJob const* next_of(Line const& line) const;                  // Null: nobody there may be leased.
  void join_line(ModelQueue& queue, ModelJob const& job);
  void leave_line(ModelQueue& queue, ModelJob const& job);
  void restore_line(ModelQueue& queue, ModelJob const& job, Line const& before);
  std::uint64_t passed_from(Line const& line, std::uint64_t steps, std::uint64_t& taken) const;
  static bool is_at_front(Line const& line, ModelJob const& job);
  void step_aside(Line& line);
  void offer(ModelQueue& queue, std::size_t priority, Line& line);
  void set_gates();
  void restart_lines();
  void pass_all();
  void settle_lines();
  template <class Visit>
  void for_each_line(Visit const& visit) {
    for (auto& [name, queue] : queues_) {
      for (std::size_t priority = 0; priority < queue.lines.size(); ++priority) {
        for (auto& [group, line] : queue.lines[priority]) visit(queue, priority, line);
      }
    }
  }
  std::uint64_t held_back() const;
  std::uint64_t held_back(ModelQueue const& queue) const;
  std::uint64_t held_aside(ModelQueue const& queue) const;
  std::uint64_t droppable(ModelQueue const& queue, Fits how) const;
  bool compare_held_back(std::uint64_t got);

  // --- State.
  ModelJob* find(JobRef const& ref);
  ModelJob* find_same(JobSpecView const& spec);
  ModelJob* holder_of(std::string const& queue, std::string const& key);
  ModelJob* flight_of(std::string const& cache_key) { return holder_of({}, cache_key); }
  static bool holds_key(ModelJob const& job);
  static bool can_expire(ModelJob const& job);
  void read_spec(ModelJob& job, Bytes const& spec);
  ModelJob& add(ModelJob job);
  void enter(ModelJob& job, bool keeps_place = false);  // Into the indexes of its state.
  void leave(ModelJob& job);
  void note_finished(std::uint64_t number);
  void move(ModelJob& job, JobState to, Instant due);
  void forget(ModelJob& job);
  bool cancel_now(ModelJob& job);
  bool surplus(std::uint64_t number, std::string const& queue, Duration keep_result);
  bool may_be_damaged(std::uint64_t number) const {
    return damaged_specs_.contains(number) || damaged_events_.contains(number);
  }
  bool is_refused_as_damaged(shard::Cookie cookie) const;
  bool drop_checkpoint(ModelJob& job);
  bool end_damaged(ModelJob& job, effect::JobFailed const& failed, bool is_checkpoint);
  bool take_damaged_copy(ModelJob& job, effect::JobSnapshot const& copy);
  void add_error(ModelJob& job, ErrorClass error_class, std::string_view code, std::string_view message);
  bool is_leasable(Lease const& request) const;
  bool matches(ModelJob const& job, JobFilter const& filter, bool with_text) const;
  bool no_job_can_match(JobFilter const& filter) const;

  // --- Effects and replies.
  template <class E>
  E const* next() const {
    return at_ < effects_.size() ? std::get_if<E>(&effects_[at_]) : nullptr;
  }
  // The next record must be of this kind; it is taken.
  template <class E>
  E const* take();
  template <class E>
  bool take_for(ModelJob const& job, std::string_view what);
  Reply const* reply_to(shard::Cookie cookie);
  template <class R>
  bool expect(shard::Cookie cookie, R const*& out);
  bool expect_error(shard::Cookie cookie, ErrorCode code);
  bool expect_done(shard::Cookie cookie);
  bool compare_job(ModelJob const& job, JobView const& view, bool with_content);
  bool compare_queue(std::string const& name, ModelQueue& queue, QueueView const& view);
  // Who waits gets jobs where a worker asks next, or at the end of the turn: both leave the same records, and the model
  // takes the former, which is what happens unless a stream had no room yet, or closed jobs still stood in front of the
  // others. What is asked in between, and leaves no record, shows them ready then. How many, where `most` of them or
  // fewer explain `got`.
  using Depth = std::array<std::uint64_t, kJobStates>;
  static std::optional<std::uint64_t> jobs_leased_later(Depth const& got, Depth const& want, std::uint64_t most);
  bool compare_results(std::vector<ReportResult> const& wanted, std::vector<ReportResult> const& got);
  bool compare_leased(std::vector<LeasedJob> const& wanted, std::vector<LeasedJob> const& got);

  ModelOptions options_;
  Counting figures_;
  std::string complaint_;

  std::map<std::uint64_t, ModelJob> jobs_;
  std::map<std::string, ModelQueue> queues_;
  std::unordered_map<std::string, std::uint64_t> client_ids_;
  std::map<std::pair<std::string, std::string>, std::set<std::uint64_t>> unique_;  // Whoever ever brought the key.
  std::set<std::pair<Instant, std::uint64_t>> timers_;                             // Scheduled and leased.
  std::set<std::pair<Instant, std::uint64_t>> expiries_;
  std::set<std::pair<Instant, std::uint64_t>> keepers_;  // Finished: when they may go at the soonest.
  std::map<std::string, Answer> answers_;
  std::deque<std::pair<Instant, std::string>> answers_by_age_;
  std::map<shard::Cookie, Waiter> waiters_;
  std::set<shard::Cookie> gone_;   // Since they asked; some were decided before.
  std::size_t maybe_waiting_ = 0;  // So many more, whose turns nobody was answered in.
  std::deque<Bulk> bulks_;
  std::map<std::uint64_t, ModelStream> streams_;             // In the order in which they were opened.
  std::unordered_map<std::uint64_t, std::uint64_t> out_on_;  // Which job is out on which of them.
  std::set<ResumeToken> tokens_, tokens_before_;             // Of this process, and of earlier ones.
  std::uint64_t last_stream_ = 0;
  std::uint64_t unfinished_ = 0;
  std::uint64_t last_number_ = 0;
  std::uint64_t last_order_ = 0;          // In a line.
  std::uint64_t last_number_before_ = 0;  // This turn.
  std::uint64_t last_token_ = 0;
  std::uint64_t moment_ = 0;

  std::map<std::string, ModelCached> cached_;
  std::map<std::string, std::deque<FetchLine>> fetching_;  // By key.
  std::map<std::uint64_t, ModelCached::Value> landed_;     // What flights have computed in this turn.
  std::uint64_t cache_serial_ = 0;

  std::map<std::string, ModelBatch> batches_;  // By their ids.
  std::map<std::string, ModelFlag> flags_;
  std::map<std::string, std::uint64_t> flag_versions_;  // The highest that each had, whatever became of it.
  std::map<std::string, TypeIndex> types_;              // Of jobs, by when they came first.
  std::set<TypeIndex> closed_;
  bool is_any_unsettled_ = false;                              // Of the lines, perhaps.
  bool has_gate_opened_ = false;                               // In this turn, for jobs that waited.
  std::size_t served_early_ = 0;                               // Of those who waited, in this turn and before its end.
  std::map<std::string, std::uint64_t> perhaps_leased_later_;  // By queue: see jobs_leased_later().

  std::set<std::uint64_t> damaged_specs_, damaged_events_;

  // Of the turn under way.
  Instant now_{};
  std::span<Effect const> effects_;
  std::size_t at_ = 0;
  std::unordered_map<shard::Cookie, Reply> const* replies_ = nullptr;
  std::size_t replies_taken_ = 0;
  bool is_draining_ = false;
  std::span<shard::Cookie const> set_aside_;
  std::size_t set_aside_taken_ = 0;
  Instant give_up_at_{};  // Of the request that is being decided.
  Instant answered_at_{};
  Pushes const* pushes_ = nullptr;
  std::map<shard::Cookie, Heard> heard_;
  std::set<std::uint64_t> reported_now_;             // Jobs: what was handed out of them may be as it was before.
  std::set<std::uint64_t> finished_now_;             // Since those who wait were last served.
  std::map<std::uint64_t, JobState> ended_flights_;  // In this turn: as they last ended.
  bool is_disk_low_ = false;                         // Perhaps.
  std::span<Asked const> asked_now_;                 // Lent for the turn: what is still to be decided.
  std::size_t flight_looks_ = 0;                     // Of deletions by tag or prefix.
  std::uint32_t guesses_ = 0;                        // So many were made (guess()),
  std::uint32_t unlikely_guesses_ = 0;               // and a bit for each that is to be the other one.
  std::set<std::string> gone_now_;  // Keys of which was written down that they are gone, before what was asked.
  std::uint64_t evicted_before_ = 0, evicted_after_ = 0;
  std::uint32_t oldest_segment_before_ = 0, oldest_segment_ = 0;
  std::uint64_t serial_before_ = 0;  // Of the cached value that was stored last before this turn.
};

}  // namespace workmill::sim
