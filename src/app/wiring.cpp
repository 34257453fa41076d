#include "app/wiring.h"

#include <fmt/format.h>

#include <unistd.h>
#include <atomic>
#include <csignal>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "app/stop_signals.h"
#include "app/terminal.h"
#include "app/verification.h"
#include "log/file/file_log.h"
#include "net/io_loop.h"
#include "protocols/http/server.h"
#include "service/channel_service.h"
#include "service/inline_service.h"
#include "shard/recovery.h"
#include "shard/shard_thread.h"
#include "telemetry/metrics.h"

namespace workmill::app {
namespace {

constexpr std::chrono::seconds kProgressEvery{1};
constexpr std::chrono::seconds kTurnEvery{1};  // Of an I/O thread without events: it has nothing to do but collect.

// What a queue's log and engine are made of, brought to life.
struct Store {
  std::unique_ptr<log::Log> log;  // Before the engine's user, after nothing: it is closed last.
  std::unique_ptr<engine::Engine> engine;
  shard::RecoveryReport recovery;
};

// Says how far the recovery has come: a line in the log each second, or one on a terminal that is written over.
class RecoveryProgress {
 public:
  RecoveryProgress(Clock const& clock, telemetry::Logger& logger)
      : clock_(clock), logger_(logger), started_(clock.now()), next_(started_ + kProgressEvery) {}

  void operator()(std::uint64_t done, std::uint64_t total) {
    Instant const now = clock_.now();
    if (line_.is_due(now)) {
      line_.show(progress_line("recovering (bytes)", done, total, now - started_, terminal_width(stderr)), now);
    }
    if (now < next_) return;
    next_ = now + kProgressEvery;
    if (!line_.enabled()) logger_.info("recovering", {{"done_bytes", done}, {"total_bytes", total}});
  }

 private:
  Clock const& clock_;
  telemetry::Logger& logger_;
  Instant const started_;
  Instant next_;
  ProgressLine line_;
};

Result<Store> open_store(Config const& config, Clock const& clock, Rng& chance, telemetry::Logger& logger) {
  Store store;
  log::FileLogOptions options;
  options.folder = config.data;
  options.segment_bytes = static_cast<std::uint32_t>(config.segment_bytes);
  options.durability = config.durability;
  options.sync_interval = config.sync_interval;
  WM_TRY(store.log, log::open_file_log(options));

  engine::EngineOptions engine_options;
  engine_options.finished_kept_per_queue = config.finished_kept;
  store.engine = std::make_unique<engine::Engine>(engine_options);
  RecoveryProgress progress{clock, logger};
  WM_TRY(store.recovery, shard::recover(*store.log, *store.engine, clock, chance, std::ref(progress)));

  auto const& replay = store.recovery.replay;
  if (replay.cut_at) {
    logger.warn(
        "a torn tail was cut off: the last write before the end was not finished, and nobody was told that it was",
        {{"file", replay.cut_file},
         {"segment", replay.cut_at.segment},
         {"offset", replay.cut_at.offset},
         {"cut_bytes", replay.cut_bytes}});
  }
  logger.info(store.recovery.created ? "created" : "recovered", {{"data", config.data},
                                                                 {"jobs", store.engine->status().jobs},
                                                                 {"batches", replay.batches},
                                                                 {"log_bytes", replay.bytes},
                                                                 {"down_ms", store.recovery.down.count()},
                                                                 {"took_ms", store.recovery.took.count()},
                                                                 {"epoch", std::to_underlying(store.recovery.epoch)}});
  return store;
}

shard::ShardOptions shard_options(Config const& config) {
  shard::ShardOptions options;
  options.flush_by = config.flush_by;
  options.disk_reserve_bytes = config.disk_reserve_bytes;
  options.survivors.slack_bytes = 2 * config.segment_bytes;
  return options;
}

http::HttpLimits http_limits(Config const& config) {
  http::HttpLimits limits;
  limits.connections_max = config.connections_max;
  limits.header_bytes_max = config.header_bytes_max;
  limits.body_bytes_max = config.body_bytes_max;
  limits.pipelined_max = config.pipelined_max;
  limits.buffered_bytes_max = config.buffered_bytes_max;
  limits.idle_timeout = config.idle_timeout;
  limits.request_timeout = config.request_timeout;
  limits.write_timeout = config.write_timeout;
  return limits;
}

void log_listening(telemetry::Logger& logger, Config const& config, std::uint16_t port) {
  logger.info("listening", {{"address", config.listen},
                            {"port", port},
                            {"io_threads", config.io_threads},
                            {"pid", static_cast<std::int64_t>(getpid())}});
}

// ---- One I/O thread, which turns the shard between two polls.

Result<> run_inline(Config const& config, Clock const& clock, telemetry::Logger& logger, Store& store, Rng& chance) {
  telemetry::Metrics metrics;
  WM_TRY(auto const verifier, start_verifier(config, clock, logger, metrics));
  net::IoLoop loop;
  shard::ShardLoop shard{shard_options(config),         *store.log,    *store.engine, clock, chance.fork(), 1,
                         [&loop] { loop.post([] {}); }, store.recovery};
  service::InlineService service{shard, clock};
  http::HttpServer server{loop, service, clock, http_limits(config), logger, metrics, chance.fork()};
  service.set_sink(&server);

  std::optional<Error> failure;
  loop.set_turn([&]() -> Duration {
    if (failure) return net::IoLoop::kForever;
    auto sleep = service.turn();
    if (sleep) return *sleep;
    failure = std::move(sleep).error();
    loop.stop();
    return Duration{0};
  });
  WM_TRY(auto const port, server.listen(config.listen));
  WM_TRY(auto const signals, StopSignals::watch(loop, [&](int signal) {
           logger.info("draining", {{"signal", signal}, {"connections", server.connections()}});
           service.drain();
           server.drain(config.drain_timeout, [&](net::Drained how) {
             logger.info("drained", {{"in_time", how == net::Drained::in_time}});
             loop.stop();
           });
         }));
  log_listening(logger, config, port);  // From here on, as some wait for it, signals are answered too.
  loop.run();
  if (failure) return std::unexpected(std::move(*failure));
  // Everybody has been answered; what a writer thread may still have under way was answered to nobody.
  return {};
}

// ---- Several I/O threads, and one for the shard.

struct IoThread {
  net::IoLoop loop;
  shard::Mailbox mailbox{[this] { loop.post([] {}); }};
};

// What serves the connections of one. Ends before the shard's thread, which it talks to until the last connection is
// gone; the shard's thread in turn wakes loops until it ends itself.
struct FrontEnd {
  FrontEnd(shard::ShardThread& shard, shard::Port port, IoThread& io, Clock const& clock,
           std::atomic<bool> const& draining, http::HttpLimits const& limits, telemetry::Logger& logger,
           telemetry::Metrics& metrics, Rng chance)
      : service(shard, port, io.mailbox, clock, draining),
        server(io.loop, service, clock, limits, logger, metrics, chance) {
    service.set_sink(&server);
    io.loop.set_turn([this]() -> Duration {
      service.collect();
      return kTurnEvery;
    });
  }
  service::ChannelService service;
  http::HttpServer server;
};

Result<> run_threads(Config const& config, Clock const& clock, telemetry::Logger& logger, Store& store, Rng& chance) {
  telemetry::Metrics metrics;
  WM_TRY(auto const verifier, start_verifier(config, clock, logger, metrics));
  std::atomic<bool> draining{false};
  Guarded<std::optional<Error>> failure;
  std::vector<std::unique_ptr<IoThread>> io;
  std::vector<shard::Mailbox*> mailboxes;
  for (std::uint32_t i = 0; i < config.io_threads; ++i) {
    io.push_back(std::make_unique<IoThread>());
    mailboxes.push_back(&io.back()->mailbox);
  }
  shard::ShardThread shard{[&](std::function<void()> wake) {
                             return std::make_unique<shard::ShardLoop>(shard_options(config), *store.log, *store.engine,
                                                                       clock, chance.fork(), config.io_threads,
                                                                       std::move(wake), store.recovery);
                           },
                           mailboxes,
                           [&](Error error) {
                             failure.with([&](std::optional<Error>& first) { first = std::move(error); });
                             for (auto& thread : io) thread->loop.stop();
                           }};
  std::vector<std::unique_ptr<FrontEnd>> front_ends;
  std::vector<http::HttpServer*> others;
  for (std::uint32_t i = 0; i < config.io_threads; ++i) {
    front_ends.push_back(std::make_unique<FrontEnd>(shard, i, *io[i], clock, draining, http_limits(config), logger,
                                                    metrics, chance.fork()));
    if (i > 0) others.push_back(&front_ends[i]->server);
  }
  front_ends[0]->server.share_with(others);
  WM_TRY(auto const port, front_ends[0]->server.listen(config.listen));

  std::atomic<std::uint32_t> running{config.io_threads};
  WM_TRY(auto const signals, StopSignals::watch(io[0]->loop, [&](int signal) {
           logger.info("draining", {{"signal", signal}});
           draining.store(true);
           shard.drain();
           for (std::uint32_t i = 0; i < config.io_threads; ++i) {
             io[i]->loop.post([&, server = &front_ends[i]->server] {
               server->drain(config.drain_timeout, [&](net::Drained how) {
                 if (running.fetch_sub(1) > 1) return;
                 logger.info("drained", {{"in_time", how == net::Drained::in_time}});
                 for (auto& each : io) each->loop.stop();
               });
             });
           }
         }));
  log_listening(logger, config, port);
  {
    std::vector<std::jthread> threads;  // Joined before what they use goes.
    for (std::uint32_t i = 1; i < config.io_threads; ++i) {
      threads.emplace_back([loop = &io[i]->loop] { loop->run(); });
    }
    io[0]->loop.run();
  }
  auto first = failure.with([](std::optional<Error>& error) { return std::exchange(error, {}); });
  if (first) return std::unexpected(std::move(*first));
  return {};
}

}  // namespace

Result<> run_server(Config const& config, Clock const& clock, telemetry::Logger& logger) {
  std::signal(SIGPIPE, SIG_IGN);
  std::random_device entropy;
  Rng chance{(std::uint64_t{entropy()} << 32) | entropy()};
  WM_TRY(auto store, open_store(config, clock, chance, logger));
  auto ran = config.io_threads == 1 ? run_inline(config, clock, logger, store, chance)
                                    : run_threads(config, clock, logger, store, chance);
  if (!ran) return ran;
  store.log.reset();  // Closes it in order.
  logger.info("stopped");
  return {};
}

}  // namespace workmill::app
