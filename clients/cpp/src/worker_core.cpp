#include "worker_core.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>

#include "core.h"
#include "lease_link.h"
#include "wire.h"
#include "worker_outbox.h"

// How a worker begins and ends, and what its link tells it.
namespace workmill::client::detail {
namespace {

constexpr unsigned kCreditMax = 10'000;

std::string default_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  std::string name = as_name(host.data());
  name.resize(std::min<std::size_t>(name.size(), 80));
  return name + "-" + std::to_string(getpid()) + "-" + random_key().substr(0, 8);
}

// Of a worker that nobody has given a log: one that waits for its server for ever should not do so in silence.
void warn_on_standard_error(LogLevel level, std::string_view message) {
  if (level < LogLevel::warn) return;
  std::string line = level == LogLevel::warn ? "workmill: warning: " : "workmill: error: ";
  line.append(message).push_back('\n');
  static_cast<void>(std::fputs(line.c_str(), stderr));  // One call: lines of several workers do not mix.
}

}  // namespace

struct WorkerCore::Signals {
  explicit Signals(boost::asio::io_context& context) : set(context, SIGTERM, SIGINT) {}
  boost::asio::signal_set set;
  int seen = 0;
};

WorkerCore::WorkerCore(std::shared_ptr<Backend> backend, WorkerOptions options)
    : options_(std::move(options)), backend_(std::move(backend)) {
  options_.concurrency = std::max(1U, options_.concurrency);
  if (options_.credit == 0) options_.credit = options_.concurrency * 2;
  options_.credit = std::min(options_.credit, kCreditMax);
  options_.drain_timeout = std::min(options_.drain_timeout, kLongest);
  options_.lease = std::min(options_.lease, kLongest);  // The server says what it may be.
  options_.server = bounded(std::move(options_.server));
  if (options_.name.empty()) options_.name = default_name();
  if (!options_.server.log) options_.server.log = warn_on_standard_error;
}

WorkerCore::~WorkerCore() {
  if (has_started_) {
    stop();
    static_cast<void>(wait());
  }
  loop_.post([this] {
    signals_.reset();
    link_.reset();
  });
  loop_.stop();
}

void WorkerCore::add_handler(std::string type, Handler handler, HandlerOptions options) {
  handlers_.insert_or_assign(std::move(type), Registered{.handler = std::move(handler), .run_on = options.run_on});
}

// ---- Begin and end

void WorkerCore::start() {
  if (std::exchange(has_started_, true)) return;
  bool const needs_pool = std::any_of(handlers_.begin(), handlers_.end(),
                                      [](auto const& each) { return each.second.run_on == RunOn::pool; });
  for (unsigned i = 0; needs_pool && i < options_.concurrency; ++i) pool_.emplace_back([this] { run_pool(); });
  loop_.post([this] { begin(); });
}

void WorkerCore::begin() {
  if (phase_ != Phase::idle) return;
  phase_ = Phase::running;
  make_link(options_.transport != WorkTransport::http);
  extend_leases();
}

void WorkerCore::make_link(bool stream) {
  Subscription subscription{
      .queues = options_.queues, .credit = options_.credit, .lease = options_.lease, .worker = options_.name};
  if (stream) link_ = backend_->make_stream(loop_, subscription, *this);
  if (!stream || !link_) {
    link_ = make_lease_link(loop_, backend_->make_transport(loop_), options_.server, std::move(subscription), *this);
  }
  link_->start();
  if (phase_ == Phase::draining) link_->drain();
}

void WorkerCore::stop() {
  loop_.post([this] {
    switch (phase_) {
      case Phase::idle: return end(std::nullopt);
      case Phase::running: return begin_drain();
      case Phase::draining: return leave();
      case Phase::leaving:
      case Phase::ended: return;
    }
  });
}

void WorkerCore::stop_on_signals() {
  loop_.post([this] {
    signals_ = std::make_unique<Signals>(loop_.context());
    struct Wait {
      WorkerCore& core;
      void operator()(boost::system::error_code const& error, int number) const {
        if (error || !core.signals_) return;
        core.log(LogLevel::info, std::string{"stopping: "} + (number == SIGTERM ? "SIGTERM" : "SIGINT"));
        core.stop();
        boost::system::error_code ignored;
        if (++core.signals_->seen >= 2)
          core.signals_->set.clear(ignored);  // The next has its default effect.
        else
          core.signals_->set.async_wait(*this);
      }
    };
    // Asio asks for system calls to be broken off, and programs are not used to that.
    for (int const number : {SIGTERM, SIGINT}) {
      struct sigaction action{};
      sigaction(number, nullptr, &action);
      action.sa_flags |= SA_RESTART;
      sigaction(number, &action, nullptr);
    }
    signals_->set.async_wait(Wait{*this});
  });
}

Result<> WorkerCore::wait() {
  {
    std::unique_lock lock{end_mutex_};
    ended_.wait(lock, [&] { return has_ended_; });
  }
  std::lock_guard const one_joins{join_mutex_};
  for (std::thread& thread : pool_) thread.join();
  pool_.clear();
  std::lock_guard const lock{end_mutex_};
  if (error_) return std::unexpected(*error_);
  return {};
}

void WorkerCore::begin_drain() {
  phase_ = Phase::draining;
  drain_timer_ = loop_.after(options_.drain_timeout, [this] {
    drain_timer_ = 0;
    leave();
  });
  if (link_) link_->drain();  // First: what is given back now must not come again.
  give_back_waiting();
  flush();
  look_for_end();
}

// What has not begun goes to others; its attempt is not counted.
void WorkerCore::give_back_waiting() {
  std::deque<HeldJob*> waiting;
  {
    std::lock_guard const lock{pool_mutex_};
    std::swap(waiting, pool_queue_);
  }
  for (HeldJob* const job : waiting) release(job->view, job);
}

void WorkerCore::leave() {
  if (phase_ != Phase::draining && phase_ != Phase::running) return;
  phase_ = Phase::leaving;
  log(LogLevel::warn, "leaving " + std::to_string(held_.size()) + " jobs that are not done: their leases run out");
  end(std::nullopt);
}

void WorkerCore::look_for_end() {
  if (phase_ != Phase::draining || !is_drained_ || !held_.empty()) return;
  if (waiting_reports_.load() > 0) return;
  end(std::nullopt);
}

void WorkerCore::end(std::optional<Error> error) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  closed_.store(true);
  for (auto& [lease, job] : held_) tell(*job);
  loop_.cancel(std::exchange(extend_timer_, 0));
  loop_.cancel(std::exchange(drain_timer_, 0));
  {
    std::lock_guard const lock{pool_mutex_};
    pool_closed_ = true;
    pool_queue_.clear();
  }
  pool_arrived_.notify_all();
  // Not at once: it may be the one that is calling.
  loop_.post([this, error = std::move(error)]() mutable {
    link_.reset();
    std::deque<ReportBatchPtr> left;
    {
      std::lock_guard const lock{outbox_mutex_};
      std::swap(left, outbox_);
    }
    for (ReportBatchPtr const& batch : left) {
      for (ReportWaiter& waiter : batch->waiters) {
        waiter.done(std::unexpected(transport_error("outcome_unknown", "the worker has stopped", true)));
      }
    }
    signals_.reset();
    std::lock_guard const lock{end_mutex_};
    error_ = std::move(error);
    has_ended_ = true;
    ended_.notify_all();
  });
}

WorkerFigures WorkerCore::figures() const {
  auto const load = [](std::atomic<std::uint64_t> const& counter) { return counter.load(std::memory_order_relaxed); };
  return {.started = load(counters_.started),
          .completed = load(counters_.completed),
          .failed = load(counters_.failed),
          .released = load(counters_.released),
          .lease_lost = load(counters_.lease_lost),
          .reconnects = load(counters_.reconnects)};
}

void WorkerCore::log(LogLevel level, std::string_view message) const { say(options_.server.log, level, message); }

// ---- What the link tells

void WorkerCore::on_up(bool resumed, bool again) {
  if (again) counters_.reconnects.fetch_add(1, std::memory_order_relaxed);
  // Who was warned is told that it is over.
  log(std::exchange(last_trouble_, {}).empty() ? LogLevel::info : LogLevel::warn,
      again ? resumed ? "connected again" : "connected again, to a server that does not know us" : "connected");
  if (!again || resumed || !link_) return;
  // What is held is not counted there: together with the new ones it must not be more than the credit.
  foreign_ = held_.size();
  for (auto& [lease, job] : held_) job->is_foreign = true;
  if (foreign_ > 0 && phase_ == Phase::running) {
    link_->set_credit(options_.credit - std::min<unsigned>(options_.credit, static_cast<unsigned>(foreign_)));
  }
}

void WorkerCore::on_refused(Error error, bool is_stream) {
  // It was never up: no job came by it, and no report waits in it that would go with it.
  if (is_stream && options_.transport == WorkTransport::automatic) {
    log(LogLevel::info, "the server has no streams: leasing over HTTP (" + describe(error) + ")");
    loop_.post([this] {
      if (phase_ == Phase::running || phase_ == Phase::draining) make_link(false);
    });
    return;
  }
  log(LogLevel::error, "refused: " + describe(error));
  end(std::move(error));
}

void WorkerCore::on_drained() {
  is_drained_ = true;
  look_for_end();
}

void WorkerCore::on_trouble(std::string const& what) {
  bool const is_news = what != last_trouble_;
  last_trouble_ = what;
  std::string const where = backend_->address();
  log(is_news ? LogLevel::warn : LogLevel::debug,
      "trying again" + (where.empty() ? "" : " (" + where + ")") + ": " + what);
}

std::vector<std::string> WorkerCore::held() {
  flush();  // The link knows of those whose reports it has.
  std::vector<std::string> ids;
  ids.reserve(held_.size());
  for (auto const& [lease, job] : held_) ids.emplace_back(job->view.id);
  return ids;
}

}  // namespace workmill::client::detail
