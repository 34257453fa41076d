#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "cache/cache.h"
#include "log/log.h"
#include "net/io_loop.h"
#include "protocols/http/calls/endpoints.h"
#include "service/inline_service.h"
#include "shard/recovery.h"
#include "shard/shard_loop.h"
#include "shard/system_clock.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "transport.h"
#include "workmill/embedded.h"

// An engine in the process of its user: a shard, its log and the thread that turns it, behind the API's own endpoints
// but without a socket. A request is answered as the server would, by the same code.
namespace workmill::client::detail {

class EmbeddedEngine final : public Backend, public service::AnswerSink {
 public:
  using Cookie = service::Cookie;
  // On the engine's thread, once.
  using Done = std::move_only_function<void(client::Result<Response>)>;

  static workmill::Result<std::shared_ptr<EmbeddedEngine>> open(std::string const& folder, EmbeddedOptions options);
  // Answers what is under way, flushes, and closes the log. Not from the engine's thread.
  ~EmbeddedEngine() override;

  std::unique_ptr<Transport> make_transport(Loop& loop) override;
  std::unique_ptr<WorkLink> make_stream(Loop&, Subscription, LinkEvents&) override;  // Null: there are no streams.

  // Any thread. A cookie is the asker's to choose: next_cookie().
  void submit(Cookie cookie, Request request, Done done);
  void abandon(Cookie cookie);
  // The same, and says so, unless it is answered before.
  void call_off(Cookie cookie);
  Cookie next_cookie() { return next_cookie_.fetch_add(1, std::memory_order_relaxed); }

  void on_answers(std::span<service::Answer> answers) override;

 private:
  struct Asked {
    http::Exchange exchange;
    Done done;
  };

  EmbeddedEngine(EmbeddedOptions options, Rng chance);
  workmill::Result<> recover(std::string const& folder);
  void start();
  void post(std::move_only_function<void()> work);
  void run_posted();
  void begin(Cookie cookie, Request const& request, Done done);
  void on_answer(Cookie cookie, Reply const& reply);
  void give_back(Reply const& reply);
  Duration turn();
  void fail_all();

  EmbeddedOptions const options_;
  shard::SystemClock clock_;
  telemetry::Logger logger_;
  telemetry::Metrics metrics_;
  Rng chance_;
  std::unique_ptr<log::Log> log_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<cache::Cache> cache_;
  shard::RecoveryReport recovery_;
  net::IoLoop loop_;
  std::unique_ptr<shard::ShardLoop> shard_;
  std::unique_ptr<service::InlineService> service_;
  service::TokenStore tokens_;  // Off: who is in this process may do everything.
  http::HttpCounters counters_{metrics_};
  std::unique_ptr<http::Endpoints> endpoints_;
  http::Caller caller_;
  std::unordered_map<Cookie, Asked> asked_;
  std::string text_;  // Of an answer.
  std::atomic<Cookie> next_cookie_{1};
  bool draining_ = false;
  bool failed_ = false;

  std::mutex posted_mutex_;
  std::vector<std::move_only_function<void()>> posted_;
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace workmill::client::detail
