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

}  // namespace

void TokenStore::set(std::vector<TokenRecord> records) {
  auto table = std::make_shared<Table>();
  table_.with([&](std::shared_ptr<Table const>& current) {
    for (TokenRecord& record : records) {
      auto token = std::make_shared<Token>();
      if (current) {
        auto const before = current->find(record.id);
        if (before != current->end()) token->last_used_ms = before->second->last_used_ms.load();
      }
      token->record = std::move(record);
      token->client = client_key_of(token->record.id);
      std::string id = token->record.id;
      table->emplace(std::move(id), std::move(token));
    }
    current = std::move(table);
  });
  generation_.fetch_add(1, std::memory_order_acq_rel);
}

TokenPtr TokenStore::find(ShownToken const& shown) const {
  auto const table = table_.with([](std::shared_ptr<Table const> const& current) { return current; });
  if (!table) return nullptr;
  auto const found = table->find(std::string{shown.id});
  if (found == table->end() || !holds(found->second->record, shown.secret)) return nullptr;
  return found->second;
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

}  // namespace workmill::service
