#pragma once
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "base/time.h"
#include "cache/cache.h"
#include "engine/engine.h"
#include "flags/flag_set.h"
#include "log/log.h"
#include "model/command.h"
#include "model/reply.h"
#include "shard/batch.h"
#include "shard/cache_desk.h"
#include "shard/fetcher.h"
#include "shard/flag_board.h"
#include "shard/flush_writer.h"
#include "shard/job_reader.h"
#include "shard/rates.h"
#include "shard/recovery.h"
#include "shard/request.h"
#include "shard/shard_times.h"
#include "shard/streams.h"
#include "shard/survivors.h"
#include "shard/waiters.h"
#include "telemetry/tracer.h"

// One turn after another: decide all that has come in, write it down as one batch, flush once, answer.
//
// The loop owns its engine and is turned by whoever owns the loop: the I/O thread between two polls, a thread of its
// own (shard_thread.h), or the simulator; it does not know which. All calls come from that one thread, but for the
// wake-up that a flush on the writer thread sends. An answer leaves only after the batch that it rests on is durable.
namespace workmill::shard {

class AttemptTraces;

enum class FlushBy : std::uint8_t {
  adaptive,  // The turn itself, or the writer thread where a flush takes long: as measured.
  turn,      // Always the turn.
  writer,    // Always the writer thread.
};

// There is too little of something for new jobs, or there is enough again.
struct Shortage {
  enum class Of : std::uint8_t { disk, memory };
  Of of = Of::disk;
  bool begins = false;
  std::uint64_t bytes = 0;        // Free on the disk, or used of the memory.
  std::uint64_t bound = 0;        // Where it begins.
  bool next_has_no_room = false;  // Of the disk: there is none for the log's next segment, whatever the bound.
};

struct ShardOptions {
  FlushBy flush_by = FlushBy::adaptive;
  // Below the one, hops between threads cost more than they hide; above the other, the next turn is worth having
  // meanwhile (docs/adr/0001). In between nothing changes, so that the choice does not flap.
  std::chrono::microseconds flush_fast{250};
  std::chrono::microseconds flush_slow{500};
  std::size_t inbox_max = 65'536;    // Requests that wait for their turn.
  std::size_t waiters_max = 65'536;  // Requests that wait for a job, or for the end of one.
  std::size_t commands_per_turn = 8'192;
  std::size_t batch_bytes = std::size_t{8} << 20;           // A turn takes no more commands once its batch is so large.
  std::size_t unflushed_bytes_max = std::size_t{64} << 20;  // Staged for the writer thread; turns pause above it.
  std::uint64_t disk_reserve_bytes = std::uint64_t{256} << 20;  // Free space below which enqueues are refused.
  // Of memory that jobs, queues and keys take (EngineStatus::memory_bytes): from there on enqueues are refused. 0:
  // none.
  std::uint64_t jobs_memory_bytes_max = 0;
  SurvivorOptions survivors;
  StreamOptions streams;
  ShardTimes* times = nullptr;  // Outlives the loop. None: nothing is measured but what GetStatus tells.
  // Something of a job could not be read back from the log, and why: told once for each job. On the shard's thread.
  std::function<void(JobNumber, Error const&)> on_damage;
  // Told when the disk or the memory for jobs becomes short, and when it no longer is; a second late at most. On the
  // thread of the shard, or of who makes the loop.
  std::function<void(Shortage const&)> on_shortage;
  cache::Cache* cache = nullptr;  // Filled by recover(); outlives the loop. Null: commands of the cache are refused.
  CacheDeskOptions cache_desk;
  std::function<void(Error const&)> on_cache_damage;  // The disk has lost a cached value, which is forgotten now.
  telemetry::Tracer* tracer = nullptr;                // Null: attempts have no spans.
  // For the simulation: who flushes instead of the writer thread, and who fetches instead of that for it.
  std::function<std::unique_ptr<Flusher>(log::Log&)> make_flusher;
  std::function<std::unique_ptr<Fetcher>()> make_fetcher;
};

struct Turn {
  bool more = false;            // There is work for another turn right now.
  std::optional<Instant> next;  // Else: when there is, if nothing comes in before, and no flush ends.
  bool paused = false;          // Nothing was decided: too much is staged that is not durable.
};

class ShardLoop {
 public:
  // `log` and `engine` have been through recover(); they, `clock` and nothing else are used from here on. `ports`: how
  // many askers there are. `wake` is called from the writer thread when a turn has something to harvest; not blocking.
  ShardLoop(ShardOptions options, log::Log& log, engine::Engine& engine, Clock const& clock, Rng chance,
            std::uint32_t ports, std::function<void()> wake, RecoveryReport const& recovery);
  ~ShardLoop();
  ShardLoop(ShardLoop const&) = delete;
  ShardLoop& operator=(ShardLoop const&) = delete;

  // Takes a request for the next turn. overloaded, shutting_down or disk_full where it does not (see admits()); then
  // nothing happened. Every request taken is answered once, unless it is abandoned.
  Result<> submit(Request&& request);
  // Who asked has gone: if the request waits, or no turn has seen it yet and it would only make work (it enqueues,
  // reads, or leases), it is forgotten. One that frees something (reports, deletions) is decided all the same, but
  // leases no job and waits for nothing. A stream that was opened by it is waited for, as far as jobs are out on it.
  void abandon(Port port, Cookie cookie);

  // One turn. An error is the end: a flush failed, or the log cannot be read back. Nobody knows then what is durable;
  // the owner must end the process without another turn, and nothing is answered any more.
  Result<Turn> turn();

  // Appends the answers that are ready for `port`, and forgets them here.
  void take_answers(Port port, std::vector<Answer>& out);

  // From now on nothing waits: whoever waits is answered in the next turn, whoever would is answered at once.
  void drain();
  // Nothing is under way: no request, no waiter, no answer that is not durable.
  bool idle() const;

  // Requests that the next turn will find. For the owner, who must not sleep then.
  bool has_requests() const { return inbox_done_ < inbox_.size(); }
  std::size_t requests() const { return inbox_.size() - inbox_done_; }
  // Requests that take several turns and have had some. For the simulation.
  std::size_t unfinished() const { return unfinished_.size(); }
  // Free space is below the reserve, or there is none for the log's next segment. Any thread may ask.
  bool disk_low() const { return disk_low_.load(std::memory_order_relaxed); }
  // Jobs take as much memory as they may. Any thread may ask.
  bool memory_full() const { return memory_full_.load(std::memory_order_relaxed); }
  // Whether there is room for what the command would add, as of the last look: disk_full, or overloaded for want of
  // memory. What frees room is always admitted, and so are leases. Any thread may ask.
  Result<> admits(Command const& command) const;
  // As many streams are open as may be. Any thread may ask.
  bool streams_full() const { return streams_full_.load(std::memory_order_relaxed); }
  // The flags as of the newest batch that is durable. Any thread may ask.
  FlagBoard const& flags() const { return flag_board_; }
  // Changes ShardOptions::disk_reserve_bytes; it counts when the loop looks at the disk next. Any thread.
  void set_disk_reserve(std::uint64_t bytes) { disk_reserve_.store(bytes, std::memory_order_relaxed); }
  // Changes ShardOptions::jobs_memory_bytes_max, from the next turn on. Any thread.
  void set_jobs_memory_max(std::uint64_t bytes) { jobs_memory_max_.store(bytes, std::memory_order_relaxed); }
  JobIdCodec const& ids() const { return ids_; }
  cache::Cache* cache() const { return options_.cache; }
  // A recount of the streams, for the simulation. An empty text means all is well.
  std::string check_streams() const { return streams_.check_invariants(); }

 private:
  struct Held {
    std::uint64_t batch = 0;  // Rests on this one.
    Port port = 0;
    Answer answer;
    std::string worker{};  // Of a lease, where attempts are traced: who asked.
  };
  struct Unfinished {  // A command that is done in parts, over several turns.
    Request request;
    std::uint64_t count = 0;
    std::optional<JobNumber> resume_before;
  };

  engine::Context context();
  Result<> take_commands();
  Result<> execute(Request&& request);
  // An error for whoever asked, where the job cannot be read back.
  Result<std::optional<Error>> prepare_patch(PatchJob& patch);
  bool is_given_up(Request const& request);
  Result<> execute_lease(Request&& request);
  // What the engine leases, with what was sent for each job. One whose payload is damaged is dead instead, and the next
  // takes its place. `request` is a Lease.
  Result<Reply> lease(Command const& request);
  Result<std::size_t> take_specs(std::vector<LeasedJob>& jobs);
  Result<bool> take_checkpoint(LeasedJob& job);
  void note_damage(JobNumber job, Error const& error);
  Result<> fill_job(JobView& job);
  Result<> execute_get(Request&& request);
  Result<> execute_in_parts(Unfinished unfinished);
  // The part of a bulk action that the engine cannot do: by tag, which only the log knows. True: not done yet, and
  // `resume_before` says where to go on. `refused`: nothing was done, and this is why.
  Result<bool> bulk_by_tag(Unfinished& unfinished, std::optional<Error>& refused);
  Result<> serve_waiting();
  Result<> serve_happened(engine::Happenings const& happened);
  Result<bool> serve_waiter(std::string const& queue);
  // --- The shared cache (shard_cache.cpp).
  Result<> execute_cached(Request&& request);
  Result<> put_cached(Request&& request);
  Result<> compute_cached(Request&& request);
  Result<> read_cached(Request&& request);
  Result<> forget_cached_by(Unfinished& unfinished, bool& again);
  void overtake_flights(ForgetCachedBy& forget, Allowed const& allowed);
  void write_gone();
  // Keeps the request back while the value that it reads is brought from the disk by another thread. False: it need
  // not, or cannot, wait for that.
  bool fetches_first(Request& request);
  // Who asked has gone. False: he waits for no such thing.
  bool forget_fetching(Port port, Cookie cookie);
  void give_up_fetching();
  Result<> take_fetched();
  // The disk has read what the first line of this key waits for.
  Result<> end_fetch(std::string const& key);
  // The key is about to be put or deleted: those who wait for the disk by now are to be answered with what there is.
  // Null: nobody does, or only such as were to be already.
  struct FetchLine;
  FetchLine* outdate_fetches(std::string const& key);
  void forget_outdated(FetchLine& line);
  struct Outdated;
  Result<> answer_outdated(Request&& request, Outdated& outdated);
  // As decided, and read back where it is cold: then it is a value, or absent.
  Result<cache::Lookup> look_cached(std::string_view key);
  // The job that computes the key: the one that does, or a new one.
  Result<JobNumber> ensure_flight(ComputeCached& compute);
  // What whoever waits for a flight is answered with, now that it is over.
  Result<Reply> end_of_flight(FlightWait const& wait);
  struct AnsweredGroup {  // Who is answered the same.
    Port port = 0;
    bool collapsed = false;
    std::size_t answer = 0;  // Among the pending ones.
  };
  Result<> end_flight(std::vector<Waiters::Id> const& waiting);
  struct ToldGroup {  // Likewise, of the end of a job.
    Port port = 0;
    AllowedQueues allowed{};
    std::size_t answer = 0;
  };
  Result<> end_job_wait(Waiter waiter, std::vector<ToldGroup>& told);
  bool joins_group(std::vector<AnsweredGroup>& groups, Waiter const& waiter, bool collapsed);
  void answer_with_stored();
  void fill_status_of_cache(StatusReply& reply);
  // --- Streams (shard_streams.cpp).
  void open_stream(Request&& request);
  void tell_stream(Port port, TellStream const& word);
  std::vector<StreamOut> take_over_jobs(Stream& stream, OpenStream const& open);
  void end_streams_overdue();
  void end_streams_for_drain();
  // The stream that comes first in the line of a queue gets a share of what is ready there. False: nobody does.
  // `share`: jobs for each, counted where it is 0.
  Result<bool> serve_stream(std::string const& queue, std::uint64_t& share);
  Result<> serve_eager_streams();
  // What is to be sent again, and then new jobs, `most` at most. So many came.
  Result<std::size_t> give_jobs(Stream& stream, std::uint64_t most);
  Result<> give_again(Stream& stream);
  void push_jobs(Stream& stream, std::vector<LeasedJob> jobs);
  void tell_streams();
  Result<> end_waiting(Waiter waiter);
  void answer(Port port, Cookie cookie, Reply reply);
  void tell_leased(Held& held);
  void tell_traces();
  void publish_flags();
  // By tag and text, which the engine does not know. `job` has been filled.
  Result<bool> matches(JobView const& job, JobFilter const& filter) const;
  Result<Reply> list_jobs(ListJobs list);
  Result<Reply> job_log(GetJobLog const& get);
  StatusReply status(bool with_queues);
  void sample_rates();
  void look_around();
  void look_at_memory();
  void tell_shortage(bool& told, Shortage const& is);
  Result<> finish_batch(std::uint64_t commands);  // So many of them were decided in this turn.
  Result<> harvest();
  bool has_room() const;
  bool take_gone(Request const& request);  // True: who asked has gone meanwhile.
  void choose_flusher();
  void note_flush(std::chrono::nanoseconds took, std::uint64_t flushes);
  void release(std::uint64_t durable);
  void make_ready(Held&& held, std::chrono::nanoseconds at);

  ShardOptions options_;
  log::Log& log_;
  engine::Engine& engine_;
  Clock const& clock_;
  Rng chance_;
  JobIdCodec ids_;
  std::function<void()> wake_;
  RecoveryReport recovery_;
  JobReader reader_;
  std::unique_ptr<CacheDesk> desk_;  // Null: no cache.
  static constexpr std::uint64_t kAnswerBytesPerTurn = std::uint64_t{16} << 20;
  // What a look at as many jobs as the engine takes in one step counts for: it takes about as long as to read so much.
  static constexpr std::uint64_t kLookBytes = std::uint64_t{64} << 10;
  std::uint64_t answer_bytes_ =
      0;             // Read back or shown in this turn, for answers: beyond that the others are for the next.
  struct Outdated {  // What there was for a key before it was put or deleted.
    cache::Lookup found;
    std::optional<cache::Place> place;  // Of its value, where that is on the disk only: held.
    bool is_read = false;
  };
  struct FetchLine {  // Who waits for the disk to read a value: one fetch, of those of its key the oldest first.
    std::vector<Request> requests{};
    std::optional<Outdated> outdated{};  // Then nobody joins it any more.
  };
  std::unordered_map<std::string, std::deque<FetchLine>> fetching_;  // By key, none of them empty.
  std::size_t fetching_requests_ = 0;
  Instant fetching_until_ = kNever;   // One of them gives up then, or has gone.
  std::vector<std::string> fetched_;  // Keys whose turn has come.
  struct ReadBack {
    std::uint64_t etag = 0;
    CacheValuePtr value;
  };
  std::optional<ReadBack> read_back_;  // Of the key whose line is being decided.
  std::uint64_t fetches_ = 0;
  // Flights that deletions have looked at in this turn: beyond the steps_max of the engine, the next has to wait.
  std::size_t flight_looks_ = 0;
  std::size_t to_sweep_ = 0;  // Places of its index that are still to be looked at.
  Survivors survivors_;
  std::unique_ptr<AttemptTraces> traces_;  // Null: nothing is traced.
  Batch batch_;
  std::size_t last_batch_bytes_ = 0;  // Of the turn before.
  Waiters waiters_;
  std::set<std::string> put_off_;  // Queues whose waiters are served in the next turn, as this one has read enough.
  Streams streams_;
  std::size_t stream_jobs_left_ = 0;  // That streams may still get in this turn.
  bool streams_overdue_ = false;      // There are more of them than a turn ends.
  Rates rates_;
  TurnRecorder recorder_;

  std::vector<Request> inbox_;
  std::size_t inbox_done_ = 0;              // So many of the inbox have been decided.
  std::set<std::pair<Port, Cookie>> gone_;  // Of requests in the inbox, perhaps: who has gone. Empty when that is.
  std::deque<Unfinished> unfinished_;
  std::vector<Held> pending_;               // Answers of this turn.
  std::deque<Held> held_;                   // Answers of earlier turns whose batch is not durable yet.
  std::vector<std::vector<Answer>> ready_;  // By port.
  std::size_t ready_count_ = 0;

  Instant now_{};
  std::chrono::nanoseconds turn_at_{};  // When this turn began, on the monotonic clock.
  Instant batch_at_{};                  // Of the newest batch.
  Instant looked_at_{};
  bool draining_ = false;
  bool advance_more_ = false;  // advance() had more to do than a step allows.
  std::atomic<std::uint64_t> disk_reserve_;
  std::atomic<bool> disk_low_{false};
  std::atomic<std::uint64_t> jobs_memory_max_;
  std::atomic<bool> memory_full_{false};
  bool told_disk_low_ = false;  // What on_shortage heard last.
  bool told_memory_full_ = false;
  std::atomic<bool> streams_full_{false};
  FlagBoard flag_board_;
  std::uint64_t flags_revision_ = 0;                                   // Of the newest set in line:
  std::deque<std::pair<std::uint64_t, flags::FlagSetPtr>> new_flags_;  // by the batch that it rests on.
  std::uint64_t staged_ = 0;                                           // Batches.
  std::uint64_t durable_ = 0;                                          // Of these.
  std::deque<std::pair<std::uint64_t, std::size_t>> unflushed_;        // Batch and bytes, for the bound.
  std::size_t unflushed_bytes_ = 0;
  std::uint32_t segment_ = 0;

  bool on_writer_ = false;
  bool leaving_writer_ = false;  // As soon as all that was staged is durable.
  std::uint64_t writer_flushes_seen_ = 0;
  double flush_ns_average_ = 0;
  std::unique_ptr<Flusher> writer_;  // Made when first needed.

  std::uint64_t turns_ = 0, commands_ = 0, flushes_ = 0, given_up_ = 0;
  std::uint64_t decide_ns_ = 0, flush_ns_ = 0, read_ns_ = 0;
  std::vector<QueueView> queue_views_;
  std::set<JobNumber> damage_told_;  // Jobs of which `on_damage` has heard.
  bool damaged_ended_ = false;       // Since those who wait were served.

  std::unique_ptr<Fetcher> fetcher_;  // Made when first needed. Last, so that its thread ends first.
};

}  // namespace workmill::shard
