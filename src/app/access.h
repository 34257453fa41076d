#pragma once
#include <memory>

#include "app/config.h"
#include "app/reload.h"
#include "app/token_uses.h"
#include "base/error.h"
#include "net/tls.h"
#include "service/token_store.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

// Who may come in, and how: the tokens and the certificate of a server.
namespace workmill::app {

// Outlives the server. Both are set anew by a reload, and looked at by all I/O threads.
struct Access {
  service::TokenStore tokens;             // Off where there is no tokens file.
  std::unique_ptr<net::TlsIdentity> tls;  // Null: plain HTTP.
};

CallersAre callers_of(Access const& access);

// At start. bad_configuration where a file is not as it should be, or the address is not to be listened on like that.
Result<> open_access(Config const& config, Access& access);

// The files are read again with each reload, and the log says what in them is other than before: names of tokens, and
// when a certificate ends. `uses` and `clock` outlive `reload`.
void reload_access(Reload& reload, Access& access, TokenUses& uses, Clock const& clock);

// From here on the system writes no core of this process, and lets nobody but root look into it: what is in there are
// keys, headers with tokens, and payloads. For a server that has tokens or a certificate; others are as they were.
void keep_out_of_core_dumps(Access const& access);

// When the certificate ends. `access` outlives `metrics`.
void add_access_metrics(telemetry::Metrics& metrics, Access const& access);

// Warns of what an operator may not have meant.
void warn_of_access(Config const& config, Access const& access, Instant now, telemetry::Logger& logger);

}  // namespace workmill::app
