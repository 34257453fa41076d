#pragma once
#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/config.h"
#include "base/error.h"
#include "telemetry/log.h"

// SIGHUP: the configuration is read again while the server runs, and what can change without a restart changes.
//
// All or nothing: the new configuration is checked as a whole, and every part that has to open something of its own (a
// certificate, a file of tokens) prepares that first; if anything is refused, the log says why and nothing has changed.
// Else the log names what has changed, and what waits for a restart; the audit log has a line of each reload.
//
// The wiring makes one and registers what can change. All calls on one thread, that of the first I/O loop (or before it
// runs); a callback that concerns another thread posts to its loop, with a copy of what it needs.
namespace workmill::app {

class Reload {
 public:
  // Reads the file again, with the command line over it, and checks it: all that the start did.
  using Read = std::function<Result<Config>()>;
  using Apply = std::move_only_function<void(Config const& running)>;
  // What a part has read, ready to be used.
  struct Prepared {
    std::move_only_function<void()> commit;  // Cannot fail.
    // What of it is other than before, for the audit log: "+new -old". Empty where nothing is.
    std::string changes{};
    std::move_only_function<void(telemetry::Logger&)> tell{};  // Where something is: says it.
  };
  using Prepare = std::move_only_function<Result<Prepared>(Config const& next)>;
  // Whether settings that are otherwise live have to wait, from what runs to what was read.
  using Waits = std::function<bool(Config const& running, Config const& read)>;

  // `running` is what the server was started with. `logger` outlives the object.
  Reload(Config running, Read read, telemetry::Logger& logger);
  Reload(Reload const&) = delete;
  Reload& operator=(Reload const&) = delete;

  // These settings, as the file names them, take effect at once: `apply` is called after a reload that changed any of
  // them, with the configuration that runs from now on (settings that need a restart have their old values in it). It
  // cannot fail. A setting may be named for several callbacks; one that is named for none needs a restart.
  void on_change(std::vector<std::string_view> settings, Apply apply);
  // For what lives in files of its own, whose contents may change under the same name: called on every reload. It reads
  // and checks, and changes nothing; the call that it answers is made when everybody has agreed, and cannot fail. An
  // error refuses the reload. `settings` are those that it sees to, such as the file's name; `part` is for the log.
  // Where `waits` says so, they wait for a restart, and the part is left as it is.
  void on_reload(std::string_view part, std::vector<std::string_view> settings, Prepare prepare, Waits waits = {});

  // Reads and applies (true), or refuses. Everything that there is to say goes to the log.
  bool run();

  // What runs now.
  Config const& running() const { return running_; }
  // Whether the last reload was: what stands in the files is not what runs. Any thread.
  bool was_refused() const { return was_refused_.load(std::memory_order_relaxed); }

 private:
  struct Watcher {
    std::vector<std::string_view> settings;
    Apply apply;
  };
  struct Part {
    std::string_view name;
    std::vector<std::string_view> settings;
    Prepare prepare;
    Waits waits;
  };
  // What a reload would change, ready to be done.
  struct Plan {
    Config next;
    std::vector<Change> changes;
    std::set<std::string_view> waiting;  // Settings that are live, and not this time.
    std::vector<std::pair<std::string_view, Prepared>> parts;
  };

  Result<Plan> plan();
  bool changes_now(Plan const& plan, std::string_view setting) const {
    return live_.contains(setting) && !plan.waiting.contains(setting);
  }
  void tell(Plan& plan);

  Config running_;
  Read read_;
  telemetry::Logger& logger_;
  std::atomic<bool> was_refused_{false};
  std::set<std::string_view> live_;
  std::vector<Watcher> watchers_;
  std::vector<Part> parts_;
};

}  // namespace workmill::app
