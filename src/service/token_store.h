#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"
#include "base/time.h"
#include "model/client.h"
#include "service/token_uses.h"
#include "service/tokens.h"

// The tokens that a server knows just now. One for all I/O threads; any thread may call anything.
//
// Off until somebody sets tokens; never off again, not even by an empty list: taking the last token away must not open
// the door.
namespace workmill::service {

// A token that a request may stand on. Shared by the store and the connections that have shown it, which must be able
// to go on looking at it when the store has other ones: the only thing in here that changes is when it was used last.
struct Token {
  TokenRecord record;
  ClientKey client{};  // Who asks, for limits and fairness: this token, wherever it is shown.
  mutable std::atomic<std::int64_t> last_used_ms{0};  // With this secret. 0: nobody knows of any time.
  // The same token as those have it who still show its secret before: it ends with that. Null where there is none.
  std::shared_ptr<Token const> old{};
  bool is_old = false;                 // It is such a one itself.
  std::optional<TokenUse> gone_use{};  // The last with a secret that it has no more. Not changed once it is in a store.

  bool is_over(Instant now) const { return record.expires_at && now >= *record.expires_at; }
  // With whichever secret that it has, or had. Nothing where nobody knows of any time.
  std::optional<Instant> last_used() const;
};
using TokenPtr = std::shared_ptr<Token const>;

class TokenStore {
 public:
  TokenStore() = default;
  TokenStore(TokenStore const&) = delete;
  TokenStore& operator=(TokenStore const&) = delete;

  // In place of those before; when each was used last is kept. Connections look again at their next request. `uses`: of
  // what was used before this store was made.
  void set(std::vector<TokenRecord> records, std::vector<TokenUse> const& uses = {});

  bool is_on() const { return generation_.load(std::memory_order_acquire) != 0; }
  // Another one after each set(): what was found before may not hold any more.
  std::uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  // By the id and the secret; over or not. Nothing where there is no such token, or its secret is another.
  TokenPtr find(ShownToken const& shown) const;
  // All, by name. Of one that was rotated the secret of today: see Token::old.
  std::vector<TokenPtr> list() const;
  // When each secret was used last, by name; of those that were.
  std::vector<TokenUse> uses() const;

 private:
  using Table = std::unordered_map<std::string, TokenPtr>;

  Guarded<std::shared_ptr<Table const>> table_;  // Shared, so that nobody hashes with the lock held.
  std::atomic<std::uint64_t> generation_{0};
};

}  // namespace workmill::service
