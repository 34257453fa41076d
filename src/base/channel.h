#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/error.h"
#include "base/guarded.h"

// Channel<T>: how threads hand values to each other. Bounded, many senders, one receiver, first in first out (each
// sender's values arrive in the order in which it sent them).
//
// Any thread may send, close and ask for the size. The receiving calls belong to one thread at a time. The channel
// belongs to who owns the receiver and outlives all senders.
//
// Senders and receiver meet under a lock for a push or for a swap of two vectors, whatever the number of values: the
// receiver takes all that has come at once, and hands it out batch by batch without the lock.
namespace workmill {

template <class T>
class Channel {
 public:
  // `capacity` > 0, and chosen with a reason: it bounds memory, and how long a value may wait in line.
  explicit Channel(std::size_t capacity) : capacity_(capacity) { WM_ASSERT(capacity > 0); }
  Channel(Channel const&) = delete;
  Channel& operator=(Channel const&) = delete;

  // For a receiver that sleeps elsewhere, such as in an event loop. Called on a sender's thread, without the lock, by
  // the send that ends an emptiness which the receiver has seen (see receive_batch), and by close(). Two senders may
  // call it at the same time. Set it before the channel is shared; it must not block, throw or send to this channel.
  void set_on_ready(std::move_only_function<void() const> on_ready) { on_ready_ = std::move(on_ready); }

  // overloaded when full, shutting_down when closed; `value` is then still the caller's, untouched.
  Result<> try_send(T&& value) {
    bool wake = false;
    bool waits = false;
    {
      Lock const lock{mutex_};
      if (closed_) return refuse_closed();
      if (is_full()) return refuse_full();
      wake = push(std::move(value));
      waits = receiver_waits_;
    }
    announce(wake, waits);
    return {};
  }

  // As try_send, but waits for room up to `timeout`. Not for a thread that others wait for: a shard, an I/O loop.
  Result<> send(T&& value, std::chrono::milliseconds timeout) {
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    bool wake = false;
    bool waits = false;
    {
      Lock const lock{mutex_};
      // Counted before looking for room: either we see the room, or the receiver that makes it sees us.
      senders_waiting_.fetch_add(1);
      bool in_time = true;
      while (!closed_ && is_full() && in_time) in_time = room_.wait_until(mutex_, deadline);
      senders_waiting_.fetch_sub(1);
      if (closed_) return refuse_closed();
      if (is_full()) return refuse_full();
      wake = push(std::move(value));
      waits = receiver_waits_;
    }
    announce(wake, waits);
    return {};
  }

  // Appends up to `max` values to `out` and answers how many; waits for nothing. Fewer than `max` means that the
  // channel was seen empty, and that the next send calls on_ready. After exactly `max`, call again before sleeping.
  std::size_t receive_batch(std::vector<T>& out, std::size_t max) {
    std::size_t received = hand_out(out, max);
    if (received < max && take_inbox(max - received)) received += hand_out(out, max - received);
    return received;
  }

  // The same, but where there is nothing waits up to `timeout` for the first value or for close().
  std::size_t receive_batch(std::vector<T>& out, std::size_t max, std::chrono::milliseconds timeout) {
    WM_ASSERT(max > 0);
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    std::size_t const received = receive_batch(out, max);
    if (received > 0) return received;
    {
      Lock const lock{mutex_};
      receiver_waits_ = true;
      bool in_time = true;
      while (inbox_.empty() && !closed_ && in_time) in_time = arrived_.wait_until(mutex_, deadline);
      receiver_waits_ = false;
    }
    return receive_batch(out, max);
  }

  // Refuses all sends from now on; what was sent before can still be received. May be called more than once.
  void close() {
    {
      Lock const lock{mutex_};
      closed_ = true;
    }
    arrived_.notify_all();
    room_.notify_all();
    if (on_ready_) on_ready_();
  }

  // True when closed and nothing is left: the receiver is done for good.
  bool finished() const {
    Lock const lock{mutex_};
    return closed_ && size() == 0;
  }

  // How full it is, for metrics: values sent and not handed out yet. Exact when all is quiet.
  std::size_t size() const { return size_.load(); }
  std::size_t capacity() const { return capacity_; }

 private:
  // Short messages: they fit into a string without allocating, and a refusal comes when there is work enough.
  static auto refuse_full() { return fail(ErrorCode::overloaded, "channel full"); }
  static auto refuse_closed() { return fail(ErrorCode::shutting_down, "channel closed"); }

  bool is_full() const { return size_.load() >= capacity_; }

  // Answers whether the receiver has to be told.
  bool push(T&& value) WM_REQUIRES(mutex_) {
    inbox_.push_back(std::move(value));
    size_.fetch_add(1);
    return std::exchange(seen_empty_, false);
  }

  void announce(bool wake, bool receiver_waits) {
    if (receiver_waits) arrived_.notify_one();
    if (wake && on_ready_) on_ready_();
  }

  // Swaps in what has come, and answers whether that was anything. `wanted`: what the receiver still has room for.
  bool take_inbox(std::size_t wanted) {
    WM_ASSERT(outbox_.empty());
    Lock const lock{mutex_};
    std::swap(inbox_, outbox_);
    // With fewer than it wants, the receiver goes to sleep: from this moment on a send has to wake it.
    if (outbox_.size() < wanted) seen_empty_ = true;
    return !outbox_.empty();
  }

  std::size_t hand_out(std::vector<T>& out, std::size_t max) {
    std::size_t const count = std::min(max, outbox_.size() - handed_out_);
    if (count == 0) return 0;
    if (out.empty() && handed_out_ == 0 && count == outbox_.size()) {
      std::swap(out, outbox_);  // The whole vector, and no value is touched.
    } else {
      auto const first = std::next(outbox_.begin(), static_cast<std::ptrdiff_t>(handed_out_));
      out.insert(out.end(), std::make_move_iterator(first),
                 std::make_move_iterator(std::next(first, static_cast<std::ptrdiff_t>(count))));
      handed_out_ += count;
      if (handed_out_ == outbox_.size()) {
        outbox_.clear();
        handed_out_ = 0;
      }
    }
    size_.fetch_sub(count);
    if (senders_waiting_.load() > 0) {
      {
        Lock const lock{mutex_};
      }  // A sender that has seen no room is by now waiting, and hears us.
      room_.notify_all();
    }
    return count;
  }

  std::size_t const capacity_;
  std::move_only_function<void() const> on_ready_;

  mutable Mutex mutex_;
  Condition arrived_;
  Condition room_;
  std::vector<T> inbox_ WM_GUARDED_BY(mutex_);
  bool closed_ WM_GUARDED_BY(mutex_) = false;
  bool receiver_waits_ WM_GUARDED_BY(mutex_) = false;
  bool seen_empty_ WM_GUARDED_BY(mutex_) = true;  // The receiver has seen it empty, and nothing was sent since.

  // Sequentially consistent, both: a sender in need of room and the receiver each write one and then read the other.
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> senders_waiting_{0};

  // The receiver's own.
  std::vector<T> outbox_;
  std::size_t handed_out_ = 0;
};

}  // namespace workmill
