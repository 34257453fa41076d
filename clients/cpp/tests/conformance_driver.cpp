// The C++ client's driver for the suite that all clients share: clients/conformance/README.md says what it is told.
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "driver_calls.h"
#include "driver_script.h"
#include "driver_words.h"
#include "workmill/embedded.h"
#include "workmill/workmill.h"

namespace workmill::client::driver {
namespace {

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
      return Json{Json::Object{
          {"client", "cpp"},
          {"can", Json::Array{"http", "stream", "embedded", "checkpoint", "signals", "cache", "batches"}}}};
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
      worker->on<Json>(type, [this, name](Json const& script, JobContext& context) {
        return run_script(name, script, context, gates_);
      });
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

  std::mutex mutex_;
  std::map<std::string, Workmill> mills_;
  std::map<std::string, std::shared_ptr<Client>> clients_;
  std::map<std::string, RunningWorker> workers_;
  Gates gates_;
};

}  // namespace
}  // namespace workmill::client::driver

int main() {
  workmill::client::driver::Driver driver;
  driver.run();
}
