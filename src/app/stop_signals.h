#pragma once
#include <functional>
#include <memory>

#include "base/error.h"
#include "net/io_loop.h"

// SIGTERM, SIGINT and SIGHUP, as calls on a loop's thread.
//
// The first SIGTERM or SIGINT calls `on_stop` with its number; the second ends the process there and then, which loses
// nothing that was acknowledged. Each SIGHUP calls `on_hangup`, and several that come at once may call it once; but
// where standard error was a terminal and is gone, it is as good as a SIGTERM. After a stop it does nothing. One object
// at a time in a process; it is made and destroyed on the loop's thread, and the signals do again what they do by
// themselves once it is gone. (Not Asio's signal_set: where the system refuses to watch its pipe it says nothing, and
// the server can then not be stopped in order.)
namespace workmill::app {

struct SignalCalls {
  std::move_only_function<void(int)> on_stop;
  std::move_only_function<void()> on_hangup;
};

class StopSignals {
 public:
  // To be called early: from now on a SIGHUP ends nobody, and one that comes before watch() is called is kept for it.
  static void hold_hangups();

  // io_failed where the system has no descriptor left for it. `loop` outlives the object.
  static Result<std::unique_ptr<StopSignals>> watch(net::IoLoop& loop, SignalCalls calls);
  virtual ~StopSignals() = default;
};

}  // namespace workmill::app
