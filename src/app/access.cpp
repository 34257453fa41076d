#include "app/access.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <utility>

#include "app/tokens_file.h"
#include "net/listener.h"

namespace workmill::app {
namespace {

constexpr auto kCertificateEndsSoon = std::chrono::days{14};

net::TlsFiles tls_files(Config const& config) { return {.certificate = config.tls_certificate, .key = config.tls_key}; }

}  // namespace

CallersAre callers_of(Access const& access) {
  return access.tokens.is_on() ? CallersAre::asked_for_tokens : CallersAre::unknown;
}

Result<> open_access(Config const& config, Access& access) {
  WM_TRY_VOID(load_tokens(config, access.tokens));
  WM_TRY_VOID(check_exposure(config, callers_of(access)));
  if (config.tls_certificate.empty()) return {};
  WM_TRY(auto made, net::TlsIdentity::read(tls_files(config)));
  access.tls = std::make_unique<net::TlsIdentity>(std::move(made));
  return {};
}

void reload_access(Reload& reload, Access& access) {
  reload.on_reload("tokens", {"tokens_file"}, [&access](Config const& next) -> Result<Reload::Commit> {
    WM_TRY(auto file, read_tokens_again(next, access.tokens));
    return Reload::Commit{[&access, file = std::move(file)]() mutable {
      if (file.is_there) access.tokens.set(std::move(file.records));
      keep_out_of_core_dumps(access);
    }};
  });
  auto const prepare = [&access](Config const& next) -> Result<Reload::Commit> {
    if ((access.tls != nullptr) == next.tls_certificate.empty()) {
      return fail(ErrorCode::bad_configuration, "tls_certificate: TLS is turned on and off by a restart only");
    }
    if (!access.tls) return Reload::Commit{[] {}};
    WM_TRY(auto made, net::TlsIdentity::read(tls_files(next)));
    return Reload::Commit{[&tls = *access.tls, made = std::move(made)]() mutable { tls.use(std::move(made)); }};
  };
  reload.on_reload("certificate", {"tls_certificate", "tls_key"}, prepare);
}

void keep_out_of_core_dumps(Access const& access) {
  if (!access.tokens.is_on() && !access.tls) return;
  // The limit alone does not hold for cores that are piped to a program; this does for those too.
  static_cast<void>(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
  rlimit const none{.rlim_cur = 0, .rlim_max = 0};
  static_cast<void>(::setrlimit(RLIMIT_CORE, &none));
}

void warn_of_access(Config const& config, Access const& access, Instant now, telemetry::Logger& logger) {
  auto const address = net::parse_address(config.listen);
  bool const is_exposed = address && !address->host.is_loopback();
  if (is_exposed && access.tokens.is_on() && !access.tls) {
    logger.warn(
        "tokens and jobs go over the network in the clear: set tls_certificate, unless something ahead of the "
        "server sees to that",
        {{"address", config.listen}});
  }
  if (access.tls && access.tls->valid_until() - now < kCertificateEndsSoon) {
    logger.warn("the certificate ends soon, or has ended",
                {{"file", config.tls_certificate}, {"valid_until", format_rfc3339(access.tls->valid_until())}});
  }
}

}  // namespace workmill::app
