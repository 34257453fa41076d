#pragma once
#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/time.h"
#include "model/command.h"
#include "model/effect.h"
#include "model/queue_set.h"
#include "shard/batch.h"
#include "shard/request.h"

// The worker streams of a shard: who wants jobs of which queues, how many more he may have, and which are out on whom.
//
// The shard's, on its thread. Nothing of it is in the log: a stream is forgotten with the process, while the leases
// that it was given are not. What is out is exact at every moment, however a lease ends, because the table watches the
// effects themselves: a job is out from add_out() until an effect ends its lease.
//
// A stream is `attached` while its connection is there. Once that has gone, one with jobs out is kept until its
// deadline, for its worker to come back; one without is forgotten.
namespace workmill::shard {

enum class StreamId : std::uint64_t {};

struct StreamOptions {
  std::uint32_t streams_max = 16'384;  // Attached. As many may be waited for besides.
  Duration reconnect_within = std::chrono::seconds{5};
  // Of the log, that is of payloads and a little more: so much may be on its way to one stream's connection, and to all
  // together, before the connection has passed some on. A stream that has less gets one more job, however large.
  std::uint64_t window_bytes = std::uint64_t{1} << 20;
  std::uint64_t window_bytes_all = std::uint64_t{256} << 20;
};

// A job that is out, and the lease under which it is.
struct StreamOut {
  JobNumber number{};
  LeaseToken token{};
};

struct Stream {
  StreamId id{};
  Port port = 0;
  Cookie cookie = 0;
  ResumeToken token{};
  std::string owner{};
  AllowedQueues allowed{};
  Command request{};  // A Lease, ready to be asked.
  std::uint32_t credit = 0;
  std::uint32_t out = 0;
  std::uint64_t window_used = 0;
  bool is_attached = true;
  bool drains = false;             // It gets no further jobs,
  bool owes_drained = false;       // and is to hear when none is out.
  std::vector<StreamOut> again{};  // To be sent once more, as far as they are out still: the last first.

  Lease& lease() { return std::get<Lease>(request); }
  Lease const& lease() const { return std::get<Lease>(request); }
  std::uint32_t free_credit() const { return credit > out ? credit - out : 0; }

  // --- The table's own.
  static constexpr std::uint32_t kNoOut = UINT32_MAX;
  std::uint32_t first_out = kNoOut;
  std::uint32_t last_out = kNoOut;
  std::uint64_t place = 0;  // In the lines that it stands in: whoever was served longest ago comes first.
  bool in_line = false;
  bool is_eager = false;
  bool is_told = false;
  Instant deadline = kNever;
  std::vector<StreamOut> cancels{};  // To be told, as far as they are out still.
};

class Streams final : public EffectWatch {
 public:
  explicit Streams(StreamOptions const& options) : options_(options) {}
  Streams(Streams const&) = delete;
  Streams& operator=(Streams const&) = delete;

  StreamOptions const& options() const { return options_; }
  bool empty() const { return by_id_.empty(); }
  std::size_t attached() const { return by_asker_.size(); }
  std::size_t away() const { return by_id_.size() - by_asker_.size(); }
  std::size_t jobs_out() const { return by_job_.size(); }
  std::uint64_t window_used() const { return window_used_; }
  bool is_full() const { return attached() >= options_.streams_max; }
  bool has_room() const { return window_used_ < options_.window_bytes_all; }

  // Streams stay where they are until they are removed. `stream` says who it is and what it wants; nobody opens two
  // under one port and cookie.
  Stream& open(Stream stream);
  Stream* find(Port port, Cookie cookie);
  Stream* find(ResumeToken const& token);
  Stream* find(StreamId id);
  Stream* any_attached();
  // The same stream for another connection, which `by` describes: with its jobs, and with the rest as `by` has it.
  void take_over(Stream& stream, Stream by);
  // Its connection has gone. The stream is gone too where nothing is out on it; else it is waited for until `deadline`.
  // Where more would be waited for than may, the deadline of the one that is the first to be over is at once.
  void drop(Stream& stream, Instant now);
  // Its jobs are nobody's then; their leases go on.
  void remove(Stream& stream);

  std::optional<Instant> next_deadline() const;
  Stream* first_overdue(Instant now);
  using Out = StreamOut;
  std::optional<Out> first_out(Stream const& stream) const;
  // All of them, oldest first.
  std::vector<Out> outs(Stream const& stream) const;
  bool is_out(Stream const& stream, Out const& job) const;

  // A job was leased to it.
  void add_out(Stream& stream, Out const& job);
  void use_window(Stream& stream, std::uint64_t bytes);
  void give_back_window(Stream& stream, std::uint64_t bytes);
  // To be called when its credit, `drains` or `again` was changed from outside.
  void changed(Stream& stream);
  // A cancellation to tell it of.
  void add_cancel(Stream& stream, Out const& job);

  // --- Who wants jobs. A stream that could take one stands in the lines of its queues.
  // May it take one?
  bool is_hungry(Stream const& stream) const;
  Stream* first_in_line(std::string const& queue);
  std::size_t in_line(std::string const& queue) const;
  void to_the_end(Stream& stream);  // Of its lines: it was served.
  // Those that can take more than when they were looked at last, and have to be looked at although no queue got a job.
  Stream* first_eager();
  void end_eager(Stream& stream);  // It has been looked at. The first one.
  // Queues that got jobs which were not all offered yet.
  void put_off(std::string const& queue) { put_off_.insert(queue); }
  std::set<std::string> take_put_off() { return std::exchange(put_off_, {}); }
  void forget_work();  // Nobody is given anything any more.
  bool has_work() const { return !put_off_.empty() || !eager_.empty(); }

  // --- Who is to be told something: that jobs are to be cancelled, or that it is drained.
  struct Word {
    Port port = 0;
    Cookie cookie = 0;
    std::vector<JobNumber> cancels{};
    bool drained = false;
  };
  std::optional<Word> next_word();

  void wrote(Effect const& effect) override;

  // Recounts everything: for tests and the simulation. An empty text means all is well.
  std::string check_invariants() const;

 private:
  struct Node {
    Out job;
    StreamId stream{};
    std::uint32_t before = Stream::kNoOut;
    std::uint32_t behind = Stream::kNoOut;
  };

  void end_out(JobNumber job);
  void unlink(Stream& stream, std::uint32_t at);
  void leave_lines(Stream& stream);
  void enter_lines(Stream& stream);
  void tell(Stream& stream);
  void be_eager(Stream& stream);
  void leave_asker(Stream& stream);

  StreamOptions options_;
  std::unordered_map<StreamId, Stream> by_id_;
  std::map<std::pair<Port, Cookie>, StreamId> by_asker_;  // The attached ones.
  std::map<ResumeToken, StreamId> by_token_;
  std::set<std::pair<Instant, StreamId>> by_deadline_;  // Those that are away.
  std::unordered_map<std::string, std::set<std::pair<std::uint64_t, StreamId>>> lines_;
  std::deque<StreamId> eager_;
  std::deque<StreamId> told_;
  std::set<std::string> put_off_;
  absl::flat_hash_map<JobNumber, std::uint32_t> by_job_;  // Into nodes_.
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> free_nodes_;
  std::uint64_t window_used_ = 0;
  std::uint64_t next_id_ = 1;
  std::uint64_t next_place_ = 1;
};

}  // namespace workmill::shard
