#pragma once
#include <functional>
#include <memory>

#include "base/error.h"
#include "net/io_loop.h"

// SIGTERM and SIGINT, as a call on a loop's thread.
//
// The first of either calls `on_signal` with its number; the second ends the process there and then, which loses
// nothing that was acknowledged. One object at a time in a process; it is made and destroyed on the loop's thread, and
// the signals do again what they do by themselves once it is gone. (Not Asio's signal_set: where the system refuses to
// watch its pipe it says nothing, and the server can then not be stopped in order.)
namespace workmill::app {

class StopSignals {
 public:
  // io_failed where the system has no descriptor left for it. `loop` outlives the object.
  static Result<std::unique_ptr<StopSignals>> watch(net::IoLoop& loop, std::move_only_function<void(int)> on_signal);
  virtual ~StopSignals() = default;
};

}  // namespace workmill::app
