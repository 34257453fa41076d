#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "base/time.h"
#include "cache/cache.h"
#include "flags/flag_set.h"
#include "model/allowed.h"
#include "model/command.h"
#include "model/ids.h"
#include "model/reply.h"
#include "shard/request.h"

// All that an adapter (a wire protocol) can ask. One Service for each I/O thread; its calls and its answers stay on
// that thread, so an adapter needs no lock.
//
// A command is handed over by value with a cookie of the adapter's choosing, and is answered exactly once with that
// cookie, after everything that the answer shows is durable, unless it is abandoned first. Answers come in bunches,
// one for each turn of the shard, never from inside submit(). One answer may be for several cookies (Answer::also).
//
// Three commands are another matter: under the cookie of an OpenStream come many answers, until it is abandoned or one
// of them is an Error or a StreamEnded; a TellStream is not answered, and a quiet ComputeCached neither, unless with an
// Error where it was not taken after all.
namespace workmill::service {

using shard::Answer;  // {cookie, reply, …}
using shard::Cookie;
using shard::kNever;

// Takes answers, on the I/O thread that asked. The span and what it holds may be moved from.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  virtual void on_answers(std::span<Answer> answers) = 0;
};

enum class Readiness : std::uint8_t { ready, recovering, disk_full, draining };

// What keeps the server from being ready: of several at once, each.
struct Hindrances {
  bool recovering = false;
  bool disk_full = false;
  bool draining = false;

  // The one to name where there is room for one.
  Readiness readiness() const {
    if (draining) return Readiness::draining;
    if (recovering) return Readiness::recovering;
    return disk_full ? Readiness::disk_full : Readiness::ready;
  }
};

class Service {
 public:
  virtual ~Service() = default;

  // Where this thread's answers go. Set once, before the first submit().
  virtual void set_sink(AnswerSink* sink) = 0;

  // When the command that is handed over next had been parsed, on the monotonic clock, to measure how long it waits.
  virtual void set_parsed_at(std::chrono::nanoseconds) {}
  // Hands a command to its shard. overloaded, shutting_down or disk_full where it is not taken: then nothing happened,
  // and no answer will come. disk_full, and overloaded for want of memory, refuse what adds something only; reports and
  // deletions still pass.
  // Where its turn comes at or after `give_up_at` (kNever if need be), it is not decided but answered with
  // deadline_exceeded; where it waits then, it stops waiting.
  // `allowed`: what the caller is limited to, if he is; the shard holds the command to it (shard/access.h).
  virtual Result<> submit(Cookie cookie, Command command, Instant give_up_at, Allowed allowed = {}) = 0;
  // The client has gone: a command that waits stops waiting, one that only makes work (it enqueues, or reads) and was
  // not decided yet is dropped, and no answer comes any more for this cookie (one that
  // is already on its way may still come). Jobs leased in the same turn for a client that has gone are released.
  virtual void abandon(Cookie cookie) = 0;

  // To write and read the ids of jobs.
  virtual JobIdCodec const& ids() const = 0;
  // Wall time, as of the last poll of this thread's loop. Cheap.
  virtual Instant now() const = 0;
  virtual Hindrances hindrances() const = 0;
  Readiness readiness() const { return hindrances().readiness(); }
  // As many worker streams are open as may be.
  virtual bool streams_full() const { return false; }
  virtual Duration uptime() const = 0;
  // The shared cache, to look into from this thread: find(), claim_refresh() and figures() are for any. What is there
  // is durable, or volatile by declaration. Null: the server keeps none.
  virtual cache::Cache* cache() { return nullptr; }
  // The flags as of the newest batch that is durable, shared by all threads: whoever was answered that a flag is set
  // finds it so on any of them. Lent until the next call. None where this service knows no flags.
  virtual flags::FlagSet const& flags() const;

  // A reference to a job, from its id as text: by number where this store made the id.
  JobRef job_ref(std::string_view id) const;
  // A job's id as text: the client's own, else made from the number.
  void append_id(JobNumber number, BytesView client_id, std::string& out) const;
};

}  // namespace workmill::service
