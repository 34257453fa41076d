#pragma once
#include <condition_variable>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>

#include "workmill/workmill.h"

// What the handlers of the suite's workers do: a script that is their job's payload.
namespace workmill::client::driver {

// Gates that scripts wait at, by name. Any thread.
class Gates {
 public:
  void open(std::string const& name) {
    std::lock_guard const lock{mutex_};
    open_.insert(name);
    changed_.notify_all();
  }
  // False where the context was cancelled first.
  bool pass(std::string const& name, std::stop_token const& stop) {
    std::unique_lock lock{mutex_};
    return changed_.wait(lock, stop, [&] { return open_.contains(name); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::string> open_;
};

// Runs a job's script, and says what it does. Its end is the handler's.
Result<Json> run_script(std::string const& worker, Json const& payload, JobContext& context, Gates& gates);

}  // namespace workmill::client::driver
