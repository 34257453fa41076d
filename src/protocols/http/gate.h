#pragma once
#include <array>
#include <boost/asio/ip/address.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/time.h"
#include "model/client.h"
#include "protocols/http/router.h"
#include "service/attempts.h"
#include "service/token_store.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

// Who asks, and may he: the judge of every request's head, before anything is done for its body.
namespace workmill::http {

// What a request shows of a token, lent by it.
struct Shown {
  enum class As : std::uint8_t {
    authorization,  // The value of an Authorization header: "Bearer" and the token.
    api_key,        // Of an X-API-Key header: the token and nothing else.
  };
  std::string_view header{};  // Empty: nothing.
  As as = As::authorization;
};

// Who a connection's requests come from, as of the last one that was looked up. A client sends the same header with
// every request: it costs one comparison then, and no hash.
//
// Holds the header, which is a secret, and so wipes it. One for each connection.
class Caller {
 public:
  // `client` and `from`: the peer of the connection.
  Caller(ClientKey client, boost::asio::ip::address from) : client_(client), from_(std::move(from)) {}
  ~Caller() { forget(); }
  Caller(Caller const&) = delete;
  Caller& operator=(Caller const&) = delete;

  // Nothing where the server has no tokens, or none was shown where none is needed.
  service::Token const* token() const { return token_.get(); }
  service::TokenPtr const& shared_token() const { return token_; }
  // The token where one was shown, else the peer.
  ClientKey client() const { return token_ ? token_->client : client_; }
  boost::asio::ip::address const& from() const { return from_; }
  // Where the last refusal was a lock-out: for how long. Else zero.
  std::chrono::seconds locked_out() const { return locked_out_; }
  // What goes with its commands.
  Allowed const& allowed() const { return token_ ? token_->record.allowed : no_limits_; }

 private:
  friend class Gate;
  static constexpr std::size_t kHeaderBytesMax = 96;  // "Bearer " and a token; what is longer is no token of ours.

  bool is_same(Shown const& shown) const;
  void remember(Shown const& shown, service::TokenPtr token, std::uint64_t generation);
  void forget();

  ClientKey const client_;
  boost::asio::ip::address const from_;
  std::chrono::seconds locked_out_{};
  std::array<char, kHeaderBytesMax> header_{};
  std::size_t header_bytes_ = 0;
  Shown::As shown_as_{};
  std::uint64_t generation_ = 0;
  service::TokenPtr token_;
  Allowed const no_limits_{};  // To lend, where there is no token.
};

// One for each I/O thread, and only asked there.
class Gate {
 public:
  // What is lent outlives it.
  Gate(service::TokenStore const& tokens, telemetry::Metrics& metrics, telemetry::Logger& logger);

  struct Moment {
    Instant now{};                         // Wall time: tokens end by it.
    std::chrono::nanoseconds monotonic{};  // Lock-outs go by it.
  };
  // Without tokens everybody is let in. `access`: what the route asks; nothing for a path that there is not, which is
  // told only to who has a token. unauthorized, forbidden; too_many_attempts where tokens of this peer did not hold
  // time and again, and this one does not either (see Attempts).
  Result<> admit(Shown const& shown, std::optional<Access> access, Moment moment, Caller& caller);
  // The same for one who was let in and is still there. Cheap where nothing has changed.
  Result<> still_holds(Access access, Moment moment, Caller& caller);
  // Since it was asked last.
  bool have_tokens_changed();

 private:
  static std::optional<service::ShownToken> parts_of(Shown const& shown);
  Result<> identify(Shown const& shown, Moment moment, Caller& caller);
  std::unexpected<Error> turn_away(std::string message, telemetry::Counter& counter, Moment moment, Caller& caller);

  service::TokenStore const& tokens_;
  std::uint64_t generation_seen_ = 0;
  telemetry::Logger& logger_;
  service::Attempts attempts_;
  telemetry::Counter& missing_;
  telemetry::Counter& malformed_;
  telemetry::Counter& unknown_;
  telemetry::Counter& expired_;
  telemetry::Counter& locked_out_;
  telemetry::Counter& forbidden_;
};

// What keeps a token from a call: forbidden, where anything does. Its scopes and, where the call is about the whole
// server or the cache, that it is limited to queues. To which keys of the cache, is looked at with the key.
Result<> check_access(service::TokenRecord const& token, Access access);

}  // namespace workmill::http
