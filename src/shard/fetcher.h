#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/channel.h"
#include "base/guarded.h"

// A thread that waits for the disk in place of the shard's, which has turns to take: what a request is to read is
// brought into the system's memory here, and the request comes to its turn after that.
//
// begin() and take_done() on the shard's thread.
namespace workmill::shard {

class Fetcher {
 public:
  using Fetch = std::move_only_function<void()>;
  // What waits in line is not in the shard's queue: it must not be longer than its wait is worth.
  static constexpr std::size_t kWaitingMax = 1'024;

  // `wake` is called on the fetching thread when something is done; it must not block.
  explicit Fetcher(std::function<void()> wake);
  ~Fetcher();  // After the fetch that is under way; the others are left out.
  Fetcher(Fetcher const&) = delete;
  Fetcher& operator=(Fetcher const&) = delete;

  // `name`: for whom, to be told when it is done. False where too many wait.
  bool begin(std::string name, Fetch fetch);
  // Appends the names of what is done, in the order of begin().
  void take_done(std::vector<std::string>& out);

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
