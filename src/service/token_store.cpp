#include "service/token_store.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/digits.h"
#include "base/rng.h"

namespace workmill::service {
namespace {

// Behind a part of ::/8 of its own, as the keys of addresses are in net/client_key.cpp, so that none is the same.
ClientKey client_key_of(std::string_view id) {
  std::uint64_t number = 0xfffe;
  for (char const digit : id) number = number << 4 | hex_value(digit);
  return ClientKey{mix64(number)};
}

std::shared_ptr<Token> make_token_of(TokenRecord record) {
  auto token = std::make_shared<Token>();
  token->client = client_key_of(record.id);
  if (auto const& secret = record.old) {
    auto old = std::make_shared<Token>();
    old->client = token->client;
    old->is_old = true;
    old->record = record;
    old->record.secret = secret->kept;
    old->record.old.reset();
    old->record.expires_at = std::min(secret->until, record.expires_at.value_or(secret->until));
    token->old = std::move(old);
  }
  token->record = std::move(record);
  return token;
}

void note_use(Token& token, TokenUse const& use) {
  auto const later = [&](std::atomic<std::int64_t>& last) { last = std::max(last.load(), to_ms(use.at)); };
  if (token.record.secret.salt == use.salt) return later(token.last_used_ms);
  if (token.old && token.old->record.secret.salt == use.salt) return later(token.old->last_used_ms);
  // It counts for the token, and for no secret of today.
  if (!token.gone_use || token.gone_use->at < use.at) token.gone_use = use;
}

void add_use(Token const& token, std::vector<TokenUse>& uses) {
  std::int64_t const at_ms = token.last_used_ms.load(std::memory_order_relaxed);
  if (at_ms == 0) return;
  uses.push_back({.id = token.record.id, .salt = token.record.secret.salt, .at = instant_from_ms(at_ms)});
}

}  // namespace

std::optional<Instant> Token::last_used() const {
  std::int64_t const with_old = old ? old->last_used_ms.load(std::memory_order_relaxed) : 0;
  std::int64_t const with_gone = gone_use ? to_ms(gone_use->at) : 0;
  std::int64_t const at_ms = std::max({last_used_ms.load(std::memory_order_relaxed), with_old, with_gone});
  return at_ms > 0 ? std::optional{instant_from_ms(at_ms)} : std::nullopt;
}

void TokenStore::set(std::vector<TokenRecord> records, std::vector<TokenUse> const& uses) {
  std::unordered_map<std::string, std::shared_ptr<Token>> made;
  for (TokenRecord& record : records) {
    std::string id = record.id;
    made.emplace(std::move(id), make_token_of(std::move(record)));
  }
  for (std::vector<TokenUse> const& known : {this->uses(), uses}) {
    for (TokenUse const& use : known) {
      auto const found = made.find(use.id);
      if (found != made.end()) note_use(*found->second, use);
    }
  }
  auto table = std::make_shared<Table const>(made.begin(), made.end());
  table_.with([&](std::shared_ptr<Table const>& current) { current = std::move(table); });
  generation_.fetch_add(1, std::memory_order_acq_rel);
}

TokenPtr TokenStore::find(ShownToken const& shown) const {
  auto const table = table_.with([](std::shared_ptr<Table const> const& current) { return current; });
  if (!table) return nullptr;
  auto const found = table->find(std::string{shown.id});
  if (found == table->end()) return nullptr;
  TokenPtr const& token = found->second;
  if (holds(token->record.secret, shown.secret)) return token;
  if (token->old && holds(token->old->record.secret, shown.secret)) return token->old;
  return nullptr;
}

std::vector<TokenPtr> TokenStore::list() const {
  auto const table = table_.with([](std::shared_ptr<Table const> const& current) { return current; });
  std::vector<TokenPtr> all;
  if (table) {
    for (auto const& [id, token] : *table) all.push_back(token);
  }
  std::ranges::sort(all, {}, [](TokenPtr const& token) -> std::string const& { return token->record.name; });
  return all;
}

std::vector<TokenUse> TokenStore::uses() const {
  std::vector<TokenUse> uses;
  for (TokenPtr const& token : list()) {
    add_use(*token, uses);
    if (token->old) add_use(*token->old, uses);
    if (token->gone_use) uses.push_back(*token->gone_use);
  }
  return uses;
}

}  // namespace workmill::service
