#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "model/command.h"
#include "model/reply.h"
#include "shard/request.h"
#include "sim/figures.h"

// Workers with streams, and what becomes of their connections. They subscribe, take their time with what they are sent,
// report in batches, late, twice and under old tokens, change their credit, drain, hang up or fall silent, and come
// back: in time or not, by the right token or an old one, under their name or another, over a connection that is gone
// or still there, with all that they were sent, some of it or nothing.
//
// No two streams that are attached have workers of one name: by that the model knows whose a lease is.
namespace workmill::sim {

struct StreamWorkload {
  std::uint32_t workers = 0;  // 0: there are no streams.
  std::uint32_t queues = 3;
  std::uint32_t credit_max = 8;
};

class StreamWorkers {
 public:
  StreamWorkers(StreamWorkload const& options, Rng chance)
      : options_(options), chance_(chance), workers_(options.workers) {}

  bool empty() const { return workers_.empty(); }
  bool is_stream(shard::Cookie cookie) const { return by_cookie_.contains(cookie); }
  struct Step {
    std::optional<shard::Cookie> hangs_up{};
    std::optional<Command> sends{};
    shard::Cookie cookie = 0;  // Of the command.
  };
  // What one of them does next. `fresh`: a cookie that nobody has.
  Step next(shard::Cookie fresh);
  // What a stream was sent. Not called for one that has hung up.
  void pushed(shard::Cookie stream, Reply const& reply);
  // The command was not taken.
  void refused(shard::Cookie cookie, Command const& command);
  // Somebody else closed its connection.
  void hung_up(shard::Cookie stream);
  void server_died();

 private:
  struct Held {
    JobNumber number{};
    LeaseToken token{};
  };
  struct Worker {
    std::optional<shard::Cookie> stream;
    std::optional<shard::Cookie> silent;  // A connection that it has left and not closed.
    std::uint64_t generation = 0;         // Of its name.
    ResumeToken token{};                  // Of its last stream,
    ResumeToken old_token{};              // and of the one before.
    std::vector<Held> holds;
    std::uint64_t untaken = 0;
    bool drains = false;
  };

  bool chance(std::uint32_t permille) { return chance_.chance(permille); }
  std::uint64_t below(std::uint64_t n) { return chance_.below(n); }
  OpenStream open(std::size_t place, bool goes_on);
  Step subscribe(std::size_t place, bool goes_on, shard::Cookie fresh);
  ReportBatch report(Worker& worker);
  Outcome outcome();

  StreamWorkload options_;
  Rng chance_;
  std::vector<Worker> workers_;
  std::map<shard::Cookie, std::size_t> by_cookie_;  // Silent ones, too.
};

}  // namespace workmill::sim
