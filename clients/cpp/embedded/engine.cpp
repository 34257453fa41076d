#include "engine.h"

#include <charconv>
#include <random>
#include <utility>

#include "base/thread_name.h"
#include "core.h"
#include "engine/engine.h"
#include "log/file/file_log.h"
#include "model/job.h"
#include "work_link.h"

namespace workmill::client::detail {
namespace {

constexpr std::uint32_t kSegmentBytes = std::uint32_t{64} << 20;  // As the server's, whose folder it may become.

client::LogLevel level_of(std::string_view line) {
  // As the text format has it: time, level, component.
  if (line.find(" ERROR ") != std::string_view::npos) return client::LogLevel::error;
  if (line.find(" WARN ") != std::string_view::npos) return client::LogLevel::warn;
  return client::LogLevel::info;
}

telemetry::LogSink sink_of(LogHook hook) {
  return [hook = std::move(hook)](std::string_view line) { say(hook, level_of(line), line); };
}

log::Durability durability_of(client::Durability durability) {
  switch (durability) {
    case client::Durability::sync: return log::Durability::sync;
    case client::Durability::interval: return log::Durability::interval;
    case client::Durability::os: return log::Durability::os;
  }
  return log::Durability::sync;
}

http::Method method_of(std::string_view text) {
  using enum http::Method;
  for (http::Method const method : {get, head, post, put, patch, remove, options}) {
    if (http::to_string(method) == text) return method;
  }
  return other;
}

http::Request request_of(Request const& from) {
  http::Request request;
  request.method = method_of(from.method);
  request.method_text = from.method;
  std::string_view const target = from.target;
  std::size_t const mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string_view::npos) request.query = target.substr(mark + 1);
  request.host = "localhost";
  request.content_type = from.content_type.empty() ? std::string_view{"application/json"} : from.content_type;
  request.idempotency_key = from.idempotency_key;
  request.traceparent = from.traceparent;
  request.tracestate = from.tracestate;
  request.body = from.body;
  return request;
}

// "" where it is not there. `before`: the line end ahead of it, its name, colon and space.
std::string_view header_of(std::string_view head, std::string_view before) {
  std::size_t const at = head.find(before);
  if (at == std::string_view::npos) return {};
  head.remove_prefix(at + before.size());
  return head.substr(0, head.find("\r\n"));
}

// The endpoints write a response for a wire; this takes it apart again. It is our own, and whole.
Response response_of(std::string_view text) {
  Response response;
  std::from_chars(text.data() + 9, text.data() + 12, response.status);
  std::size_t const end = text.find("\r\n\r\n");
  std::string_view const head = text.substr(0, end);
  if (auto const after = header_of(head, "\r\nRetry-After: "); !after.empty()) {
    std::uint32_t seconds = 0;
    std::from_chars(after.data(), after.data() + after.size(), seconds);
    response.retry_after = std::chrono::seconds{seconds};
  }
  response.etag = header_of(head, "\r\nETag: ");
  if (!response.etag.empty()) {
    response.cache_status = header_of(head, "\r\nCache-Status: ");
    response.content_type = header_of(head, "\r\nContent-Type: ");
    auto const age = header_of(head, "\r\nAge: ");
    std::from_chars(age.data(), age.data() + age.size(), response.age);
  }
  response.body = text.substr(end + 4);
  return response;
}

client::Error stopped() {
  return client::Error{.code = "engine_stopped",
                       .error_class = client::ErrorClass::fatal,
                       .message = "the engine had to stop: nobody knows what is durable. Open the folder again",
                       .may_have_happened = true};
}

client::Error to_client(workmill::Error const& error) {
  client::Error out{.code = std::string{to_string(error.code)}, .message = describe(error), .field = error.field};
  switch (class_of(error.code)) {
    case workmill::ErrorClass::user: out.error_class = client::ErrorClass::user; break;
    case workmill::ErrorClass::retryable: out.error_class = client::ErrorClass::retryable; break;
    case workmill::ErrorClass::fatal: out.error_class = client::ErrorClass::fatal; break;
  }
  return out;
}

// Requests of one client or worker. On its loop's thread; answers come over from the engine's.
class EmbeddedTransport final : public Transport {
 public:
  EmbeddedTransport(Loop& loop, EmbeddedEngine& engine)
      : loop_(loop), engine_(engine), bridge_(std::make_shared<Bridge>()) {
    bridge_->loop = &loop;
  }
  ~EmbeddedTransport() override {
    {
      std::lock_guard const lock{bridge_->mutex};
      bridge_->loop = nullptr;
    }
    for (auto& [ticket, waiting] : waiting_) {
      loop_.cancel(waiting.timer);
      engine_.abandon(ticket);
    }
    *alive_ = false;
  }

  Ticket send(Request request, Done done) override {
    Ticket const ticket = engine_.next_cookie();
    auto& waiting = waiting_[ticket];
    waiting.done = std::move(done);
    waiting.timer = loop_.after(request.timeout, [this, ticket] {
      engine_.abandon(ticket);
      finish(ticket, std::unexpected(transport_error("no_server", "no answer in time", true)));
    });
    engine_.submit(ticket, std::move(request),
                   [this, bridge = bridge_, alive = alive_, ticket](client::Result<Response> answer) {
                     std::lock_guard const lock{bridge->mutex};
                     if (bridge->loop == nullptr) return;
                     bridge->loop->post([this, alive, ticket, answer = std::move(answer)]() mutable {
                       if (*alive) finish(ticket, std::move(answer));
                     });
                   });
    return ticket;
  }

  void abort(Ticket ticket) override {
    auto node = waiting_.extract(ticket);
    if (node.empty()) return;
    loop_.cancel(node.mapped().timer);
    engine_.abandon(ticket);
  }

  // It is the engine that says which came first, and not this thread, which does not know what the engine is giving
  // just now.
  void call_off(Ticket ticket) override { engine_.call_off(ticket); }

 private:
  struct Waiting {
    Done done;
    Loop::TimerId timer = 0;
  };
  // How an answer finds the loop, unless that has gone meanwhile.
  struct Bridge {
    std::mutex mutex;
    Loop* loop = nullptr;
  };

  void finish(Ticket ticket, client::Result<Response> answer) {
    auto node = waiting_.extract(ticket);
    if (node.empty()) return;
    loop_.cancel(node.mapped().timer);
    node.mapped().done(std::move(answer));
  }

  Loop& loop_;
  EmbeddedEngine& engine_;
  std::shared_ptr<Bridge> bridge_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // Of the loop's thread.
  std::unordered_map<Ticket, Waiting> waiting_;
};

}  // namespace

EmbeddedEngine::EmbeddedEngine(EmbeddedOptions options, Rng chance)
    : options_(std::move(options)),
      logger_(clock_, {.format = telemetry::LogFormat::text, .delivery = telemetry::LogDelivery::immediate},
              sink_of(options_.log)),
      chance_(chance),
      caller_(ClientKey{0}, boost::asio::ip::address_v4::loopback()) {}

workmill::Result<std::shared_ptr<EmbeddedEngine>> EmbeddedEngine::open(std::string const& folder,
                                                                       EmbeddedOptions options) {
  std::random_device entropy;
  Rng const chance{(std::uint64_t{entropy()} << 32) | entropy()};
  // Shared by all that use it: see Workmill.
  std::shared_ptr<EmbeddedEngine> engine{new EmbeddedEngine{std::move(options), chance}};
  WM_TRY_VOID(engine->recover(folder));
  engine->start();
  return engine;
}

workmill::Result<> EmbeddedEngine::recover(std::string const& folder) {
  log::FileLogOptions log_options;
  log_options.folder = folder;
  log_options.segment_bytes = kSegmentBytes;
  log_options.durability = durability_of(options_.durability);
  WM_TRY(log_, log::open_file_log(log_options));
  engine::EngineOptions engine_options;
  engine_options.finished_kept_per_queue = options_.finished_kept;
  cache::CacheOptions const cache_options{
      .memory_bytes = options_.cache_memory, .disk_bytes = options_.cache_disk, .hash_seed = chance_.next()};
  shard::bound_cached_values(cache_options, engine_options);
  engine_ = std::make_unique<engine::Engine>(engine_options);
  cache_ = std::make_unique<cache::Cache>(cache_options);
  WM_TRY(recovery_, shard::recover(*log_, *engine_, clock_, chance_, {}, cache_.get()));
  logger_.info(recovery_.created ? "created" : "recovered",
               {{"data", folder}, {"jobs", engine_->status().jobs}, {"took_ms", recovery_.took.count()}});
  return {};
}

void EmbeddedEngine::start() {
  shard::ShardOptions shard_options;
  shard_options.survivors.slack_bytes = 2 * std::uint64_t{kSegmentBytes};
  shard_options.on_damage = [this](JobNumber, workmill::Error const& error) {
    logger_.error("a part of a job is damaged on the disk", {{"error", workmill::describe(error)}});
  };
  shard_options.cache = cache_.get();
  shard_options.on_cache_damage = [this](workmill::Error const& error) {
    logger_.error("a cached value is damaged on the disk", {{"error", workmill::describe(error)}});
  };
  shard_ = std::make_unique<shard::ShardLoop>(
      std::move(shard_options), *log_, *engine_, clock_, chance_.fork(), 1, [this] { loop_.post([] {}); }, recovery_);
  service_ = std::make_unique<service::InlineService>(*shard_, clock_);
  service_->set_sink(this);
  endpoints_ =
      std::make_unique<http::Endpoints>(*service_, tokens_, clock_, counters_, metrics_, logger_, chance_.fork());
  loop_.set_turn([this] { return turn(); });
  thread_ = std::thread{[this] {
    name_this_thread("wm-embedded");
    loop_.run();
  }};
}

EmbeddedEngine::~EmbeddedEngine() {
  if (!thread_.joinable()) return;
  post([this] {
    draining_ = true;
    if (failed_)
      loop_.stop();
    else
      service_->drain();
  });
  thread_.join();
}

Duration EmbeddedEngine::turn() {
  if (failed_) return net::IoLoop::kForever;
  auto sleep = service_->turn();
  if (!sleep) {
    logger_.error("stopped: nobody knows any more what is durable", {{"error", workmill::describe(sleep.error())}});
    failed_ = true;
    fail_all();
    if (draining_) loop_.stop();
    return net::IoLoop::kForever;
  }
  if (draining_ && service_->idle()) loop_.stop();
  return *sleep;
}

void EmbeddedEngine::fail_all() {
  auto asked = std::exchange(asked_, {});
  for (auto& [cookie, one] : asked) one.done(std::unexpected(stopped()));
}

void EmbeddedEngine::post(std::move_only_function<void()> work) {
  bool was_empty = false;
  {
    std::lock_guard const lock{posted_mutex_};
    was_empty = posted_.empty();
    posted_.push_back(std::move(work));
  }
  if (was_empty) loop_.post([this] { run_posted(); });
}

void EmbeddedEngine::run_posted() {
  std::vector<std::move_only_function<void()>> work;
  {
    std::lock_guard const lock{posted_mutex_};
    std::swap(work, posted_);
  }
  for (auto& each : work) each();
}

void EmbeddedEngine::submit(Cookie cookie, Request request, Done done) {
  post([this, cookie, request = std::move(request), done = std::move(done)]() mutable {
    begin(cookie, request, std::move(done));
  });
}

void EmbeddedEngine::abandon(Cookie cookie) {
  post([this, cookie] {
    auto node = asked_.extract(cookie);
    if (node.empty() || failed_) return;
    service_->abandon(cookie);
    endpoints_->abandon(node.mapped().exchange);
  });
}

void EmbeddedEngine::call_off(Cookie cookie) {
  post([this, cookie] {
    auto node = asked_.extract(cookie);
    if (node.empty()) return;
    service_->abandon(cookie);
    endpoints_->abandon(node.mapped().exchange);
    node.mapped().done(std::unexpected(transport_error("call_cancelled", "called off", true)));
  });
}

void EmbeddedEngine::begin(Cookie cookie, Request const& from, Done done) {
  if (failed_) return done(std::unexpected(stopped()));
  http::Exchange exchange;
  exchange.received_at = clock_.monotonic();
  http::Request const request = request_of(from);
  auto command = endpoints_->begin(request, exchange, caller_);
  if (!command) return done(response_of(exchange.text));
  auto const taken = service_->submit(cookie, *std::move(command), service::kNever);
  if (!taken) {
    text_.clear();
    endpoints_->answer(exchange, taken.error(), text_);
    return done(response_of(text_));
  }
  asked_.emplace(cookie, Asked{std::move(exchange), std::move(done)});
}

void EmbeddedEngine::on_answers(std::span<service::Answer> answers) {
  for (service::Answer const& answer : answers) {
    on_answer(answer.cookie, answer.reply);
    for (Cookie const other : answer.also) on_answer(other, answer.reply);
  }
}

void EmbeddedEngine::on_answer(Cookie cookie, Reply const& reply) {
  auto node = asked_.extract(cookie);
  if (node.empty()) return give_back(reply);
  text_.clear();
  endpoints_->answer(node.mapped().exchange, reply, text_);
  node.mapped().done(response_of(text_));
}

// Who asked has gone meanwhile, and would hold the jobs until their leases run out.
void EmbeddedEngine::give_back(Reply const& reply) {
  auto const* const leased = std::get_if<LeaseReply>(&reply);
  if (leased == nullptr || leased->jobs.empty()) return;
  workmill::ReportBatch batch;
  for (auto const& job : leased->jobs) {
    batch.reports.push_back({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Released{}});
  }
  if (auto const taken = service_->submit(0, std::move(batch), service::kNever); !taken) {
    logger_.warn("leases run out instead of ending at once", {{"jobs", leased->jobs.size()}});
  }
}

std::unique_ptr<Transport> EmbeddedEngine::make_transport(Loop& loop) {
  return std::make_unique<EmbeddedTransport>(loop, *this);
}

std::unique_ptr<WorkLink> EmbeddedEngine::make_stream(Loop&, Subscription, LinkEvents&) { return nullptr; }

}  // namespace workmill::client::detail

namespace workmill::client {

Result<Workmill> Workmill::open(std::string const& folder, EmbeddedOptions options) {
  auto engine = detail::EmbeddedEngine::open(folder, std::move(options));
  if (!engine) return std::unexpected(detail::to_client(engine.error()));
  return Workmill{*std::move(engine)};
}

Client Workmill::client(ServerOptions options) const { return Client{backend_, std::move(options)}; }
AsyncClient Workmill::async_client(AsyncOptions options) const { return AsyncClient{backend_, std::move(options)}; }
Worker Workmill::worker(WorkerOptions options) const { return Worker{backend_, std::move(options)}; }

}  // namespace workmill::client
