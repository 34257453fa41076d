#include "app/wiring.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "app/descriptors.h"
#include "app/options.h"
#include "app/reload.h"
#include "app/server_telemetry.h"
#include "app/service_manager.h"
#include "app/stop_signals.h"
#include "app/store.h"
#include "app/token_uses.h"
#include "app/tracing.h"
#include "app/verification.h"
#include "app/watchdog.h"
#include "base/thread_name.h"
#include "net/io_loop.h"
#include "net/listener.h"
#include "protocols/http/server.h"
#include "service/channel_service.h"
#include "service/inline_service.h"
#include "shard/shard_thread.h"
#include "telemetry/log_metrics.h"
#include "telemetry/metrics.h"

namespace workmill::app {
namespace {

constexpr std::chrono::seconds kCloseTime{30};  // Beyond the drain: to flush and close the log.
constexpr std::chrono::seconds kTurnEvery{1};   // Of an I/O thread without events: it has nothing to do but collect.

// What can change in any server; its own parts register theirs.
void reload_common(Reload& reload, Access& access, TokenUses& uses, Clock const& clock, telemetry::Logger& logger) {
  reload.on_change({"log_level"}, [&logger](Config const& config) { logger.set_levels(config.log_level); });
  reload.on_change({"drain_timeout"}, [](Config const&) {});  // Looked up when it is needed.
  reload_access(reload, access, uses, clock);
}

// Why the server stops. It is told as soon as it is known: what is taken down afterwards may go wrong too.
class StopReason {
 public:
  explicit StopReason(telemetry::Logger& logger) : logger_(logger) {}

  // The first one counts. Any thread.
  void tell(Error const& error) {
    first_.with([&](std::optional<Error>& first) {
      if (first) return;
      first = error;
      logger_.error("stopped by an error", {{"code", to_string(error.code)}, {"error", describe(error)}});
    });
  }
  Result<> result() {
    return first_.with([](std::optional<Error> const& first) -> Result<> {
      if (first) return std::unexpected(*first);
      return {};
    });
  }

 private:
  telemetry::Logger& logger_;
  Guarded<std::optional<Error>> first_;
};

// What is around the server: who started it, what was handed to it, and where its spans go.
struct Host {
  Clock const& clock;
  telemetry::Logger& logger;
  ServiceManager const& manager;
  std::vector<InheritedSocket> const& sockets;
  Access const& access;
  Tracing const& tracing;
  StopReason& stop_reason;
  DescriptorRoom const& room;
};

// What can be told of what is around the server. `reload` and the host outlive `metrics`.
void add_metrics(telemetry::Metrics& metrics, Reload const& reload, Host const& host) {
  telemetry::add_log_metrics(metrics, host.logger);
  host.tracing.add_metrics(metrics);
  add_access_metrics(metrics, host.access);
  metrics.add_collector([&reload](telemetry::MetricsWriter& out) {
    out.gauge("workmill_reload_refused", "1: the last reload was, and what runs is not what the files say.", {},
              reload.was_refused() ? 1 : 0);
  });
}

void warn_of_room(Config const& config, DescriptorRoom const& room, telemetry::Logger& logger) {
  if (config.connections_max <= room.connections_max) return;
  logger.warn("fewer connections than connections_max, as the process may not open so many files",
              {{"connections_max", config.connections_max},
               {"connections_each_thread", room.connections_max},
               {"io_threads", config.io_threads},
               {"open_files_max", room.descriptors_max}});
}

// On the sockets that were handed to us, else on the address of the configuration. Answers the port.
Result<std::uint16_t> listen(http::HttpServer& server, Config const& config, Host const& host) {
  if (host.sockets.empty()) return server.listen(config.listen);
  for (InheritedSocket const& socket : host.sockets) {
    WM_TRY_VOID(server.listen_on(socket.descriptor));
    host.logger.info("accepting from an inherited socket", {{"address", socket.address}, {"name", socket.name}});
  }
  WM_TRY(auto const address, net::parse_address(host.sockets.front().address));
  return address.port;
}

void tell_ready(Host const& host, Config const& config, std::uint16_t port) {
  host.logger.info("listening", {{"address", config.listen},
                                 {"port", port},
                                 {"io_threads", config.io_threads},
                                 {"tokens", host.access.tokens.is_on()},
                                 {"tls", host.access.tls != nullptr},
                                 {"pid", static_cast<std::int64_t>(getpid())}});
  host.manager.ready("serving");
}

void tell_stopping(Host const& host, Config const& config, int signal) {
  host.logger.info("draining", {{"signal", signal}});
  host.manager.stopping("draining");
  host.manager.extend(config.drain_timeout + kCloseTime, "draining");
}

void reload_now(Reload& reload, Host const& host) {
  host.manager.reloading(host.clock.monotonic());
  host.manager.ready(reload.run() ? "serving" : "serving; the last reload was refused: see the log");
}

// What the shard is set to, and who hears of damage.
shard::ShardOptions shard_options(Config const& config, Store const& store, Host const& host,
                                  telemetry::Metrics& metrics) {
  shard::ShardOptions options = shard_options(config, host.tracing.tracer());
  options.on_damage =
      damage_reporter(JobIdCodec{store.engine->salt()}, host.logger.of(telemetry::LogComponent::log), metrics);
  options.cache = store.cache.get();
  options.on_shortage = shortage_reporter(host.logger);
  options.on_cache_damage = cache_damage_reporter(host.logger.of(telemetry::LogComponent::log));
  return options;
}

// ---- One I/O thread, which turns the shard between two polls.

// Threads that send beside the server's own where there are cores that these do not use. More than three have little to
// add: what is sent has to be made by one.
std::size_t crew_size(std::size_t own_threads) {
  constexpr std::size_t kMost = 3;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  // It fails where there are more cores than the set has room for. Then there is no crew.
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  auto const cores = static_cast<std::size_t>(CPU_COUNT(&allowed));
  return cores > own_threads ? std::min(cores - own_threads, kMost) : 0;
}

Result<> run_inline(Reload& reload, Host const& host, Store& store, Rng& chance) {
  Config const& config = reload.running();
  Access const& access = host.access;
  Clock const& clock = host.clock;
  telemetry::Logger& logger = host.logger;
  ServerTelemetry telemetry{config, clock};
  telemetry::Metrics& metrics = telemetry.metrics();
  add_metrics(metrics, reload, host);
  WM_TRY(auto const verifier, start_verifier(config, clock, logger.of(telemetry::LogComponent::log), metrics));
  net::IoLoop loop;
  auto options = shard_options(config, store, host, metrics);
  options.times = telemetry.shard_times();
  shard::ShardLoop shard{
      std::move(options), *store.log, *store.engine, clock, chance.fork(), 1, [&loop] { loop.post([] {}); },
      store.recovery};
  service::InlineService service{shard, clock};
  std::size_t const helpers = crew_size(1);
  net::SendCrew crew{helpers};
  http::HttpServer server{loop,
                          service,
                          access.tokens,
                          clock,
                          http_limits(config, host.room),
                          logger.of(telemetry::LogComponent::http),
                          metrics,
                          chance.fork(),
                          host.tracing.tracer()};
  service.set_sink(&server);
  if (helpers > 0) server.set_crew(&crew);
  telemetry.attach(server);
  telemetry::CpuProfiler profiler;  // Ends before the server that it answers to.
  server.set_profiler(&profiler);
  if (access.tls) server.use_tls(*access.tls);
  server.set_cors_origins(config.cors_origins);
  reload.on_change({"cors_origins"}, [&](Config const& next) { server.set_cors_origins(next.cors_origins); });

  bool has_failed = false;
  std::uint64_t turns = 0;
  loop.set_turn([&]() -> Duration {
    logger.tell_repeats();
    if (has_failed) return net::IoLoop::kForever;
    ++turns;
    auto const sleep = service.turn();
    if (sleep) return *sleep;
    has_failed = true;
    host.stop_reason.tell(sleep.error());
    loop.stop();
    return Duration{0};
  });
  auto const watchdog = Watchdog::start(host.manager, loop, {}, [&turns] { return turns; });
  WM_TRY(auto const port, listen(server, config, host));
  reload.on_change(http_settings(), [&](Config const& next) { server.set_limits(http_limits(next, host.room)); });
  reload.on_change({"disk_reserve"}, [&](Config const& next) { shard.set_disk_reserve(next.disk_reserve_bytes); });
  reload.on_change({"jobs_memory_max"},
                   [&](Config const& next) { shard.set_jobs_memory_max(next.jobs_memory_bytes_max); });
  auto const drain = [&](int signal) {
    tell_stopping(host, config, signal);
    server.stop_accepting([&] {
      service.drain();
      profiler.close();
      server.drain(config.drain_timeout, [&](net::Drained how) {
        logger.info("drained", {{"in_time", how == net::Drained::in_time}});
        loop.stop();
      });
    });
  };
  WM_TRY(auto const signals,
         StopSignals::watch(loop, {.on_stop = drain, .on_hangup = [&] { reload_now(reload, host); }}));
  tell_ready(host, config, port);  // From here on, as some wait for it, signals are answered too.
  loop.run();
  server.set_profiler(nullptr);  // Which goes first; a connection that is cut off may be read from once more.
  // After a drain everybody has been answered; what a writer thread may still have under way was answered to nobody.
  return host.stop_reason.result();
}

// ---- Several I/O threads, and one for the shard.

struct IoThread {
  net::IoLoop loop;
  shard::Mailbox mailbox{[this] { loop.post([] {}); }};
};

// What serves the connections of one. Ends before the shard's thread, which it talks to until the last connection is
// gone; the shard's thread in turn wakes loops until it ends itself.
struct FrontEnd {
  FrontEnd(shard::ShardThread& shard, shard::Port port, IoThread& io, Access const& access, Clock const& clock,
           std::atomic<bool> const& draining, http::HttpLimits const& limits, telemetry::Logger& logger,
           telemetry::Metrics& metrics, Rng chance, telemetry::Tracer* tracer)
      : service(shard, port, io.mailbox, clock, draining),
        server(io.loop, service, access.tokens, clock, limits, logger, metrics, chance, tracer) {
    service.set_sink(&server);
    if (access.tls) server.use_tls(*access.tls);
    io.loop.set_turn([this, &logger]() -> Duration {
      logger.tell_repeats();
      service.collect();
      return kTurnEvery;
    });
  }
  service::ChannelService service;
  http::HttpServer server;
};

Result<> run_threads(Reload& reload, Host const& host, Store& store, Rng& chance) {
  Config const& config = reload.running();
  Access const& access = host.access;
  Clock const& clock = host.clock;
  telemetry::Logger& logger = host.logger;
  ServerTelemetry telemetry{config, clock};
  telemetry::Metrics& metrics = telemetry.metrics();
  add_metrics(metrics, reload, host);
  WM_TRY(auto const verifier, start_verifier(config, clock, logger.of(telemetry::LogComponent::log), metrics));
  std::atomic<bool> draining{false};
  std::vector<std::unique_ptr<IoThread>> io;
  std::vector<shard::Mailbox*> mailboxes;
  for (std::uint32_t i = 0; i < config.io_threads; ++i) {
    io.push_back(std::make_unique<IoThread>());
    mailboxes.push_back(&io.back()->mailbox);
  }
  shard::ShardThread shard{[&](std::function<void()> wake) {
                             auto options = shard_options(config, store, host, metrics);
                             options.times = telemetry.shard_times();
                             return std::make_unique<shard::ShardLoop>(std::move(options), *store.log, *store.engine,
                                                                       clock, chance.fork(), config.io_threads,
                                                                       std::move(wake), store.recovery);
                           },
                           mailboxes,
                           [&](Error const& error) {
                             host.stop_reason.tell(error);
                             for (auto& thread : io) thread->loop.stop();
                           }};
  std::vector<net::IoLoop*> other_loops;
  for (std::size_t i = 1; i < io.size(); ++i) other_loops.push_back(&io[i]->loop);
  auto const watchdog = Watchdog::start(host.manager, io[0]->loop, other_loops, [&shard] {
    shard.nudge();
    return shard.turns();
  });
  std::size_t const helpers = crew_size(config.io_threads + 1);  // The shard has a thread, too.
  net::SendCrew crew{helpers};
  std::vector<std::unique_ptr<FrontEnd>> front_ends;
  std::vector<http::HttpServer*> others;
  for (std::uint32_t i = 0; i < config.io_threads; ++i) {
    front_ends.push_back(std::make_unique<FrontEnd>(
        shard, i, *io[i], access, clock, draining, http_limits(config, host.room),
        logger.of(telemetry::LogComponent::http), metrics, chance.fork(), host.tracing.tracer()));
    if (helpers > 0) front_ends[i]->server.set_crew(&crew);
    telemetry.attach(front_ends[i]->server);
    if (i > 0) others.push_back(&front_ends[i]->server);
  }
  front_ends[0]->server.share_with(others);
  telemetry::CpuProfiler profiler;  // Ends before the servers that it answers to.
  for (auto& front_end : front_ends) front_end->server.set_profiler(&profiler);
  WM_TRY(auto const port, listen(front_ends[0]->server, config, host));

  std::atomic<std::uint32_t> running{config.io_threads};
  for (auto& front_end : front_ends) front_end->server.set_cors_origins(config.cors_origins);
  reload.on_change({"cors_origins"}, [&](Config const& next) {
    for (std::uint32_t i = 0; i < io.size(); ++i) {
      io[i]->loop.post(
          [server = &front_ends[i]->server, origins = next.cors_origins] { server->set_cors_origins(origins); });
    }
  });
  reload.on_change(http_settings(), [&](Config const& next) {
    for (std::uint32_t i = 0; i < io.size(); ++i) {
      io[i]->loop.post(
          [server = &front_ends[i]->server, limits = http_limits(next, host.room)] { server->set_limits(limits); });
    }
  });
  reload.on_change({"disk_reserve"}, [&](Config const& next) { shard.set_disk_reserve(next.disk_reserve_bytes); });
  reload.on_change({"jobs_memory_max"},
                   [&](Config const& next) { shard.set_jobs_memory_max(next.jobs_memory_bytes_max); });
  // In this order: once nothing is accepted any more, and the last connection is under way to the loop that gets it,
  // each loop is told to drain, and will find it before.
  auto const drain_all = [&] {
    draining.store(true);
    shard.drain();
    profiler.close();
    for (std::uint32_t i = 0; i < io.size(); ++i) {
      io[i]->loop.post([&, server = &front_ends[i]->server, patience = config.drain_timeout] {
        server->drain(patience, [&](net::Drained how) {
          if (running.fetch_sub(1) > 1) return;
          logger.info("drained", {{"in_time", how == net::Drained::in_time}});
          for (auto& each : io) each->loop.stop();
        });
      });
    }
  };
  auto const drain = [&](int signal) {
    tell_stopping(host, config, signal);
    front_ends[0]->server.stop_accepting(drain_all);
  };
  WM_TRY(auto const signals,
         StopSignals::watch(io[0]->loop, {.on_stop = drain, .on_hangup = [&] { reload_now(reload, host); }}));
  tell_ready(host, config, port);
  {
    std::vector<std::jthread> threads;  // Joined before what they use goes.
    for (std::uint32_t i = 1; i < config.io_threads; ++i) {
      threads.emplace_back([i, loop = &io[i]->loop] {
        name_this_thread("wm-io-" + std::to_string(i));
        loop->run();
      });
    }
    io[0]->loop.run();
  }
  // It goes first; a connection that is cut off may be read from once more.
  for (auto& front_end : front_ends) front_end->server.set_profiler(nullptr);
  return host.stop_reason.result();
}

// What was handed to us stands in for the address in the file, for the checks too.
Result<Config> with_sockets(Config config, std::vector<InheritedSocket> const& sockets, Access const& access) {
  for (InheritedSocket const& socket : sockets) {
    config.listen = socket.address;
    WM_TRY_VOID(check_config(config));
    WM_TRY_VOID(check_exposure(config, callers_of(access)));
  }
  if (!sockets.empty()) config.listen = sockets.front().address;
  return config;
}

Result<> run(Config const& given, Reload::Read read_again, Access& access, Clock const& clock,
             telemetry::Logger& logger, StopReason& stop_reason) {
  std::signal(SIGPIPE, SIG_IGN);
  StopSignals::hold_hangups();
  auto const manager = ServiceManager::from_environment();
  WM_TRY(auto const sockets, inherited_sockets());
  WM_TRY(auto const config, with_sockets(given, sockets, access));
  WM_TRY(auto const room, take_descriptors(config.io_threads));
  std::random_device entropy;
  Rng chance{(std::uint64_t{entropy()} << 32) | entropy()};
  auto tracing =
      Tracing::start(config, process_environment(), clock, logger.of(telemetry::LogComponent::trace), chance.fork());
  WM_TRY(auto store, open_store(config, clock, chance, logger, manager));
  auto const read = [&]() -> Result<Config> {
    WM_TRY(auto again, read_again());
    return with_sockets(std::move(again), sockets, access);
  };
  TokenUses uses{config.data, access.tokens, logger.of(telemetry::LogComponent::auth)};
  uses.begin();
  Reload reload{config, read, logger};
  reload_common(reload, access, uses, clock, logger);
  warn_of_access(config, access, clock.now(), logger);
  warn_of_room(config, room, logger);
  reload.on_change({"connections_max"}, [&](Config const& next) { warn_of_room(next, room, logger); });
  reload.on_change({"trace_sample"}, [&tracing](Config const& next) { tracing.set_sample(next); });
  Host const host{.clock = clock,
                  .logger = logger,
                  .manager = manager,
                  .sockets = sockets,
                  .access = access,
                  .tracing = tracing,
                  .stop_reason = stop_reason,
                  .room = room};
  auto ran =
      config.io_threads == 1 ? run_inline(reload, host, store, chance) : run_threads(reload, host, store, chance);
  if (!ran) return ran;
  uses.finish();      // While the folder is ours.
  store.log.reset();  // Closes it in order.
  tracing.flush();
  logger.info("stopped");
  return {};
}

}  // namespace

Result<> run_server(Config const& given, Reload::Read read_again, Access& access, Clock const& clock,
                    telemetry::Logger& logger) {
  StopReason stop_reason{logger};
  auto ran = run(given, std::move(read_again), access, clock, logger, stop_reason);
  if (!ran) stop_reason.tell(ran.error());  // Unless it is told: what kept the server from starting.
  return ran;
}

}  // namespace workmill::app
