#pragma once
#include <signal.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

// A terminal taken over for a live view: its second screen, without a cursor, keys one by one; and given back as it
// was, however the program ends.
//
// While a Screen lives, SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGWINCH come through signals() instead of by themselves.
// One at a time in a process, on one thread.
namespace workmill::app {

class Screen {
 public:
  // On standard input and output, which must both be a terminal. io_failed where the system refuses.
  static Result<std::unique_ptr<Screen>> take_over();
  ~Screen();
  Screen(Screen const&) = delete;
  Screen& operator=(Screen const&) = delete;

  // To be polled for readability, beside standard input; take_signal() answers 0 where none has come.
  int signals() const { return signals_; }
  int take_signal();

  // As it is now: it may be resized at any time.
  std::size_t columns() const;
  std::size_t rows() const;

  // Writes over what is shown, in one write and without clearing first, so that nothing flickers. `lines` fit.
  void show(std::vector<std::string> const& lines);

 private:
  explicit Screen(int signals, sigset_t before) : signals_(signals), mask_before_(before) {}

  int signals_;
  sigset_t mask_before_;
};

// Gives the terminal back, where one is taken over. For the last words of a program that cannot go on: safe in a signal
// handler, does nothing the second time.
void give_back_screen();

}  // namespace workmill::app
