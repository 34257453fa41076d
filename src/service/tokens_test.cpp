#include "service/tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "service/token_store.h"

namespace workmill::service {
namespace {

constexpr Instant kNow = instant_from_ms(1'795'334'400'000);

TokenRecord record(std::string name, Scopes scopes = {Scope::read}, Allowed allowed = {}) {
  TokenRecord made;
  made.name = std::move(name);
  made.scopes = scopes;
  made.allowed = std::move(allowed);
  made.created_at = kNow;
  return made;
}

AllowedQueues queues(std::vector<std::string> names) { return std::make_shared<QueueSet const>(std::move(names)); }
AllowedKeys keys(std::vector<std::string> prefixes) { return std::make_shared<CacheKeySet const>(std::move(prefixes)); }

TEST(Tokens, HoldWithTheirOwnSecretAndNoOther) {
  TokenRecord one = record("one");
  TokenRecord two = record("two");
  std::string const first = make_token(one);
  std::string const second = make_token(two);

  auto const shown = split_token(first);
  auto const other = split_token(second);
  ASSERT_TRUE(shown && other);
  EXPECT_EQ(shown->id, one.id);
  EXPECT_TRUE(holds(one.secret, shown->secret));
  EXPECT_FALSE(holds(one.secret, other->secret));
  EXPECT_FALSE(holds(one.secret, ""));
}

TEST(Tokens, AreNoTokensWithAnythingElseThanTheirForm) {
  TokenRecord made = record("one");
  std::string const good = make_token(made);
  ASSERT_TRUE(split_token(good));

  std::string upper = good;
  upper.back() = 'A';
  std::string nul = good;
  nul[20] = '\0';
  std::string spaced = good;
  spaced[15] = ' ';
  for (std::string const& bad : {std::string{}, std::string{"wm_"}, good + "0", good.substr(1), good.substr(0, 79),
                                 "WM_" + good.substr(3), upper, nul, spaced}) {
    EXPECT_FALSE(split_token(bad)) << bad;
  }
}

TEST(Tokens, KeepNothingOfTheSecretInTheirFile) {
  TokenRecord made = record("one");
  std::string const token = make_token(made);
  auto const shown = split_token(token);
  ASSERT_TRUE(shown);

  std::string const file = format_tokens({&made, 1});

  EXPECT_EQ(file.find(shown->secret), std::string::npos);
  EXPECT_EQ(file.find(std::string{shown->secret.substr(0, 16)}), std::string::npos);
}

TEST(Tokens, ComeBackOutOfTheirFileAsTheyWere) {
  std::vector<TokenRecord> made{record("all", {Scope::enqueue, Scope::work, Scope::read, Scope::admin}),
                                record("some", {Scope::work}, {.queues = queues({"b", "a", "b"})})};
  made[1].expires_at = kNow + std::chrono::days{90};
  for (TokenRecord& each : made) make_token(each);

  auto const parsed = parse_tokens(format_tokens(made));

  ASSERT_TRUE(parsed) << describe(parsed.error());
  ASSERT_EQ(parsed->size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ((*parsed)[i].id, made[i].id);
    EXPECT_EQ((*parsed)[i].name, made[i].name);
    EXPECT_EQ((*parsed)[i].scopes, made[i].scopes);
    EXPECT_EQ((*parsed)[i].created_at, made[i].created_at);
    EXPECT_EQ((*parsed)[i].expires_at, made[i].expires_at);
    EXPECT_EQ((*parsed)[i].secret, made[i].secret);
  }
  EXPECT_EQ((*parsed)[0].allowed.queues, nullptr);
  ASSERT_NE((*parsed)[1].allowed.queues, nullptr);
  EXPECT_TRUE((*parsed)[1].allowed.queues->contains("a"));
  EXPECT_TRUE((*parsed)[1].allowed.queues->contains("b"));
  EXPECT_FALSE((*parsed)[1].allowed.queues->contains("c"));
}

TEST(Tokens, ComeBackOutOfTheirFileWithTheirPrefixesOfKeys) {
  std::vector<std::string> const prefixes{"\xc3\xa4 b,c%", "a/b:c_d-e.f", "report:", "~\xf0\x9f\xa6\x86"};
  std::vector<TokenRecord> made{
      record("both", {Scope::work}, {.queues = queues({"q"}), .keys = keys(prefixes)}),
      record("keys", {Scope::read}, {.queues = {}, .keys = keys({prefixes[0]})}),
      record("neither"),
  };
  for (TokenRecord& each : made) make_token(each);

  std::string const file = format_tokens(made);
  auto const parsed = parse_tokens(file);

  ASSERT_TRUE(parsed) << describe(parsed.error());
  ASSERT_EQ(parsed->size(), 3U);
  ASSERT_TRUE((*parsed)[0].allowed.keys && (*parsed)[1].allowed.keys);
  EXPECT_TRUE(std::ranges::equal((*parsed)[0].allowed.keys->prefixes(), made[0].allowed.keys->prefixes()));
  EXPECT_TRUE((*parsed)[0].allowed.queues->contains("q"));
  EXPECT_EQ((*parsed)[1].allowed.queues, nullptr);
  EXPECT_EQ((*parsed)[2].allowed.keys, nullptr);
  EXPECT_EQ(format_tokens(*parsed), file);
}

// An older server reads its own lines, and refuses those that hold a limit which it would not keep to.
TEST(Tokens, WithoutPrefixesOfKeysAreWrittenAsTheyWereBeforeThereWereAny) {
  std::string const old =
      "v1 0123456789ab some work a,b 2026-11-22T09:00:00.000Z never 000102030405060708090a0b0c0d0e0f "
      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

  auto const parsed = parse_tokens(old);

  ASSERT_TRUE(parsed) << describe(parsed.error());
  EXPECT_EQ((*parsed)[0].allowed.keys, nullptr);
  EXPECT_NE(format_tokens(*parsed).find("\n" + old), std::string::npos);
  auto limited = *parsed;
  limited[0].allowed.keys = keys({"k"});
  EXPECT_NE(format_tokens(limited).find("\nv2 0123456789ab some work a,b k 2026"), std::string::npos);
}

TEST(Tokens, AFileWithPrefixesThatAreNoneIsRefused) {
  TokenRecord made = record("one", {Scope::read}, {.queues = {}, .keys = keys({"k"})});
  make_token(made);
  std::string const line = format_tokens({&made, 1});
  ASSERT_TRUE(parse_tokens(line));
  std::string many = "a";
  for (std::size_t i = 0; i < kCachePrefixesMax; ++i) many.append(",").append(std::to_string(i));

  for (std::string const& prefixes : {std::string{}, std::string{","}, std::string{"k,"}.append(","), std::string{"%"},
                                      std::string{"%0"}, std::string{"%00"}, std::string{"%6b"}, std::string{"%C3%A4"},
                                      std::string{"%c3"}, std::string{"a*"}, std::string(513, 'k'), many}) {
    std::string bad = line;
    bad.replace(bad.find(" * k ") + 3, 1, prefixes);
    EXPECT_FALSE(parse_tokens(bad)) << prefixes;
  }
}

TEST(Tokens, AFileThatIsNotWholeIsRefusedWithItsLine) {
  TokenRecord made = record("one");
  make_token(made);
  std::string const good = format_tokens({&made, 1});
  std::size_t const at = good.find("v1 ");
  std::string const line = good.substr(at, good.find('\n', at) + 1 - at);

  for (std::size_t cut = 4; cut + 1 < line.size(); ++cut) {
    EXPECT_FALSE(parse_tokens(line.substr(0, cut))) << cut;
  }
  EXPECT_FALSE(parse_tokens(line + line));  // The same id twice.
  EXPECT_FALSE(parse_tokens(line.substr(0, line.size() - 1) + " more\n"));
  TokenRecord same_name = record("one");
  make_token(same_name);
  std::vector<TokenRecord> const twins{made, same_name};
  auto const twice = parse_tokens(format_tokens(twins));
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, ErrorCode::bad_configuration);
  EXPECT_NE(twice.error().message.find("line 6"), std::string::npos) << twice.error().message;
}

TEST(Tokens, AFileThatIsCutAnywhereIsRefused) {
  std::vector<TokenRecord> made{record("one"), record("two"), record("three")};
  for (TokenRecord& each : made) make_token(each);
  std::string const whole = format_tokens(made);
  ASSERT_TRUE(parse_tokens(whole));
  // The last character is the end of a line, which may be missing.
  ASSERT_TRUE(parse_tokens(whole.substr(0, whole.size() - 1)));

  for (std::size_t cut = 0; cut + 1 < whole.size(); ++cut) {
    EXPECT_FALSE(parse_tokens(whole.substr(0, cut))) << cut;
  }
}

TEST(Tokens, AFileThatHasLostALineOrGotOneBehindItsEndIsRefused) {
  std::vector<TokenRecord> made{record("one"), record("two")};
  for (TokenRecord& each : made) make_token(each);
  std::string const whole = format_tokens(made);
  std::size_t const first = whole.find("v1 ");
  std::size_t const second = whole.find("v1 ", first + 1);
  std::string const line = whole.substr(first, second - first);

  EXPECT_FALSE(parse_tokens(whole.substr(0, first) + whole.substr(second)));
  EXPECT_FALSE(parse_tokens(whole + line));
  EXPECT_FALSE(parse_tokens(whole + whole));
  EXPECT_TRUE(parse_tokens(whole + "\n"));
}

TEST(Tokens, FilesOfVersionsThatWroteNoEndMarkHold) {
  TokenRecord made = record("one");
  make_token(made);
  std::string const whole = format_tokens({&made, 1});
  std::size_t const at = whole.find("v1 ");
  std::string const old_head =
      "# Access tokens of a Workmill server, made by `workmill token`. There is no secret in here.\n";

  auto const parsed = parse_tokens(old_head + whole.substr(at, whole.find('\n', at) + 1 - at));

  ASSERT_TRUE(parsed) << describe(parsed.error());
  ASSERT_EQ(parsed->size(), 1U);
  EXPECT_EQ(parsed->front().secret, made.secret);
}

TEST(Tokens, RotatedOnesComeBackOutOfTheirFileWithBothSecrets) {
  std::vector<TokenRecord> made{record("plain"), record("ends"),
                                record("keys", {Scope::read}, {.queues = queues({"q"}), .keys = keys({"*", "-"})})};
  made[1].expires_at = kNow + std::chrono::days{90};
  for (TokenRecord& each : made) {
    make_token(each);
    rotate_token(each, kNow + std::chrono::hours{24});
  }

  std::string const file = format_tokens(made);
  auto const parsed = parse_tokens(file);

  ASSERT_TRUE(parsed) << describe(parsed.error());
  ASSERT_EQ(parsed->size(), 3U);
  for (std::size_t i = 0; i < made.size(); ++i) {
    ASSERT_TRUE((*parsed)[i].old);
    EXPECT_EQ((*parsed)[i].secret, made[i].secret);
    EXPECT_EQ((*parsed)[i].old->kept, made[i].old->kept);
    EXPECT_EQ((*parsed)[i].old->until, kNow + std::chrono::hours{24});
  }
  EXPECT_EQ((*parsed)[0].allowed.keys, nullptr);
  EXPECT_TRUE(std::ranges::equal((*parsed)[2].allowed.keys->prefixes(), made[2].allowed.keys->prefixes()));
  EXPECT_EQ(format_tokens(*parsed), file);
  std::size_t const at = file.find("v3 ");
  std::string const line = file.substr(at, file.find('\n', at) - at);
  for (std::size_t cut = line.rfind(' ', line.rfind(' ') - 1); cut + 1 < line.size(); ++cut) {
    EXPECT_FALSE(parse_tokens(line.substr(0, cut))) << cut;
  }
}

TEST(Tokens, ARotatedOneIsTheSameWithAnotherSecretAndKeepsOneBefore) {
  TokenRecord made = record("one", {Scope::read}, {.queues = queues({"q"}), .keys = {}});
  std::string const first = make_token(made);
  SecretHash const before = made.secret;
  std::string const id = made.id;

  std::string const second = rotate_token(made, kNow);

  EXPECT_EQ(made.id, id);
  EXPECT_EQ(made.name, "one");
  EXPECT_EQ(split_token(second)->id, id);
  EXPECT_TRUE(holds(made.secret, split_token(second)->secret));
  EXPECT_FALSE(holds(made.secret, split_token(first)->secret));
  ASSERT_TRUE(made.old);
  EXPECT_EQ(made.old->kept, before);
  rotate_token(made, std::nullopt);
  EXPECT_FALSE(made.old);
}

TEST(Tokens, AnEmptyFileIsNoTokensAndNoError) {
  auto const parsed = parse_tokens("# only a remark\n\n");

  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->empty());
}

TEST(TokenStore, IsOffUntilTokensAreSetAndOnEvenWithNone) {
  TokenStore store;
  EXPECT_FALSE(store.is_on());

  store.set({});

  EXPECT_TRUE(store.is_on());
}

TEST(TokenStore, FindsATokenByItsIdAndItsSecretOnly) {
  TokenRecord made = record("one");
  std::string const token = make_token(made);
  TokenRecord other = record("two");
  std::string const foreign = make_token(other);
  TokenStore store;
  store.set({made});

  ASSERT_NE(store.find(*split_token(token)), nullptr);
  EXPECT_EQ(store.find(*split_token(token))->record.name, "one");
  EXPECT_EQ(store.find(*split_token(foreign)), nullptr);
  EXPECT_EQ(store.find({.id = split_token(token)->id, .secret = split_token(foreign)->secret}), nullptr);
}

TEST(TokenStore, RemembersOverAReloadWhenATokenWasUsedAndForgetsARevokedOne) {
  TokenRecord kept = record("kept");
  TokenRecord gone = record("gone");
  std::string const first = make_token(kept);
  std::string const second = make_token(gone);
  TokenStore store;
  store.set({kept, gone});
  auto const before = store.generation();
  store.find(*split_token(first))->last_used_ms = 7;

  store.set({kept});

  EXPECT_NE(store.generation(), before);
  EXPECT_EQ(store.find(*split_token(first))->last_used_ms, 7);
  EXPECT_EQ(store.find(*split_token(second)), nullptr);
}

TEST(TokenStore, ARotatedTokenHoldsWithItsSecretBeforeUntilThatIsOver) {
  TokenRecord made = record("one");
  made.expires_at = kNow + std::chrono::days{90};
  std::string const first = make_token(made);
  std::string const second = rotate_token(made, kNow);
  TokenStore store;
  store.set({made});

  TokenPtr const now = store.find(*split_token(second));
  TokenPtr const before = store.find(*split_token(first));

  ASSERT_TRUE(now && before);
  EXPECT_FALSE(now->is_over(kNow));
  EXPECT_FALSE(before->is_over(kNow - Duration{1}));
  EXPECT_TRUE(before->is_over(kNow));
  EXPECT_EQ(now->client, before->client);
  EXPECT_EQ(store.list(), std::vector{now});
  rotate_token(made, kNow + std::chrono::hours{1});
  store.set({made});
  EXPECT_EQ(store.find(*split_token(first)), nullptr);
}

TEST(TokenStore, TheSecretBeforeEndsWithItsTokenAtTheLatest) {
  TokenRecord made = record("one");
  made.expires_at = kNow;
  std::string const first = make_token(made);
  rotate_token(made, kNow + std::chrono::days{1});
  TokenStore store;
  store.set({made});

  EXPECT_TRUE(store.find(*split_token(first))->is_over(kNow));
}

TEST(TokenStore, KnowsOfEachSecretOfARotatedTokenWhenItWasUsed) {
  TokenRecord made = record("one");
  std::string const first = make_token(made);
  TokenStore store;
  store.set({made});
  store.find(*split_token(first))->last_used_ms = 5;
  std::string const second = rotate_token(made, kNow);
  store.set({made});
  ASSERT_TRUE(store.list().at(0)->old);

  EXPECT_EQ(store.list().at(0)->last_used_ms, 0);
  EXPECT_EQ(store.list().at(0)->last_used(), instant_from_ms(5));
  EXPECT_EQ(store.list().at(0)->old->last_used(), instant_from_ms(5));
  store.find(*split_token(second))->last_used_ms = 9;
  EXPECT_EQ(store.list().at(0)->last_used(), instant_from_ms(9));
  EXPECT_EQ(store.list().at(0)->old->last_used(), instant_from_ms(5));
  made.old.reset();
  store.set({made});
  EXPECT_EQ(store.list().at(0)->last_used(), instant_from_ms(9));
}

TEST(TokenStore, TakesOverWhatAnEarlierServerKnewOfUses) {
  TokenRecord used = record("used");
  TokenRecord unused = record("unused");
  make_token(used);
  make_token(unused);
  TokenStore before;
  before.set({used, unused});
  before.list().at(1)->last_used_ms = to_ms(kNow);
  rotate_token(used, kNow + std::chrono::hours{1});  // While no server runs.

  TokenStore after;
  after.set({used, unused}, parse_token_uses(format_token_uses(before.uses())));

  EXPECT_EQ(after.list().at(0)->last_used(), std::nullopt);
  EXPECT_EQ(after.list().at(1)->last_used(), kNow);
  EXPECT_EQ(after.list().at(1)->old->last_used(), kNow);
  EXPECT_EQ(after.list().at(1)->last_used_ms, 0);
  EXPECT_EQ(format_token_uses(after.uses()), format_token_uses(before.uses()));
}

// Else a secret that nobody has shown would be listed as one that is in use.
TEST(TokenStore, AUseOfASecretThatIsGoneIsTheTokensAndNoOtherSecrets) {
  TokenRecord made = record("one");
  make_token(made);
  TokenStore before;
  before.set({made});
  before.list().at(0)->last_used_ms = to_ms(kNow);
  auto const uses = before.uses();
  rotate_token(made, kNow);
  made.old.reset();  // As without a grace.

  TokenStore after;
  after.set({made}, uses);
  EXPECT_EQ(after.list().at(0)->last_used(), kNow);
  EXPECT_EQ(format_token_uses(after.uses()), format_token_uses(uses));
  rotate_token(made, kNow + std::chrono::hours{1});
  after.set({made});

  EXPECT_EQ(after.list().at(0)->last_used(), kNow);
  EXPECT_EQ(after.list().at(0)->old->last_used(), std::nullopt);
}

TEST(TokenUses, OfADamagedFileTheLinesThatAreGoodAreRead) {
  std::vector<TokenUse> const uses{{.id = "0123456789ab", .salt = {1, 2}, .at = kNow},
                                   {.id = "ba9876543210", .salt = {3}, .at = kNow + Duration{1}}};
  std::string const file = format_token_uses(uses);

  auto const cut = parse_token_uses(file.substr(0, file.size() - 5));

  ASSERT_EQ(cut.size(), 1U);
  EXPECT_EQ(cut[0].id, uses[0].id);
  EXPECT_EQ(cut[0].salt, uses[0].salt);
  EXPECT_EQ(cut[0].at, kNow);
  EXPECT_EQ(parse_token_uses(file).size(), 2U);
  EXPECT_TRUE(parse_token_uses("").empty());
}

TEST(TokenStore, ATokenIsOverAtItsTime) {
  Token token;
  EXPECT_FALSE(token.is_over(kInstantMax));

  token.record.expires_at = kNow;

  EXPECT_FALSE(token.is_over(kNow - Duration{1}));
  EXPECT_TRUE(token.is_over(kNow));
}

}  // namespace
}  // namespace workmill::service
