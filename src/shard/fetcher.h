#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/channel.h"
#include "base/guarded.h"
#include "shard/request.h"

// Waits for the disk in place of the shard's thread, which has turns to take: what a request is to read is brought into
// the system's memory, and the request comes to its turn after that. An interface, once a fetch, since in the
// simulation a fetch is over when the simulator says so.
//
// begin(), note_waiting() and take_done() on the shard's thread.
namespace workmill::shard {

class Fetcher {
 public:
  using Fetch = std::move_only_function<void()>;
  // What waits in line is not in the shard's queue: it must not be longer than its wait is worth.
  static constexpr std::size_t kWaitingMax = 1'024;

  virtual ~Fetcher() = default;
  // `name`: for whom, to be told when it is done. False where too many wait.
  virtual bool begin(std::string name, Fetch fetch) = 0;
  // Whose request waits for what has begun, each of them. For the simulation, whose model has to know.
  virtual void note_waiting(Cookie /*cookie*/) {}
  // Appends the names of what is done, in the order of begin().
  virtual void take_done(std::vector<std::string>& out) = 0;
};

// On a thread of its own.
class FetchThread final : public Fetcher {
 public:
  // `wake` is called on the fetching thread when something is done; it must not block.
  explicit FetchThread(std::function<void()> wake);
  ~FetchThread() override;  // After the fetch that is under way; the others are left out.
  FetchThread(FetchThread const&) = delete;
  FetchThread& operator=(FetchThread const&) = delete;

  bool begin(std::string name, Fetch fetch) override;
  void take_done(std::vector<std::string>& out) override;

 private:
  struct Item {
    std::string name;
    Fetch fetch;
  };
  void run();

  std::function<void()> const wake_;
  Channel<Item> waiting_{kWaitingMax};
  Guarded<std::vector<std::string>> done_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace workmill::shard
