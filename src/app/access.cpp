#include "app/access.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <string>
#include <string_view>
#include <utility>

#include "app/tokens_file.h"
#include "net/listener.h"

namespace workmill::app {
namespace {

constexpr auto kCertificateEndsSoon = std::chrono::days{14};

constexpr std::string_view kNoTokenIsLeft = "the tokens file has no token left: nobody is let in";

net::TlsFiles tls_files(Config const& config) { return {.certificate = config.tls_certificate, .key = config.tls_key}; }

// For a reload. At start a pipe is read like any file, and once; later nobody may write to it, and the loop that reads
// would wait for him.
Result<> check_readable_again(std::string_view setting, std::string const& path) {
  struct stat about{};
  if (::stat(path.c_str(), &about) != 0 || S_ISREG(about.st_mode)) return {};  // Where it is missing, reading says so.
  return fail(ErrorCode::bad_configuration,
              fmt::format("{}: {} is no ordinary file, and is not read again", setting, path));
}

void warn_of_end(std::string_view path, Instant end, Instant now, telemetry::Logger& logger) {
  if (end - now >= kCertificateEndsSoon) return;
  logger.warn("the certificate ends soon, or has ended", {{"file", path}, {"valid_until", format_rfc3339(end)}});
}

void tell_tokens(TokensChange const& change, std::string_view path, telemetry::Logger& logger) {
  logger.info("the tokens have changed", {{"file", path},
                                          {"before", change.before},
                                          {"after", change.after},
                                          {"added", list_names(change.added)},
                                          {"removed", list_names(change.removed)},
                                          {"changed", list_names(change.changed)},
                                          {"rotated", list_names(change.rotated)}});
  if (change.after == 0) logger.warn(kNoTokenIsLeft, {{"file", path}, {"before", change.before}});
}

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

void reload_access(Reload& reload, Access& access, TokenUses& uses, Clock const& clock) {
  reload.on_reload("tokens", {"tokens_file"}, [&access, &uses](Config const& next) -> Result<Reload::Prepared> {
    WM_TRY(auto file, read_tokens_again(next, access.tokens));
    Reload::Prepared prepared;
    if (file.is_there) {
      TokensChange change = compare_tokens(access.tokens.list(), file.records);
      bool const is_first = !access.tokens.is_on();
      prepared.changes = is_first && change.is_empty() ? "none yet" : change.text();
      prepared.tell = [change = std::move(change), path = tokens_path(next)](telemetry::Logger& logger) {
        tell_tokens(change, path, logger.of(telemetry::LogComponent::auth));
      };
    }
    prepared.commit = [&access, &uses, file = std::move(file)]() mutable {
      if (file.is_there) access.tokens.set(std::move(file.records));
      keep_out_of_core_dumps(access);
      uses.begin();  // These may be the first.
    };
    return prepared;
  });
  auto const prepare = [&access, &clock](Config const& next) -> Result<Reload::Prepared> {
    if (!access.tls) return Reload::Prepared{.commit = [] {}};
    WM_TRY_VOID(check_readable_again("tls_certificate", next.tls_certificate));
    WM_TRY_VOID(check_readable_again("tls_key", next.tls_key));
    WM_TRY(auto made, net::TlsIdentity::read(tls_files(next)));
    Reload::Prepared prepared;
    if (!access.tls->shows(made)) {
      Instant const end = net::TlsIdentity::valid_until(made);
      prepared.changes = "valid until " + format_rfc3339(end);
      prepared.tell = [&clock, end, path = next.tls_certificate](telemetry::Logger& logger) {
        logger.info("the certificate has changed", {{"file", path}, {"valid_until", format_rfc3339(end)}});
        warn_of_end(path, end, clock.now(), logger);
      };
    }
    prepared.commit = [&tls = *access.tls, made = std::move(made)]() mutable { tls.use(std::move(made)); };
    return prepared;
  };
  // Connections speak TLS or they do not, from the first on.
  auto const waits = [](Config const& running, Config const& read) {
    return running.tls_certificate.empty() != read.tls_certificate.empty();
  };
  reload.on_reload("certificate", {"tls_certificate", "tls_key"}, prepare, waits);
}

void keep_out_of_core_dumps(Access const& access) {
  if (!access.tokens.is_on() && !access.tls) return;
  // The limit alone does not hold for cores that are piped to a program; this does for those too.
  static_cast<void>(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
  rlimit const none{.rlim_cur = 0, .rlim_max = 0};
  static_cast<void>(::setrlimit(RLIMIT_CORE, &none));
}

void add_access_metrics(telemetry::Metrics& metrics, Access const& access) {
  metrics.add_collector([&access](telemetry::MetricsWriter& out) {
    Instant const end = access.tls ? access.tls->valid_until() : Instant{};
    out.gauge("workmill_certificate_end_timestamp_seconds", "When the certificate ends; 0 where no TLS is spoken.", {},
              std::chrono::duration<double>(end.time_since_epoch()).count());
  });
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
  if (access.tls) warn_of_end(config.tls_certificate, access.tls->valid_until(), now, logger);
  if (access.tokens.is_on() && access.tokens.list().empty()) {
    logger.of(telemetry::LogComponent::auth).warn(kNoTokenIsLeft, {{"file", tokens_path(config)}});
  }
}

}  // namespace workmill::app
