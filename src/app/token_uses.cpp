#include "app/token_uses.h"

#include <system_error>
#include <utility>
#include <vector>

#include "app/tokens_file.h"
#include "base/thread_name.h"

namespace workmill::app {

TokenUses::TokenUses(std::string data, service::TokenStore const& store, telemetry::Logger& logger, Duration every)
    : data_(std::move(data)), store_(store), logger_(logger), every_(every) {}

TokenUses::~TokenUses() { end_thread(); }

void TokenUses::begin() {
  if (thread_.joinable() || !store_.is_on()) return;
  try {
    thread_ = std::thread{[this] { run(); }};
  } catch (std::system_error const& error) {
    logger_.warn("when tokens are used is not written down: no thread can be started", {{"error", error.what()}});
  }
}

void TokenUses::finish() {
  end_thread();
  if (store_.is_on()) write();
}

void TokenUses::end_thread() {
  {
    Lock const lock{mutex_};
    ending_ = true;
  }
  ended_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void TokenUses::run() {
  name_this_thread("wm-tokens");
  while (pause()) write();
}

bool TokenUses::pause() {
  Lock const lock{mutex_};
  while (!ending_ && ended_.wait_for(mutex_, every_)) {
  }
  return !ending_;
}

void TokenUses::write() {
  std::vector<service::TokenUse> const uses = store_.uses();
  std::string file = service::format_token_uses(uses);
  if (file == written_) return;
  auto const kept = write_token_uses(data_, uses);
  if (kept) {
    written_ = std::move(file);
  } else if (!has_failed_) {  // Else a line each minute would say the same.
    logger_.warn("when tokens were used last could not be written down",
                 {{"file", token_uses_path(data_)}, {"error", describe(kept.error())}});
  }
  has_failed_ = !kept;
}

}  // namespace workmill::app
