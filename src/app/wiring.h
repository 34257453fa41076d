#pragma once
#include "app/access.h"
#include "app/config.h"
#include "app/reload.h"
#include "base/error.h"
#include "telemetry/log.h"

// Makes every part of a server, in order, by hand, and runs it.
namespace workmill::app {

// Runs a server until SIGTERM or SIGINT has drained it. `config` has been checked; `read_again` gives it anew, for
// SIGHUP. On the caller's thread, which
// becomes the first I/O thread; threads of its own are over when it returns. An error: it could not start, or had to
// stop because nobody knows any more what is durable; then the process must end without another word to any client.
// `access` is what its files say, which are read again on SIGHUP too.
Result<> run_server(Config const& config, Reload::Read read_again, Access& access, Clock const& clock,
                    telemetry::Logger& logger);

}  // namespace workmill::app
