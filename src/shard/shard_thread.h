#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "base/channel.h"
#include "base/error.h"
#include "base/guarded.h"
#include "shard/request.h"
#include "shard/shard_loop.h"

// A shard on a thread of its own, for when there are several I/O threads: they send requests over one bounded channel,
// and each finds its answers in a mailbox of its own.
namespace workmill::shard {

// Where one I/O thread's answers wait for it. Bounded by the requests that it may have under way.
class Mailbox {
 public:
  // `wake` is called on the shard's thread when answers have come; it must not block.
  explicit Mailbox(std::move_only_function<void()> wake) : wake_(std::move(wake)) {}

  void put(std::vector<Answer>& answers);  // Leaves `answers` empty. On the shard's thread.
  void take(std::vector<Answer>& out);     // Appends. On the I/O thread.

 private:
  Guarded<std::vector<Answer>> answers_;
  std::move_only_function<void()> wake_;
};

class ShardThread {
 public:
  // As many requests as may wait for the shard's thread: a turn's worth and the next.
  static constexpr std::size_t kChannelCapacity = 16'384;

  // `on_fatal` is called on the shard's thread when a turn failed; there is no turn after it. What is lent outlives the
  // thread. `make_loop` is called once, at once, with the wake-up that the loop wants for its writer.
  ShardThread(std::function<std::unique_ptr<ShardLoop>(std::function<void()> wake)> const& make_loop,
              std::vector<Mailbox*> mailboxes, std::move_only_function<void(Error)> on_fatal);
  ~ShardThread();  // Stops after the turn at hand; drain first.
  ShardThread(ShardThread const&) = delete;
  ShardThread& operator=(ShardThread const&) = delete;

  // Any thread. overloaded, shutting_down or disk_full: nothing happened.
  Result<> submit(Request&& request);
  // False where the channel is full: try again later.
  bool abandon(Port port, Cookie cookie);
  void drain();
  // Turns since the start: while they grow, the shard lives. nudge() makes it turn soon, also where it is idle.
  std::uint64_t turns() const { return turns_.load(std::memory_order_relaxed); }
  void nudge();
  bool is_idle() const { return idle_.load(); }
  bool disk_low() const { return loop_->disk_low(); }
  bool streams_full() const { return loop_->streams_full(); }
  FlagBoard const& flags() const { return loop_->flags(); }
  void set_disk_reserve(std::uint64_t bytes) { loop_->set_disk_reserve(bytes); }
  void set_jobs_memory_max(std::uint64_t bytes) { loop_->set_jobs_memory_max(bytes); }
  JobIdCodec const& ids() const { return loop_->ids(); }
  cache::Cache* cache() const { return loop_->cache(); }

 private:
  struct Abandoned {
    Port port = 0;
    Cookie cookie = 0;
  };
  struct Nudge {};  // Something else has changed: look.
  using Message = std::variant<Request, Abandoned, Nudge>;

  void run();
  void take(Message&& message);
  void hand_out();

  Channel<Message> channel_{kChannelCapacity};
  std::vector<Mailbox*> mailboxes_;
  std::move_only_function<void(Error)> on_fatal_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> idle_{false};
  std::atomic<std::uint64_t> turns_{0};
  std::unique_ptr<ShardLoop> loop_;
  std::vector<Answer> scratch_;
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace workmill::shard
