#pragma once
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>

#include "base/time.h"
#include "net/io_loop.h"
#include "net/task_scope.h"

// The end of a scope's tasks within a time: no new ones; those under way have until the deadline; then they are
// cancelled. One use; belongs to one I/O thread. Where it goes before the callback, nobody is called.
namespace workmill::net {

enum class Drained : std::uint8_t { in_time, cut_off };

class Drain {
 public:
  Drain(IoLoop& loop, TaskScope& scope) : scope_(scope), deadline_(loop.context()) {}
  ~Drain() { scope_.tell_nobody(); }
  Drain(Drain const&) = delete;
  Drain& operator=(Drain const&) = delete;

  void begin(Duration patience, std::move_only_function<void(Drained)> on_done);
  bool has_begun() const { return has_begun_; }

 private:
  TaskScope& scope_;
  boost::asio::steady_timer deadline_;
  Drained how_ = Drained::in_time;
  bool has_begun_ = false;
};

}  // namespace workmill::net
