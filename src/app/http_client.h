#pragma once
#include <poll.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/json.h"
#include "base/error.h"
#include "base/time.h"

// How the command line talks to a server. Connections are kept alive.
//
// Each client belongs to one thread. An answer with any HTTP status is an HttpReply; an Error means that there was
// none: `no_server` where nobody took the connection, `outcome_unknown` where the request may have been acted upon,
// `protocol_error` where what came back was no HTTP, `bad_configuration` for an address that is none.
namespace workmill::app {

inline constexpr std::string_view kServerDefault = "http://127.0.0.1:7330";

// Whom to believe that he is the server, over https. `anybody` is for who sends no secret and takes none.
enum class Believe : std::uint8_t { whom_others_vouch_for, anybody };

// Where the server is, and what lets us in.
struct ServerAddress {
  std::string url = std::string{kServerDefault};  // As normal_url gives it.
  std::string token{};                            // Empty: none.
  std::string ca_file{};                          // PEM: who may vouch for it. Empty: whom the system believes.
  Believe believe = Believe::whom_others_vouch_for;
};
// This machine, by the name or number that stands in it. `url`: as normal_url gives it.
bool is_loopback(std::string_view url);

// "http://host:port" without a path, from what a user may write: "host:port", "https://host/". bad_configuration where
// it is no such thing.
Result<std::string> normal_url(std::string_view text);
// Percent-encoded, for one part of a path or of a query.
std::string url_encoded(std::string_view text);

struct HttpRequest {
  std::string method = "GET";
  std::string path{};                             // With its query.
  std::string body{};                             // Empty: none.
  std::string content_type = "application/json";  // Of the body.
  std::string idempotency_key{};                  // Empty: none.
  std::string traceparent{};                      // Empty: none.
  std::string tracestate{};                       // Sent with a traceparent only.
  Duration timeout = std::chrono::seconds{30};
};

struct HttpReply {
  int status = 0;
  std::string body{};
  std::optional<Duration> retry_after{};
  std::string content_type{}, etag{}, age{}, cache_status{};  // As sent; empty where they were not.
};

// The JSON of a good answer; of a bad one, the problem that it tells as an Error, with the server's code.
// protocol_error where it is neither, which is what a server that is no Workmill says.
Result<JsonDocument> read_reply(HttpReply const& reply);
// The Error that a problem (RFC 9457) tells.
Error error_of_problem(JsonValue const& problem);

// A new key for a request that must not count twice.
std::string make_idempotency_key();

// To be called once, before the first client and any thread.
void prepare_http();

// One request at a time.
class HttpClient {
 public:
  explicit HttpClient(ServerAddress address);
  HttpClient(HttpClient&&) noexcept;
  ~HttpClient();

  Result<HttpReply> send(HttpRequest const& request);
  // send and read_reply in one.
  Result<JsonDocument> call(HttpRequest const& request);
  ServerAddress const& address() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Several requests at a time, beside other things that the same thread waits for.
class HttpMulti {
 public:
  enum class Ticket : std::uint64_t { none = 0 };
  struct Finished {
    Ticket ticket{};
    Result<HttpReply> reply;
  };

  explicit HttpMulti(ServerAddress address);
  HttpMulti(HttpMulti const&) = delete;
  ~HttpMulti();  // Aborts what is under way.

  Ticket start(HttpRequest request);
  // Closes the connection of a request that is under way; it will not be among the finished.
  void abort(Ticket ticket);

  // Waits until a request has finished, until something has happened on one of `others` (whose revents it sets), or for
  // `timeout`. Answers the requests that have finished, in no order.
  std::vector<Finished> wait(std::span<pollfd> others, Duration timeout);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace workmill::app
