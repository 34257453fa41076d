#pragma once
#include <cstdint>
#include <optional>
#include <random>
#include <string>

#include "core.h"
#include "operation.h"

namespace workmill::client::detail {

// A wait that is asked for in parts: how long each takes, what lies between two, and when it is over. A server that is
// away is part of what is waited for: it is asked again until then, however many attempts a call has, and however short
// the wait, no less often than by another call. Internal.
//
// It belongs to one wait. The core outlives it.
class Patience {
 public:
  // `what`: for the log. `give_up_at`: the end of the whole call, which has it too; it ends the wait before its time.
  Patience(Core& core, std::string what, Duration patience, std::optional<Loop::Clock::time_point> give_up_at);

  // What the server is asked to wait for the next part.
  Duration next_part();
  // Makes the call that asks for it one attempt, after the pause that is due.
  void ready(Call& call);

  enum class Next : std::uint8_t {
    ask,     // For the next part.
    over,    // It was waited for long enough.
    failed,  // By an error that waiting does not mend.
  };
  // After an answer that is not what is waited for.
  Next after_answer();
  // `has_answer`: an earlier part had one, which can be told in place of the error. The error may be the caller's, and
  // is told of the parts before it: any of them may have counted.
  Next after_error(Error& error, bool has_answer);

 private:
  Duration left() const;

  Core& core_;
  std::string const what_;
  bool const is_wait_;
  Loop::Clock::time_point const until_;
  std::optional<Loop::Clock::time_point> const give_up_at_;
  std::minstd_rand chance_;
  Loop::Clock::time_point asked_{};
  Duration part_{};
  Duration pause_{};
  unsigned failures_ = 0;
  unsigned early_ = 0;
  bool may_have_happened_ = false;  // One of the parts so far.
};

}  // namespace workmill::client::detail
