#pragma once
#include <string>
#include <thread>

#include "base/guarded.h"
#include "base/time.h"
#include "service/token_store.h"
#include "telemetry/log.h"

// Writes down when the tokens of a server were used last, so that it is known after a restart and to `token list`.
//
// Beside every request's path: a thread of its own looks at the store now and then, and writes where something has
// changed, into a file of its own (see token_uses_path) that is replaced whole. A server that is killed loses what was
// used since; nothing rests on it. The file is that of the data folder's server: only who holds that folder makes one.
namespace workmill::app {

class TokenUses {
 public:
  static constexpr Duration kEvery = std::chrono::minutes{1};

  // What is lent outlives it.
  TokenUses(std::string data, service::TokenStore const& store, telemetry::Logger& logger, Duration every = kEvery);
  // Ends the thread, and writes no more.
  ~TokenUses();
  TokenUses(TokenUses const&) = delete;
  TokenUses& operator=(TokenUses const&) = delete;

  // From here on it is written, where the store has tokens; a second time does nothing. On one thread, as finish().
  void begin();
  // Ends the thread, and writes a last time.
  void finish();

 private:
  void run();
  void end_thread();
  // Where something has changed since it was written last.
  void write();
  // False where the end came meanwhile.
  bool pause();

  std::string const data_;
  service::TokenStore const& store_;
  telemetry::Logger& logger_;
  Duration const every_;
  std::string written_;  // The whole file. Of the thread, and after its end of who ended it.
  bool has_failed_ = false;

  Mutex mutex_;
  Condition ended_;
  bool ending_ WM_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace workmill::app
