#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "loop.h"
#include "workmill/options.h"

// What lies under clients and workers: an HTTP server, or an engine in this process. Internal.
namespace workmill::client::detail {

// What is longer than this, which no time point would hold, is as long.
inline constexpr Duration kLongest = std::chrono::days{36'525};
// With time spans that time points hold.
ServerOptions bounded(ServerOptions options);

struct Request {
  std::string method = "GET";
  std::string target{};        // Path and query, encoded.
  std::string body{};          // JSON, or empty.
  std::string content_type{};  // Empty: JSON.
  std::string idempotency_key{};
  std::string traceparent{}, tracestate{};
  Duration timeout{30'000};
  bool waits = false;  // The server may hold its answer back, for as long as it was asked to.
};
struct Response {
  int status = 0;
  std::string body{};
  std::optional<Duration> retry_after{};
  // Of a cached value, and empty otherwise: as the headers of these names have them.
  std::string content_type{}, etag{}, cache_status{};
  std::uint32_t age = 0;  // Seconds.
};

// Requests and their answers, on the thread of one loop.
class Transport {
 public:
  using Ticket = std::uint64_t;
  // Once for each request, never from inside send() or abort(). An error: there was no answer.
  using Done = std::move_only_function<void(Result<Response>)>;

  virtual ~Transport() = default;  // What is under way is not answered any more.
  virtual Ticket send(Request request, Done done) = 0;
  // Forgets a request: `done` is not called any more, and what it would still do in the server is called off as far as
  // that goes.
  virtual void abort(Ticket ticket) = 0;
  // Waits no longer: `done` is called soon, with the answer if that is on its way already, else with an error. So
  // nothing that the server has given is lost.
  virtual void call_off(Ticket ticket) = 0;
};

struct LinkEvents;
struct Subscription;
class WorkLink;

// Makes transports. Shared by all who use it: an engine in this process must not end before the last of them.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string address() const { return {}; }  // For the log; empty where there is none.
  virtual std::unique_ptr<Transport> make_transport(Loop& loop) = 0;
  // Null where there are no streams, or the address is none.
  virtual std::unique_ptr<WorkLink> make_stream(Loop& loop, Subscription subscription, LinkEvents& events) = 0;
};

// A server. `options` as the user gave them.
std::shared_ptr<Backend> make_server_backend(ServerOptions const& options);

// ---- Shared by those who talk HTTP.

struct Address {
  std::string host{};
  std::string port{};
  bool tls = false;
  std::string token{};
  std::string ca_file{}, cert_file{}, key_file{};
};
// bad_configuration where the URL is none. Environment variables stand in for what is empty.
Result<Address> resolve_address(ServerOptions const& options);

Error transport_error(std::string code, std::string message, bool may_have_happened);

}  // namespace workmill::client::detail
