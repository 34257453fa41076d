#include "protocols/http/gate.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/assert.h"
#include "protocols/http/bearer.h"

namespace workmill::http {

// What was a token in one header may not count in the other.
bool Caller::is_same(Shown const& shown) const {
  return shown.as == shown_as_ && shown.header.size() == header_bytes_ &&
         CRYPTO_memcmp(shown.header.data(), header_.data(), header_bytes_) == 0;
}

void Caller::remember(Shown const& shown, service::TokenPtr token, std::uint64_t generation) {
  WM_ASSERT(shown.header.size() <= header_.size());
  forget();
  std::copy(shown.header.begin(), shown.header.end(), header_.begin());
  header_bytes_ = shown.header.size();
  shown_as_ = shown.as;
  generation_ = generation;
  token_ = std::move(token);
}

void Caller::forget() {
  if (header_bytes_ > 0) OPENSSL_cleanse(header_.data(), header_bytes_);
  header_bytes_ = 0;
  token_.reset();
}

Gate::Gate(service::TokenStore const& tokens, telemetry::Metrics& metrics, telemetry::Logger& logger)
    : tokens_(tokens),
      logger_(logger.of(telemetry::LogComponent::auth)),
      missing_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                               {{"reason", "missing"}})),
      malformed_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                                 {{"reason", "malformed"}})),
      unknown_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                               {{"reason", "unknown"}})),
      expired_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                               {{"reason", "expired"}})),
      locked_out_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                                  {{"reason", "locked_out"}})),
      forbidden_(metrics.counter("workmill_auth_refused_total", "Requests without the right to be answered.",
                                 {{"reason", "forbidden"}})) {}

Result<> Gate::admit(Shown const& shown, std::optional<Access> access, Moment moment, Caller& caller) {
  caller.locked_out_ = {};
  if (!tokens_.is_on() || access == Access::open) return {};
  WM_TRY_VOID(identify(shown, moment, caller));
  service::Token const& token = *caller.token();
  // Written only when it changes by a second, as all threads look at this line of memory.
  std::int64_t const now_ms = to_ms(moment.now);
  if (now_ms - token.last_used_ms.load(std::memory_order_relaxed) >= 1'000) {
    token.last_used_ms.store(now_ms, std::memory_order_relaxed);
  }
  if (!access) return {};
  auto allowed = check_access(token.record, *access);
  if (!allowed) forbidden_.add();
  return allowed;
}

Result<> Gate::still_holds(Access access, Moment moment, Caller& caller) {
  if (!tokens_.is_on()) return {};
  bool const is_same = caller.token_ && caller.generation_ == tokens_.generation();
  if (is_same && !caller.token_->is_over(moment.now)) return {};
  // A copy, as the caller forgets his while he is looked up.
  std::array<char, Caller::kHeaderBytesMax> header = caller.header_;
  auto holds = admit({.header = {header.data(), caller.header_bytes_}, .as = caller.shown_as_}, access, moment, caller);
  OPENSSL_cleanse(header.data(), header.size());
  return holds;
}

bool Gate::have_tokens_changed() {
  std::uint64_t const generation = tokens_.generation();
  return std::exchange(generation_seen_, generation) != generation;
}

// Of a token, if that is what it may be.
std::optional<service::ShownToken> Gate::parts_of(Shown const& shown) {
  if (shown.header.size() > Caller::kHeaderBytesMax) return std::nullopt;
  if (shown.as == Shown::As::api_key) return service::split_token(shown.header);
  auto const credentials = parse_bearer(shown.header);
  return credentials ? service::split_token(*credentials) : std::nullopt;
}

Result<> Gate::identify(Shown const& shown, Moment moment, Caller& caller) {
  // Before the look-up: should the tokens change meanwhile, the next request looks again.
  std::uint64_t const generation = tokens_.generation();
  bool const is_known = caller.token_ && caller.generation_ == generation && caller.is_same(shown);
  if (!is_known) {
    caller.forget();
    if (shown.header.empty()) {  // Nobody guesses like that: it is no attempt.
      missing_.add();
      std::string_view const also = shown.as == Shown::As::api_key ? ", or X-API-Key: TOKEN" : "";
      return fail(ErrorCode::unauthorized,
                  fmt::format("the server has tokens: send Authorization: Bearer TOKEN{}", also));
    }
    auto const parts = parts_of(shown);
    if (!parts) {
      bool const is_key = shown.as == Shown::As::api_key;
      return turn_away(fmt::format("what the {} header shows is no token of a Workmill server",
                                   is_key ? "X-API-Key" : "Authorization"),
                       malformed_, moment, caller);
    }
    auto token = tokens_.find(*parts);
    if (!token) {
      return turn_away("this token is not known here: it never was, or was revoked or rotated", unknown_, moment,
                       caller);
    }
    caller.remember(shown, std::move(token), generation);
  }
  if (caller.token_->is_over(moment.now)) {
    bool const is_old = caller.token_->is_old;
    caller.forget();
    return turn_away(
        is_old ? "this token was rotated, and the time of its old secret is over" : "the time of this token is over",
        expired_, moment, caller);
  }
  return {};
}

std::unexpected<Error> Gate::turn_away(std::string message, telemetry::Counter& counter, Moment moment,
                                       Caller& caller) {
  auto const outcome = attempts_.failed(caller.client(), moment.monotonic);
  if (outcome.verdict == service::Attempts::Verdict::refused) {
    counter.add();
    return fail(ErrorCode::unauthorized, std::move(message));
  }
  locked_out_.add();
  caller.locked_out_ = outcome.wait;
  if (outcome.verdict == service::Attempts::Verdict::newly_locked) {
    logger_.warn("tokens that do not hold, one after another", {{"from", caller.from().to_string()}});
  }
  return fail(ErrorCode::too_many_attempts, "tokens that do not hold came from this address, one after another");
}

Result<> check_access(service::TokenRecord const& token, Access access) {
  enum class Of : std::uint8_t { queues, cache, whole_server };
  auto const needed = [access]() -> std::pair<service::Scope, Of> {
    switch (access) {
      case Access::open: break;
      case Access::enqueue: return {service::Scope::enqueue, Of::queues};
      case Access::work: return {service::Scope::work, Of::queues};
      case Access::read: return {service::Scope::read, Of::queues};
      case Access::admin: return {service::Scope::admin, Of::queues};
      case Access::cache_read: return {service::Scope::read, Of::cache};
      case Access::cache_enqueue: return {service::Scope::enqueue, Of::cache};
      case Access::server_read: return {service::Scope::read, Of::whole_server};
      case Access::server_admin: return {service::Scope::admin, Of::whole_server};
    }
    return {service::Scope::read, Of::queues};
  };
  if (access == Access::open) return {};
  auto const [scope, of] = needed();
  if (!token.scopes.has(scope)) {
    return fail(ErrorCode::forbidden,
                std::string{"this call needs a token with the scope "}.append(service::to_string(scope)));
  }
  if (!token.allowed.queues || of == Of::queues) return {};
  if (of == Of::whole_server) {
    return fail(ErrorCode::forbidden, "this call is about the whole server, and the token is limited to some queues");
  }
  if (token.allowed.keys) return {};
  return fail(ErrorCode::forbidden, "the token is limited to queues, and the cache belongs to none");
}

}  // namespace workmill::http
