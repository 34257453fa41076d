#include "app/tokens_file.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace workmill::app {
namespace {

using service::Scope;
using service::TokenRecord;

TokenRecord token(std::string name) {
  TokenRecord record{.id = {}, .name = std::move(name), .scopes = {Scope::read}};
  service::make_token(record);
  return record;
}

std::string change(std::vector<TokenRecord> const& before, std::vector<TokenRecord> const& after) {
  service::TokenStore store;
  store.set(before);
  return compare_tokens(store.list(), after).text();
}

TEST(CompareTokens, NamesWhatHasComeAndGoneAndIsOther) {
  TokenRecord const kept = token("kept"), old = token("old"), limited = token("limited");
  TokenRecord wider = limited;
  wider.scopes.add(Scope::admin);

  EXPECT_EQ(change({kept, old, limited}, {limited, old, kept}), "");
  EXPECT_EQ(change({kept, old, limited}, {kept, token("new"), wider}), "+new -old ~limited");
  EXPECT_EQ(change({}, {kept, old}), "+kept +old");
}

TEST(CompareTokens, TakesATokenForAnotherThatHasItsNameAlone) {
  EXPECT_EQ(change({token("ci")}, {token("ci")}), "+ci -ci");
}

TEST(CompareTokens, NamesTheTokensThatWereRotatedAndTakesTheEndOfAGraceForNoChange) {
  TokenRecord const first = token("ci");
  TokenRecord rotated = first;
  service::rotate_token(rotated, kInstantMax);
  TokenRecord longer = rotated;
  service::rotate_token(longer, std::nullopt);
  longer.expires_at = kInstantMax;
  TokenRecord grace_over = rotated;
  grace_over.old.reset();

  EXPECT_EQ(change({first}, {rotated}), "*ci");
  EXPECT_EQ(change({rotated}, {longer}), "~ci *ci");
  EXPECT_EQ(change({rotated}, {grace_over}), "");
}

TEST(CompareTokens, CountsThem) {
  TokenRecord record{.id = {}, .name = "ci", .scopes = {Scope::read}};
  service::make_token(record);
  service::TokenStore store;
  store.set({record});

  TokensChange const change = compare_tokens(store.list(), {});

  EXPECT_EQ(change.before, 1U);
  EXPECT_EQ(change.after, 0U);
  EXPECT_EQ(change.text(), "-ci");
}

TEST(CompareTokens, OfManyTellsTheFirstAndHowManyMore) {
  std::vector<TokenRecord> many;
  for (char last = 'a'; last <= 'z'; ++last) many.push_back(token(std::string{"t."} + last));

  std::string const text = change({}, many);

  EXPECT_TRUE(text.starts_with("+t.a +t.b ")) << text;
  EXPECT_TRUE(text.ends_with("+t.t +6 more")) << text;
  EXPECT_EQ(list_names(std::vector<std::string>{"a", "b"}), "a, b");
}

}  // namespace
}  // namespace workmill::app
