// The C++ client's driver for the suite that all clients share: clients/conformance/README.md says what it is told.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "workmill/embedded.h"
#include "workmill/workmill.h"

namespace {

using namespace workmill::client;  // NOLINT(google-build-using-namespace)

// ---- What is written to standard output, a line at a time.

std::mutex& output_mutex() {
  static std::mutex mutex;
  return mutex;
}

void say(Json::Object members) {
  std::string line = Json{std::move(members)}.dump();
  line.push_back('\n');
  std::lock_guard const lock{output_mutex()};
  std::cout << line << std::flush;
}

Json error_json(Error const& error) {
  Json::Object out{
      {"class", std::string{to_string(error.error_class)}}, {"code", error.code}, {"message", error.message}};
  if (!error.field.empty()) out.emplace_back("field", error.field);
  if (!error.trace_id.empty()) out.emplace_back("trace_id", error.trace_id);
  if (error.code == "cache_pending") {
    Json const pending = Json::parse(error.detail).value_or(Json{});
    for (std::string_view const name : {"job_id", "state"}) {
      out.emplace_back(std::string{name}, std::string{pending.text(name)});
    }
  }
  return Json{std::move(out)};
}

// ---- What is read

Duration parse_duration(std::string_view text) {
  Duration sum{0};
  std::size_t at = 0;
  while (at < text.size()) {
    Duration::rep number = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) number = number * 10 + (text[at] - '0');
    std::size_t const unit = at;
    while (at < text.size() && (text[at] < '0' || text[at] > '9')) ++at;
    std::string_view const name = text.substr(unit, at - unit);
    Duration::rep const factor = name == "ms"  ? 1
                                 : name == "s" ? 1'000
                                 : name == "m" ? 60'000
                                 : name == "h" ? 3'600'000
                                               : 86'400'000;
    sum += Duration{number * factor};
  }
  return sum;
}

std::string text_of(Json const& json, std::string_view name) { return std::string{json.text(name)}; }
std::optional<Duration> duration_of(Json const& json, std::string_view name) {
  if (json.find(name) == nullptr) return std::nullopt;
  return parse_duration(json.text(name));
}
std::optional<unsigned> number_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  if (found == nullptr || !found->as_uint()) return std::nullopt;
  return static_cast<unsigned>(*found->as_uint());
}
double double_of(Json const& json, std::string_view name, double otherwise) {
  Json const* const found = json.find(name);
  return found != nullptr ? found->as_double().value_or(otherwise) : otherwise;
}

// A job as the API has it, as this client has it.
NewJob job_of(Json const& json) {
  NewJob job{.type = text_of(json, "type")};
  if (Json const* const payload = json.find("payload"); payload != nullptr) job.payload = payload->dump();
  if (json.find("payload_base64") != nullptr) {
    job.payload = decode_base64(json.text("payload_base64")).value_or("");
    job.payload_is_bytes = true;
  }
  JobOptions& options = job.options;
  options.queue = text_of(json, "queue");
  options.id = text_of(json, "id");
  if (Json const* const priority = json.find("priority"); priority != nullptr) {
    options.priority = static_cast<int>(priority->as_int().value_or(-1));
  }
  options.delay = duration_of(json, "delay");
  options.expires_in = duration_of(json, "expires_in");
  options.max_attempts = number_of(json, "max_attempts");
  options.lease = duration_of(json, "lease");
  options.keep_result = duration_of(json, "keep_result");
  options.group = text_of(json, "group");
  if (Json const* const backoff = json.find("backoff"); backoff != nullptr) {
    options.backoff = Backoff{.first = duration_of(*backoff, "first").value_or(Duration{15'000}),
                              .factor = double_of(*backoff, "factor", 2.0),
                              .cap = duration_of(*backoff, "cap"),
                              .jitter = double_of(*backoff, "jitter", 0.2)};
  }
  if (Json const* const unique = json.find("unique"); unique != nullptr) {
    options.unique = Unique{.key = text_of(*unique, "key"), .within = duration_of(*unique, "for")};
    if (unique->find("while") != nullptr) options.unique->until = unique->text("while");
  }
  if (Json const* const tags = json.find("tags"); tags != nullptr && tags->as_array() != nullptr) {
    for (Json const& tag : *tags->as_array()) options.tags.push_back(*tag.as_string());
  }
  if (Json const* const meta = json.find("meta"); meta != nullptr) options.meta = *meta;
  constexpr std::array kKnown{"type",    "payload",    "payload_base64", "queue", "id",          "priority",
                              "delay",   "expires_in", "max_attempts",   "lease", "keep_result", "group",
                              "backoff", "unique",     "tags",           "meta"};
  for (auto const& [name, value] : *json.as_object()) {
    if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end()) options.more.emplace_back(name, value);
  }
  return job;
}

// ---- Gates that scripts wait at

class Gates {
 public:
  void open(std::string const& name) {
    std::lock_guard const lock{mutex_};
    open_.insert(name);
    changed_.notify_all();
  }
  // False where the context was cancelled first.
  bool pass(std::string const& name, std::stop_token const& stop) {
    std::unique_lock lock{mutex_};
    return changed_.wait(lock, stop, [&] { return open_.contains(name); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::set<std::string> open_;
};

class Driver {
 public:
  void run() {
    std::string line;
    std::vector<std::jthread> threads;
    while (std::getline(std::cin, line)) {
      auto command = Json::parse(line);
      if (!command) std::abort();
      // Side by side: each on a thread of its own.
      threads.emplace_back([this, command = *std::move(command)] { answer(command); });
    }
    std::cout.flush();
    std::_Exit(0);  // At once, whatever is under way.
  }

 private:
  struct RunningWorker {
    std::unique_ptr<Worker> worker;
    std::jthread thread;
  };

  void answer(Json const& command) {
    Json const number = *command.find("n");
    std::string const what = text_of(command, "do");
    auto result = perform(what, command);
    if (result)
      say({{"n", number}, {"ok", *std::move(result)}});
    else if (result.error().code == "driver_bug")
      say({{"n", number}, {"bug", result.error().message}});
    else
      say({{"n", number}, {"error", error_json(result.error())}});
  }

  Result<Json> perform(std::string const& what, Json const& command) {
    if (what == "hello") {
      return Json{Json::Object{{"client", "cpp"},
                               {"can", Json::Array{"http", "stream", "embedded", "checkpoint", "signals", "cache"}}}};
    }
    if (what == "client") return make_client(command);
    if (what == "worker") return make_worker(command);
    if (what == "stop") return stop_worker(command);
    if (what == "open") {
      gates_.open(text_of(command, "gate"));
      return Json{};
    }
    std::shared_ptr<Client> const client = find_client(text_of(command, "client"));
    if (!client) return fail(ErrorClass::fatal, "driver_bug", "no such client");
    return call(*client, what, command);
  }

  Result<Json> call(Client& client, std::string const& what, Json const& command) {
    std::string const id = text_of(command, "id");
    if (what == "enqueue") {
      auto job = client.enqueue(job_of(*command.find("job")), {.idempotency_key = text_of(command, "idempotency_key")});
      if (!job) return std::unexpected(job.error());
      return enqueued_json(*job);
    }
    if (what == "bulk") return bulk(client, command);
    if (what == "list") return list(client, command);
    if (what == "get") return whole(client.job(id));
    if (what == "wait") return whole(client.wait(id, duration_of(command, "for").value_or(Duration{60'000})));
    if (what == "cancel") return nothing(client.cancel(id));
    if (what == "retry") return nothing(client.retry(id));
    if (what == "delete") return nothing(client.remove(id));
    if (what == "queue") return whole(client.queue(text_of(command, "name")));
    if (what == "pause") return nothing(client.pause(text_of(command, "name")));
    if (what == "resume") return nothing(client.resume(text_of(command, "name")));
    if (what.starts_with("cache_")) return call_cache(client.cache(), what, command);
    return fail(ErrorClass::fatal, "driver_bug", "no such command: " + what);
  }

  // ---- The cache

  static Result<Json> call_cache(Cache cache, std::string const& what, Json const& command) {
    std::string const key = text_of(command, "key");
    if (what == "cache_get") {
      auto const found = cache.get(key);
      if (!found) return std::unexpected(found.error());
      return *found ? cached_json(**found) : Json{};
    }
    if (what == "cache_put") {
      auto const etag = command.find("value_base64") != nullptr
                            ? cache.put(key, bytes_of(command), cache_options(command))
                            : cache.put(key, *command.find("value"), cache_options(command));
      if (!etag) return std::unexpected(etag.error());
      return Json{*etag};
    }
    if (what == "cache_compute") {
      CacheOptions const windows = cache_options(command);
      ComputeOptions options{.fresh = windows.fresh,
                             .stale = windows.stale,
                             .error_for = duration_of(command, "error_for"),
                             .tags = windows.tags};
      if (auto const wait = duration_of(command, "wait")) options.wait = *wait;
      auto const value = cache.get_or_compute(key, job_of(*command.find("job")), options);
      if (!value) return std::unexpected(value.error());
      return cached_json(*value);
    }
    if (what != "cache_delete") return fail(ErrorClass::fatal, "driver_bug", "no such command: " + what);
    if (command.find("tag") != nullptr) return number(cache.remove_by_tag(text_of(command, "tag")));
    if (command.find("prefix") != nullptr) return number(cache.remove_by_prefix(text_of(command, "prefix")));
    return number(cache.remove(key));
  }

  static CacheOptions cache_options(Json const& json) {
    CacheOptions options{.fresh = duration_of(json, "fresh"), .stale = duration_of(json, "stale")};
    if (Json const* const tags = json.find("tags"); tags != nullptr) {
      for (Json const& tag : *tags->as_array()) options.tags.push_back(*tag.as_string());
    }
    return options;
  }
  static Bytes bytes_of(Json const& json) { return Bytes{decode_base64(json.text("value_base64")).value_or("")}; }
  template <class T>
  static Result<Json> number(Result<T> const& result) {
    if (!result) return std::unexpected(result.error());
    return Json{*result};
  }

  static Result<Json> cached_json(CachedValue const& found) {
    Json::Object out{{"fresh", found.fresh},
                     {"age", found.age.count()},
                     {"etag", found.etag},
                     {"content_type", found.content_type},
                     {"computed", found.computed}};
    if (found.content_type == "application/json") {
      auto value = found.as<Json>();
      if (!value) return std::unexpected(value.error());
      out.emplace_back("value", *std::move(value));
    } else {
      out.emplace_back("value_base64", encode_base64(found.body));
    }
    return Json{std::move(out)};
  }

  static Json enqueued_json(Enqueued const& job) {
    return Json{
        Json::Object{{"id", job.id}, {"state", std::string{to_string(job.state)}}, {"duplicate", job.duplicate}}};
  }
  template <class T>
  static Result<Json> whole(Result<T> result) {
    if (!result) return std::unexpected(result.error());
    return std::move(result->json);
  }
  template <class T>
  static Result<Json> nothing(Result<T> const& result) {
    if (!result) return std::unexpected(result.error());
    return Json{};
  }

  static Result<Json> bulk(Client& client, Json const& command) {
    std::vector<NewJob> jobs;
    for (Json const& job : *command.find("jobs")->as_array()) jobs.push_back(job_of(job));
    auto answers = client.enqueue_all(jobs);
    if (!answers) return std::unexpected(answers.error());
    Json::Array out;
    for (Enqueued const& job : *answers) out.push_back(enqueued_json(job));
    return Json{std::move(out)};
  }

  static Result<Json> list(Client& client, Json const& command) {
    JobQuery query{.limit = number_of(command, "page").value_or(50)};
    if (Json const* const filter = command.find("filter"); filter != nullptr) {
      query.queue = text_of(*filter, "queue");
      query.type = text_of(*filter, "type");
      query.tag = text_of(*filter, "tag");
      query.group = text_of(*filter, "group");
      for (int i = 0; i < 6; ++i) {
        if (auto const state = static_cast<JobState>(i); to_string(state) == filter->text("state")) query.state = state;
      }
    }
    Json::Array ids;
    do {
      auto page = client.list(query);
      if (!page) return std::unexpected(page.error());
      for (Job const& job : page->jobs) ids.emplace_back(job.id);
      query.cursor = page->next;
    } while (!query.cursor.empty());
    return Json{std::move(ids)};
  }

  // ---- Clients

  static ServerOptions server_options(Json const& command) {
    ServerOptions options{.url = text_of(command, "url"), .token = text_of(command, "token")};
    options.log = [](LogLevel, std::string_view message) {
      std::lock_guard const lock{output_mutex()};
      std::cerr << message << '\n';
    };
    if (auto const timeout = duration_of(command, "request_timeout")) options.request_timeout = *timeout;
    if (Json const* const retry = command.find("retry"); retry != nullptr) {
      if (auto const attempts = number_of(*retry, "attempts")) options.retry.attempts = *attempts;
      if (auto const first = duration_of(*retry, "first")) options.retry.first = *first;
      if (auto const cap = duration_of(*retry, "cap")) options.retry.cap = *cap;
    }
    return options;
  }

  // The engine of an `embedded:FOLDER`, shared by all of that URL. Nothing for other URLs.
  Result<std::optional<Workmill>> mill_of(std::string const& url) {
    constexpr std::string_view kPrefix = "embedded:";
    if (!url.starts_with(kPrefix)) return std::nullopt;
    std::lock_guard const lock{mutex_};
    if (auto const found = mills_.find(url); found != mills_.end()) return std::optional{found->second};
    std::string const folder = url.substr(kPrefix.size());
    auto mill = Workmill::open(folder, {.log = [](LogLevel, std::string_view line) { std::cerr << line << '\n'; }});
    if (!mill) return std::unexpected(mill.error());
    mills_.emplace(url, *mill);
    return std::optional{*mill};
  }

  Result<Json> make_client(Json const& command) {
    ServerOptions options = server_options(command);
    auto mill = mill_of(options.url);
    if (!mill) return std::unexpected(mill.error());
    auto client = std::make_shared<Client>(*mill ? (*mill)->client(options) : Client{options});
    std::lock_guard const lock{mutex_};
    clients_.insert_or_assign(text_of(command, "name"), std::move(client));
    return Json{};
  }

  std::shared_ptr<Client> find_client(std::string const& name) {
    std::lock_guard const lock{mutex_};
    auto const found = clients_.find(name);
    return found != clients_.end() ? found->second : nullptr;
  }

  // ---- Workers

  Result<Json> make_worker(Json const& command) {
    std::string const name = text_of(command, "name");
    WorkerOptions options{.queues = {}, .server = server_options(command)};
    for (Json const& queue : *command.find("queues")->as_array()) {
      if (auto const* const plain = queue.as_string(); plain != nullptr)
        options.queues.emplace_back(*plain);
      else
        options.queues.emplace_back(text_of(queue, "name"), number_of(queue, "weight").value_or(0));
    }
    if (auto const concurrency = number_of(command, "concurrency")) options.concurrency = *concurrency;
    if (auto const lease = duration_of(command, "lease")) options.lease = *lease;
    options.name = text_of(command, "worker");
    options.transport = command.text("transport") == "http" ? WorkTransport::http : WorkTransport::stream;
    auto mill = mill_of(options.server.url);
    if (!mill) return std::unexpected(mill.error());
    auto worker = std::make_unique<Worker>(*mill ? (*mill)->worker(options) : Worker{options});
    std::vector<std::string> types{"script"};
    if (Json const* const given = command.find("types"); given != nullptr) {
      types.clear();
      for (Json const& type : *given->as_array()) types.push_back(*type.as_string());
    }
    for (std::string const& type : types) {
      worker->on<Json>(
          type, [this, name](Json const& script, JobContext& context) { return run_script(name, script, context); });
    }
    bool const signals = command.find("signals") != nullptr && *command.find("signals")->as_bool();
    std::lock_guard const lock{mutex_};
    RunningWorker& running = workers_[name];
    running.worker = std::move(worker);
    running.thread = std::jthread{[name, signals, worker = running.worker.get()] {
      auto const ended = signals ? worker->run_until_signal() : worker->run();
      Json::Object event{{"event", "stopped"}, {"worker", name}};
      if (!ended) event.emplace_back("error", error_json(ended.error()));
      say(std::move(event));
    }};
    return Json{};
  }

  Result<Json> stop_worker(Json const& command) {
    std::string const name = text_of(command, "worker");
    RunningWorker running;
    {
      std::lock_guard const lock{mutex_};
      running = std::move(workers_[name]);
      workers_.erase(name);
    }
    if (!running.worker) return fail(ErrorClass::fatal, "driver_bug", "no such worker");
    running.worker->stop();
    if (auto const timeout = duration_of(command, "timeout")) {
      std::this_thread::sleep_for(*timeout);
      running.worker->stop();
    }
    static_cast<void>(running.worker->wait());
    return Json{};
  }

  // ---- Scripts

  Result<Json> run_script(std::string const& worker, Json const& payload, JobContext& context) {
    std::string const id{context.id()};
    say({{"event", "started"},
         {"worker", worker},
         {"id", id},
         {"type", std::string{context.type()}},
         {"attempt", context.attempt()}});
    std::string how = "returned";
    Result<Json> result = Json{};
    for (Json const& action : *payload.find("do")->as_array()) {
      auto step = act(worker, *action.as_array(), payload, context);
      if (!step) {
        how = step.error().code == "cancelled" ? "cancelled" : "raised";
        result = std::unexpected(step.error());
        break;
      }
      if (*step) {
        result = **std::move(step);
        break;
      }
    }
    say({{"event", "ended"}, {"worker", worker}, {"id", id}, {"attempt", context.attempt()}, {"how", how}});
    return result;
  }

  // A value ends the script; nothing goes on.
  Result<std::optional<Json>> act(std::string const& worker, Json::Array const& action, Json const& payload,
                                  JobContext& context) {
    std::string const& what = *action[0].as_string();
    auto const argument = [&](std::size_t i) { return i < action.size() ? action[i] : Json{}; };
    if (what == "return") return std::optional{argument(1)};
    if (what == "echo") return std::optional{payload.find("data") != nullptr ? *payload.find("data") : Json{}};
    if (what == "return_attempt") return std::optional{Json{context.attempt()}};
    if (what == "return_checkpoint") {
      auto saved = context.saved<Json>();
      if (!saved) return std::unexpected(saved.error());
      return *std::move(saved);
    }
    if (what == "fail_until") {
      if (context.attempt() < static_cast<unsigned>(argument(1).as_uint().value_or(0))) {
        return retry_later("not_yet", "in a later attempt");
      }
    } else if (what == "throw") {
      return thrown(argument(1));
    } else if (what == "progress") {
      context.progress(static_cast<int>(argument(1).as_int().value_or(0)), *argument(2).as_string());
    } else if (what == "log") {
      for (std::size_t i = 1; i < action.size(); ++i) context.log(*action[i].as_string());
    } else if (what == "cache") {
      Json const entry = argument(1);
      std::string const key = text_of(entry, "key");
      auto const set = entry.find("value_base64") != nullptr
                           ? context.cache(key, bytes_of(entry), cache_options(entry))
                           : context.cache(key, *entry.find("value"), cache_options(entry));
      if (!set) return std::unexpected(set.error());
    } else if (what == "checkpoint") {
      if (auto const saved = context.checkpoint(argument(1)); !saved) return std::unexpected(saved.error());
      say({{"event", "checkpointed"}, {"worker", worker}, {"id", std::string{context.id()}}});
    } else if (what == "hold" || what == "hold_first") {
      if (what == "hold_first" && context.attempt() > 1) return std::nullopt;
      Json const gate = argument(1);
      if (!gates_.pass(*gate.as_string(), context.stop_token())) return context.cancelled_error();
    }
    return std::nullopt;
  }

  static std::unexpected<Error> thrown(Json const& what) {
    std::string const error_class = text_of(what, "class");
    Error error{.code = text_of(what, "code"),
                .error_class = error_class == "user"    ? ErrorClass::user
                               : error_class == "fatal" ? ErrorClass::fatal
                                                        : ErrorClass::retryable,
                .message = text_of(what, "message"),
                .retry_after = duration_of(what, "retry_in")};
    return std::unexpected(std::move(error));
  }

  std::mutex mutex_;
  std::map<std::string, Workmill> mills_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
  std::map<std::string, RunningWorker> workers_;
  Gates gates_;
};

}  // namespace

int main() {
  Driver driver;
  driver.run();
}
