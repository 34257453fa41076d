#include "worker_core.h"

#include <cxxabi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <typeinfo>

#include "core.h"
#include "lease_link.h"
#include "wire.h"

namespace workmill::client::detail {
namespace {

constexpr std::size_t kNoticesMax = 10'000;  // Reports that wait; beyond them progress and log lines are dropped.
constexpr std::size_t kSpareMax = 16;        // Batches kept for the next.
constexpr std::size_t kReportHeadBytes = 128;
constexpr std::size_t kLogLineBytesMax = 4 * 1024;  // As the server cuts it.
constexpr unsigned kCreditMax = 10'000;
constexpr std::size_t kCacheEntriesMax = 100;                 // Of a report, as the server takes it.
constexpr std::size_t kCacheBytesMax = std::size_t{6} << 20;  // Of them, as of a result.

void write_head(JobView const& job, std::string_view outcome, std::string& out) {
  out.append(R"({"id":")").append(job.id).append(R"(","lease":")").append(job.lease);
  out.append(R"(","outcome":")").append(outcome).append("\"");
}

bool is_name_char(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
         c == ':' || c == '-';
}

std::string as_name(std::string text) {
  constexpr std::size_t kNameBytesMax = 128;
  text.resize(std::min(text.size(), kNameBytesMax));
  std::replace_if(text.begin(), text.end(), [](char c) { return !is_name_char(c); }, '_');
  return text.empty() ? "failed" : text;
}

std::string type_name(std::type_info const& type) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const readable{abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                        std::free};
  return as_name(status == 0 ? readable.get() : type.name());
}

std::string default_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  std::string name = as_name(host.data());
  name.resize(std::min<std::size_t>(name.size(), 80));
  return name + "-" + std::to_string(getpid()) + "-" + random_key().substr(0, 8);
}

// Puts what a frame lent into the job's own storage.
void own(HeldJob& job) {
  JobView const from = job.view;
  std::array const parts{&JobView::id,    &JobView::lease,       &JobView::type,
                         &JobView::queue, &JobView::payload,     &JobView::checkpoint,
                         &JobView::meta,  &JobView::traceparent, &JobView::tracestate};
  std::size_t bytes = 0;
  for (auto const part : parts) bytes += (from.*part).size();
  job.storage.reserve(bytes);
  for (auto const part : parts) job.storage.append(from.*part);
  std::size_t at = 0;
  for (auto const part : parts) {
    std::size_t const size = (from.*part).size();
    job.view.*part = std::string_view{job.storage}.substr(at, size);
    at += size;
  }
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
  if (options_.name.empty()) options_.name = default_name();
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

void WorkerCore::release(JobView const& view, HeldJob* done) {
  counters_.released.fetch_add(1, std::memory_order_relaxed);
  append(
      Kind::final, kReportHeadBytes,
      [&](std::string& out) {
        write_head(view, "released", out);
        out.push_back('}');
      },
      {}, done);
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

void WorkerCore::log(LogLevel level, std::string_view message) const {
  if (options_.server.log) options_.server.log(level, message);
}

// ---- Jobs in

void WorkerCore::on_frame(Frame& frame) {
  std::vector<HeldJob*> for_pool;
  for (JobView const& view : frame.jobs) take_job(view, for_pool);
  for (std::string const& id : frame.cancel) cancel_job(id);
  if (!for_pool.empty()) {
    {
      std::lock_guard const lock{pool_mutex_};
      pool_queue_.insert(pool_queue_.end(), for_pool.begin(), for_pool.end());
    }
    if (for_pool.size() == 1)
      pool_arrived_.notify_one();
    else
      pool_arrived_.notify_all();
  }
  flush();
}

void WorkerCore::take_job(JobView const& view, std::vector<HeldJob*>& for_pool) {
  if (phase_ != Phase::running) return release(view, nullptr);
  auto const found = handlers_.find(view.type);
  if (found == handlers_.end()) {
    // Ready again after its backoff, perhaps for a worker that knows it.
    log(LogLevel::warn, "there is no handler for jobs of type " + std::string{view.type});
    counters_.failed.fetch_add(1, std::memory_order_relaxed);
    append(Kind::final, 2 * kReportHeadBytes, [&](std::string& out) {
      write_head(view, "failed", out);
      out.append(
          R"(,"error":{"class":"retryable","code":"unknown_type","message":"this worker has no handler for it"}})");
    });
    return;
  }
  if (found->second.run_on == RunOn::inline_thread) {
    inline_job_.view = view;
    inline_job_.is_inline = true;
    return run_handler(inline_job_, &found->second);
  }
  if (HeldJob* const job = hold(view)) for_pool.push_back(job);
}

// Null where it is held already: it was sent again.
HeldJob* WorkerCore::hold(JobView const& view) {
  if (held_.contains(view.lease)) return nullptr;
  auto job = std::make_unique<HeldJob>();
  job->view = view;
  own(*job);
  job->stop = std::stop_source{};
  job->extend_at = Loop::Clock::now() + options_.lease / 3;
  HeldJob* const held = job.get();
  held_.emplace(held->view.lease, std::move(job));
  return held;
}

void WorkerCore::run_pool() {
  for (;;) {
    HeldJob* job = nullptr;
    {
      std::unique_lock lock{pool_mutex_};
      pool_arrived_.wait(lock, [&] { return pool_closed_ || !pool_queue_.empty(); });
      if (pool_queue_.empty()) return;
      job = pool_queue_.front();
      pool_queue_.pop_front();
    }
    run_handler(*job, &handlers_.find(job->view.type)->second);
  }
}

void WorkerCore::run_handler(HeldJob& job, Registered const* registered) {
  counters_.started.fetch_add(1, std::memory_order_relaxed);
  thread_local std::string result;
  result.clear();
  HandlerOutput output{.result = result};
  job.cached.clear();  // An inline job's is used again.
  // What the handler enqueues on this thread belongs to the same trace.
  current_traceparent() = job.view.traceparent;
  current_tracestate() = job.view.tracestate;
  Result<> answer;
  try {
    answer = call_handler(job, *registered, output);
  } catch (std::exception const& thrown) {
    answer = fail(ErrorClass::retryable, type_name(typeid(thrown)), thrown.what());
  } catch (...) {
    answer = fail(ErrorClass::retryable, "exception", "the handler threw something that is no std::exception");
  }
  current_traceparent().clear();
  current_tracestate().clear();
  finish_job(job, std::move(answer), output);
}

Result<> WorkerCore::call_handler(HeldJob& job, Registered const& registered, HandlerOutput& output) {
  JobContext context{*this, job};
  if (middleware_.empty()) return registered.handler(context, output);
  struct Chain {
    WorkerCore& core;
    Registered const& registered;
    JobContext& context;
    HandlerOutput& output;
    Result<> run(std::size_t at) {
      if (at == core.middleware_.size()) return registered.handler(context, output);
      return core.middleware_[at](context, [this, at] { return run(at + 1); });
    }
  };
  return Chain{*this, registered, context, output}.run(0);
}

void WorkerCore::finish_job(HeldJob& job, Result<> result, HandlerOutput const& output) {
  HeldJob* const done = job.is_inline ? nullptr : &job;
  if (result) {
    counters_.completed.fetch_add(1, std::memory_order_relaxed);
    std::size_t cached_bytes = 0;
    for (auto const& [key, entry] : job.cached) cached_bytes += entry.size() + 1;
    append(
        Kind::final, kReportHeadBytes + output.result.size() + cached_bytes,
        [&](std::string& out) {
          write_head(job.view, "completed", out);
          if (output.is_base64)
            out.append(",\"result_base64\":\"").append(output.result).append("\"");
          else if (!output.result.empty())
            out.append(",\"result\":").append(output.result);
          std::string_view before = ",\"cache\":[";
          for (auto const& [key, entry] : job.cached) out.append(std::exchange(before, ",")).append(entry);
          out.append(job.cached.empty() ? "}" : "]}");
        },
        {}, done);
    return;
  }
  counters_.failed.fetch_add(1, std::memory_order_relaxed);
  Error error = std::move(result).error();
  error.code = as_name(std::move(error.code));
  if (job.cancelled.load()) {
    error.code = "cancelled";
    error.error_class = ErrorClass::retryable;
  }
  Report const report = Report::failed(job.name(), error);
  append(Kind::final, report.json().size(), [&](std::string& out) { out.append(report.json()); }, {}, done);
}

// ---- Reports out

template <class Write>
bool WorkerCore::append(Kind kind, std::size_t bytes, Write&& write, std::move_only_function<void(Result<>)> waiter,
                        HeldJob* done) {
  bool wake = false;
  {
    std::lock_guard const lock{outbox_mutex_};
    if (kind == Kind::notice && waiting_reports_.load(std::memory_order_relaxed) >= kNoticesMax) return false;
    if (outbox_.empty() || !outbox_.back()->has_room(bytes)) {
      if (spare_.empty()) {
        outbox_.push_back(std::make_unique<ReportBatch>());
      } else {
        outbox_.push_back(std::move(spare_.back()));
        spare_.pop_back();
      }
    }
    ReportBatch& batch = *outbox_.back();
    if (batch.count > 0) batch.text.push_back(',');
    write(batch.text);
    if (waiter) batch.waiters.push_back({.index = batch.count, .done = std::move(waiter)});
    ++batch.count;
    waiting_reports_.fetch_add(1, std::memory_order_relaxed);
    if (done != nullptr) done_.push_back(done);
    if (!loop_.is_current()) wake = !std::exchange(woken_, true);
  }
  if (wake) loop_.post([this] { flush(); });
  return true;
}

// The loop's own reports go out when it is done with what it does: it calls this then.
void WorkerCore::flush() {
  std::deque<ReportBatchPtr> batches;
  {
    std::lock_guard const lock{outbox_mutex_};
    woken_ = false;
    if (link_ && phase_ != Phase::ended) std::swap(batches, outbox_);
  }
  reap();
  for (ReportBatchPtr& batch : batches) link_->send(std::move(batch));
}

void WorkerCore::reap() {
  std::vector<HeldJob*> done;
  {
    std::lock_guard const lock{outbox_mutex_};
    std::swap(done, done_);
  }
  if (done.empty()) return;
  std::size_t const foreign_before = foreign_;
  for (HeldJob* const job : done) {
    if (job->is_foreign) --foreign_;
    held_.erase(held_.find(job->view.lease));
  }
  if (!link_ || phase_ == Phase::ended) return;
  if (foreign_ != foreign_before && phase_ == Phase::running) {
    link_->set_credit(options_.credit - std::min<unsigned>(options_.credit, static_cast<unsigned>(foreign_)));
  }
  link_->on_room();
}

void WorkerCore::extend_leases() {
  if (phase_ == Phase::ended) return;
  auto const now = Loop::Clock::now();
  reap();
  for (auto& [lease, job] : held_) {
    if (job->extend_at > now || job->is_lost) continue;
    job->extend_at = now + options_.lease / 3;
    append(Kind::notice, kReportHeadBytes, [&](std::string& out) {
      write_head(job->view, "extend", out);
      out.append(",\"for\":\"").append(format_duration(options_.lease)).append("\"}");
    });
  }
  flush();
  // Looked at twice as often as a lease is extended: none is later than at half of it.
  extend_timer_ = loop_.after(std::max(Duration{10}, options_.lease / 6), [this] { extend_leases(); });
}

void WorkerCore::on_answers(ReportBatch& batch, Frame& frame) {
  waiting_reports_.fetch_sub(batch.count);
  for (ReportAnswer const& answer : frame.remarkable) {
    if (answer.cancel_requested) cancel_job(answer.id);
    if (!answer.error) continue;
    if (answer.error->code == "lease_lost" || answer.error->code == "job_not_found") {
      counters_.lease_lost.fetch_add(1, std::memory_order_relaxed);
      // Sent twice, as an answer was lost: the first may well have counted.
      log(batch.sent_before ? LogLevel::debug : LogLevel::warn, "job " + answer.id + ": " + describe(*answer.error));
      lose_job(batch, answer.index);
    } else {
      log(LogLevel::error, "a report on job " + answer.id + " was refused: " + describe(*answer.error));
    }
  }
  for (ReportWaiter& waiter : batch.waiters) {
    auto const refused = std::find_if(
        frame.remarkable.begin(), frame.remarkable.end(),
        [&](ReportAnswer const& answer) { return answer.index == waiter.index && answer.error.has_value(); });
    if (refused != frame.remarkable.end())
      waiter.done(std::unexpected(refused->error.value_or(Error{})));
    else
      waiter.done({});
  }
  {
    std::lock_guard const lock{outbox_mutex_};
    if (spare_.size() < kSpareMax && batch.text.capacity() <= ReportBatch::kBytesMax) {
      auto empty = std::make_unique<ReportBatch>();
      empty->text = std::move(batch.text);
      empty->text.clear();
      spare_.push_back(std::move(empty));
    }
  }
  look_for_end();
}

// What a report was about, by its text: rare enough to look it up there. The same job may be held under a newer lease.
void WorkerCore::lose_job(ReportBatch const& batch, std::size_t index) {
  auto const reports = Json::parse("[" + batch.text + "]");
  if (!reports || reports->as_array() == nullptr || index >= reports->as_array()->size()) return;
  auto const found = held_.find((*reports->as_array())[index].text("lease"));
  if (found == held_.end()) return;
  found->second->is_lost = true;
  tell(*found->second);
}

void WorkerCore::cancel_job(std::string_view id) {
  for (auto& [lease, job] : held_) {  // Rare, and no more than the credit.
    if (job->view.id == id) tell(*job);
  }
}

void WorkerCore::tell(HeldJob& job) {
  job.cancelled.store(true);
  job.stop.request_stop();
}

// ---- What the link tells

void WorkerCore::on_up(bool resumed, bool again) {
  if (again) counters_.reconnects.fetch_add(1, std::memory_order_relaxed);
  log(LogLevel::info,
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

void WorkerCore::on_trouble(std::string const& what) { log(LogLevel::warn, "trying again: " + what); }

std::vector<std::string> WorkerCore::held() {
  flush();  // The link knows of those whose reports it has.
  std::vector<std::string> ids;
  ids.reserve(held_.size());
  for (auto const& [lease, job] : held_) ids.emplace_back(job->view.id);
  return ids;
}

// ---- Of a JobContext

void WorkerCore::report(HeldJob const& job, Report const& report) {
  static_cast<void>(job);
  append(Kind::notice, report.json().size(), [&](std::string& out) { out.append(report.json()); });
}

Result<> WorkerCore::checkpoint(HeldJob& job, std::string_view json) {
  if (closed_.load()) return std::unexpected(transport_error("outcome_unknown", "the worker has stopped", false));
  auto const write = [&](std::string& out) {
    write_head(job.view, "checkpoint", out);
    out.append(",\"data\":").append(json).append("}");
  };
  std::size_t const bytes = kReportHeadBytes + json.size();
  if (job.is_inline) {
    append(Kind::final, bytes, write);
    return {};
  }
  // Shared with the loop, which may answer when nobody waits any more.
  struct Answer {
    std::mutex mutex;
    std::condition_variable arrived;
    std::optional<Result<>> result;
  };
  auto const answer = std::make_shared<Answer>();
  append(Kind::final, bytes, write, [answer](Result<> result) {
    std::lock_guard const lock{answer->mutex};
    answer->result.emplace(std::move(result));
    answer->arrived.notify_all();
  });
  std::unique_lock lock{answer->mutex};
  // A server that is away is waited for as long as the worker does so itself; the bound is for one that never answers.
  auto const is_over = [&] { return answer->result.has_value() || closed_.load(); };
  auto const until = Loop::Clock::now() + options_.lease + options_.server.request_timeout;
  while (!is_over() && Loop::Clock::now() < until) {
    answer->arrived.wait_for(lock, std::chrono::milliseconds{100}, is_over);
  }
  Result<> const unknown =
      std::unexpected(transport_error("outcome_unknown", "nobody knows whether the checkpoint is durable", true));
  return answer->result.value_or(unknown);
}

// The last of a key's values counts.
Result<> WorkerCore::cache(HeldJob& job, std::string_view key, std::string entry) {
  auto const found =
      std::find_if(job.cached.begin(), job.cached.end(), [&](auto const& one) { return one.first == key; });
  if (found == job.cached.end() && job.cached.size() >= kCacheEntriesMax) {
    return fail(ErrorClass::user, "payload_too_large", "a job sets 100 keys at most");
  }
  std::size_t bytes = entry.size();
  for (auto const& [other, text] : job.cached) bytes += other == key ? 0 : text.size();
  if (bytes > kCacheBytesMax) {
    return fail(ErrorClass::user, "payload_too_large", "what a job caches has 6 MiB at most");
  }
  if (found == job.cached.end())
    job.cached.emplace_back(key, std::move(entry));
  else
    found->second = std::move(entry);
  return {};
}

}  // namespace workmill::client::detail

namespace workmill::client {

std::string_view JobContext::id() const { return job_.view.id; }
std::string_view JobContext::type() const { return job_.view.type; }
std::string_view JobContext::queue() const { return job_.view.queue; }
unsigned JobContext::attempt() const { return job_.view.attempt; }
unsigned JobContext::max_attempts() const { return job_.view.max_attempts; }
std::string_view JobContext::payload() const { return job_.view.payload; }
bool JobContext::payload_is_bytes() const { return job_.view.payload_is_bytes; }
std::string_view JobContext::meta() const { return job_.view.meta; }
std::string_view JobContext::traceparent() const { return job_.view.traceparent; }
std::string_view JobContext::tracestate() const { return job_.view.tracestate; }
std::string_view JobContext::saved_json() const { return job_.view.checkpoint; }
bool JobContext::cancelled() const { return job_.cancelled.load(); }
std::stop_token JobContext::stop_token() const { return job_.stop.get_token(); }

Result<> JobContext::cache_entry(std::string_view key, std::string entry) {
  return detail::WorkerCore::cache(job_, key, std::move(entry));
}
Result<> JobContext::checkpoint_json(std::string_view json) { return core_.checkpoint(job_, json); }
void JobContext::progress(int percent, std::string_view message) {
  core_.report(job_, Report::progress(job_.name(), std::clamp(percent, 0, 100), message));
}
void JobContext::log(std::string_view line) {
  core_.report(job_, Report::log(job_.name(), {std::string{line.substr(0, detail::kLogLineBytesMax)}}));
}

Worker::Worker(WorkerOptions options) {
  auto backend = detail::make_server_backend(options.server);
  core_ = std::make_unique<detail::WorkerCore>(std::move(backend), std::move(options));
}
Worker::Worker(std::shared_ptr<detail::Backend> backend, WorkerOptions options)
    : core_(std::make_unique<detail::WorkerCore>(std::move(backend), std::move(options))) {}
Worker::Worker(Worker&&) noexcept = default;
Worker::~Worker() = default;

void Worker::on_any(std::string type, Handler handler, HandlerOptions options) {
  core_->add_handler(std::move(type), std::move(handler), options);
}
void Worker::use(Middleware middleware) { core_->add_middleware(std::move(middleware)); }
void Worker::start() { core_->start(); }
void Worker::stop() { core_->stop(); }
Result<> Worker::wait() { return core_->wait(); }
Result<> Worker::run() {
  core_->start();
  return core_->wait();
}
Result<> Worker::run_until_signal() {
  core_->stop_on_signals();
  return run();
}
WorkerFigures Worker::figures() const { return core_->figures(); }

}  // namespace workmill::client
