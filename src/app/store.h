#pragma once
#include <memory>

#include "app/config.h"
#include "app/service_manager.h"
#include "base/error.h"
#include "base/rng.h"
#include "cache/cache.h"
#include "engine/engine.h"
#include "log/log.h"
#include "shard/recovery.h"
#include "telemetry/log.h"

namespace workmill::app {

// A server's log, and what is in it, brought to life.
struct Store {
  std::unique_ptr<log::Log> log;  // Before the engine's user, after nothing: it is closed last.
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<cache::Cache> cache;
  shard::RecoveryReport recovery;
};

// Opens the data folder and recovers what is in it, and says in the log or on a terminal, and to the service manager,
// how far it has come.
// Errors: what the log and shard::recover() say.
Result<Store> open_store(Config const& config, Clock const& clock, Rng& chance, telemetry::Logger& logger,
                         ServiceManager const& manager);

}  // namespace workmill::app
