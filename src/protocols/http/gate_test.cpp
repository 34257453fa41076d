#include "protocols/http/gate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "protocols/http/bearer.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace workmill::http {
namespace {

using service::Scope;
using service::Scopes;
using service::TokenRecord;

constexpr Instant kNow = instant_from_ms(1'795'334'400'000);

class NoClock final : public Clock {
 public:
  Instant now() const override { return kNow; }
  std::chrono::nanoseconds monotonic() const override { return {}; }
};

class GateTest : public testing::Test {
 protected:
  // A token with these scopes; the header that shows it.
  std::string add(Scopes scopes, Allowed allowed = {}, std::optional<Instant> expires_at = {}) {
    TokenRecord record;
    record.name = "token-" + std::to_string(records_.size());
    record.scopes = scopes;
    record.allowed = std::move(allowed);
    record.expires_at = expires_at;
    std::string header = "Bearer " + make_token(record);
    records_.push_back(std::move(record));
    tokens_.set(records_);
    return header;
  }
  // An hour between two of them, so that nobody is locked out who does not want to be.
  Gate::Moment at(Instant now) { return {.now = now, .monotonic = monotonic_ += std::chrono::hours{1}}; }
  ErrorCode refused(std::string_view header, Access access, Instant now = kNow) {
    auto const admitted = gate_.admit({.header = header}, access, at(now), caller_);
    if (admitted) {
      ADD_FAILURE() << "let in: " << header;
      return ErrorCode::internal;
    }
    return admitted.error().code;
  }
  bool let_in(std::string_view header, Access access, Instant now = kNow) {
    return gate_.admit({.header = header}, access, at(now), caller_).has_value();
  }

  std::chrono::nanoseconds monotonic_{};
  service::TokenStore tokens_;
  std::vector<TokenRecord> records_;
  NoClock const clock_;
  telemetry::Logger logger_{clock_,
                            {.level = telemetry::LogLevel::debug, .delivery = telemetry::LogDelivery::immediate},
                            [this](std::string_view line) { log_lines_.emplace_back(line); }};
  telemetry::Metrics metrics_;
  Gate gate_{tokens_, metrics_, logger_};
  Caller caller_{ClientKey{7}, boost::asio::ip::make_address("192.0.2.1")};
  std::vector<std::string> log_lines_;
};

TEST_F(GateTest, LetsEverybodyInWhereThereAreNoTokens) {
  EXPECT_TRUE(let_in("", Access::server_admin));
  EXPECT_TRUE(let_in("Bearer nonsense", Access::enqueue));
  EXPECT_EQ(caller_.token(), nullptr);
}

TEST_F(GateTest, LetsNobodyInOnceTheLastTokenIsGone) {
  tokens_.set({});

  EXPECT_EQ(refused("", Access::read), ErrorCode::unauthorized);
}

TEST_F(GateTest, AsksForNoTokenWhereTheRouteIsOpen) {
  add({Scope::read});

  EXPECT_TRUE(let_in("", Access::open));
  EXPECT_TRUE(let_in("Bearer nonsense", Access::open));
}

TEST_F(GateTest, TellsStrangersNothingOfPathsThatThereAreNot) {
  std::string const good = add({Scope::read});

  EXPECT_FALSE(gate_.admit({.header = ""}, std::nullopt, at(kNow), caller_));
  EXPECT_TRUE(gate_.admit({.header = good}, std::nullopt, at(kNow), caller_));
}

TEST_F(GateTest, RefusesWhatIsNoTokenOfOurs) {
  std::string const good = add({Scope::read});
  std::string wrong = good;
  wrong.back() = wrong.back() == '0' ? '1' : '0';

  for (std::string const& header :
       {std::string{}, std::string{"Bearer"}, std::string{"Bearer "}, wrong, "Basic " + good.substr(7), good.substr(7),
        good + " ", good + "0", "Bearer " + good, std::string(5'000, 'B')}) {
    EXPECT_EQ(refused(header, Access::read), ErrorCode::unauthorized) << header;
  }
  EXPECT_TRUE(let_in(good, Access::read));
}

TEST_F(GateTest, EachScopeOpensItsOwnRoutesAndNoOthers) {
  std::vector<std::pair<Scope, std::vector<Access>>> const opens{
      {Scope::enqueue, {Access::enqueue, Access::cache_enqueue}},
      {Scope::work, {Access::work}},
      {Scope::read, {Access::read, Access::cache_read, Access::server_read}},
      {Scope::admin, {Access::admin, Access::server_admin}},
  };
  for (auto const& [scope, mine] : opens) {
    std::string const header = add({scope});
    for (Access const access : {Access::enqueue, Access::work, Access::read, Access::admin, Access::cache_read,
                                Access::cache_enqueue, Access::server_read, Access::server_admin}) {
      bool const is_mine = std::find(mine.begin(), mine.end(), access) != mine.end();
      EXPECT_EQ(let_in(header, access), is_mine) << to_string(scope) << " at " << to_string(access);
      if (!is_mine) {
        EXPECT_EQ(refused(header, access), ErrorCode::forbidden);
      }
    }
  }
}

TEST_F(GateTest, ATokenForSomeQueuesSeesNoFiguresOfTheWholeServer) {
  std::string const header = add({Scope::enqueue, Scope::read, Scope::admin},
                                 {.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"a"})});

  EXPECT_TRUE(let_in(header, Access::read));
  EXPECT_EQ(refused(header, Access::server_read), ErrorCode::forbidden);
  EXPECT_EQ(refused(header, Access::server_admin), ErrorCode::forbidden);
  EXPECT_TRUE(let_in(header, Access::enqueue));
  EXPECT_EQ(refused(header, Access::cache_enqueue), ErrorCode::forbidden);
  EXPECT_EQ(refused(header, Access::cache_read), ErrorCode::forbidden);
  ASSERT_NE(caller_.allowed().queues, nullptr);
  EXPECT_TRUE(caller_.allowed().queues->contains("a"));
}

TEST_F(GateTest, ATokenForSomeQueuesAndKeysIsLetInToTheCacheAndStillNotToTheWholeServer) {
  std::string const header =
      add({Scope::enqueue, Scope::read}, {.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"a"}),
                                          .keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"k:"})});

  EXPECT_TRUE(let_in(header, Access::cache_read));
  EXPECT_TRUE(let_in(header, Access::cache_enqueue));
  EXPECT_EQ(refused(header, Access::server_read), ErrorCode::forbidden);
}

TEST_F(GateTest, ATokenIsOverAtItsTimeAlsoOnAConnectionThatHasShownIt) {
  std::string const header = add({Scope::read}, {}, kNow + Duration{10});

  EXPECT_TRUE(let_in(header, Access::read, kNow + Duration{9}));
  EXPECT_EQ(refused(header, Access::read, kNow + Duration{10}), ErrorCode::unauthorized);
}

TEST_F(GateTest, TheSecretBeforeARotationIsOverAtItsTimeAlsoOnAConnectionThatHasShownIt) {
  std::string const before = add({Scope::read});
  EXPECT_TRUE(let_in(before, Access::read));
  std::string const after = "Bearer " + rotate_token(records_[0], kNow + Duration{10});
  tokens_.set(records_);

  EXPECT_TRUE(let_in(before, Access::read, kNow + Duration{9}));
  EXPECT_TRUE(let_in(after, Access::read, kNow + Duration{9}));
  EXPECT_TRUE(let_in(before, Access::read, kNow + Duration{9}));
  EXPECT_EQ(refused(before, Access::read, kNow + Duration{10}), ErrorCode::unauthorized);
  EXPECT_TRUE(let_in(after, Access::read, kNow + Duration{10}));
}

TEST_F(GateTest, ARevokedTokenIsRefusedAtTheNextRequestOfAConnectionThatHasShownIt) {
  std::string const header = add({Scope::read});
  EXPECT_TRUE(let_in(header, Access::read));

  tokens_.set({});

  EXPECT_EQ(refused(header, Access::read), ErrorCode::unauthorized);
}

TEST_F(GateTest, AConnectionMayChangeItsToken) {
  std::string const one = add({Scope::read});
  std::string const two = add({Scope::work});

  EXPECT_TRUE(let_in(one, Access::read));
  EXPECT_EQ(refused(two, Access::read), ErrorCode::forbidden);
  EXPECT_TRUE(let_in(two, Access::work));
  EXPECT_EQ(refused("", Access::work), ErrorCode::unauthorized);
  EXPECT_EQ(caller_.token(), nullptr);
}

TEST_F(GateTest, NotesWhenATokenWasUsedLast) {
  std::string const header = add({Scope::read});

  EXPECT_TRUE(let_in(header, Access::read));

  EXPECT_EQ(tokens_.list().at(0)->last_used_ms, to_ms(kNow));
}

TEST_F(GateTest, LocksOutWhoShowsTokensThatDoNotHoldOneAfterAnotherButNoTokenThatHolds) {
  std::string const good = add({Scope::read});
  std::string wrong = good;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  Gate::Moment const moment = at(kNow);
  for (std::uint32_t i = 0; i < service::Attempts::kFree; ++i) {
    EXPECT_EQ(gate_.admit({.header = wrong}, Access::read, moment, caller_).error().code, ErrorCode::unauthorized);
    EXPECT_EQ(caller_.locked_out(), std::chrono::seconds::zero());
  }

  EXPECT_EQ(gate_.admit({.header = wrong}, Access::read, moment, caller_).error().code, ErrorCode::too_many_attempts);
  EXPECT_GT(caller_.locked_out(), std::chrono::seconds::zero());
  EXPECT_EQ(gate_.admit({.header = "Bearer x"}, Access::read, moment, caller_).error().code,
            ErrorCode::too_many_attempts);

  EXPECT_EQ(gate_.admit({.header = ""}, Access::read, moment, caller_).error().code, ErrorCode::unauthorized);
  EXPECT_TRUE(gate_.admit({.header = good}, Access::read, moment, caller_));
  ASSERT_EQ(log_lines_.size(), 1U);
  EXPECT_NE(log_lines_[0].find("192.0.2.1"), std::string::npos);
}

TEST_F(GateTest, AClientIsItsTokenWhereOneWasShownAndItsAddressElse) {
  std::string const one = add({Scope::read});
  std::string const two = add({Scope::read});

  EXPECT_EQ(caller_.client(), ClientKey{7});
  EXPECT_TRUE(let_in(one, Access::read));
  ClientKey const first = caller_.client();
  EXPECT_TRUE(let_in(two, Access::read));
  EXPECT_NE(first, ClientKey{7});
  EXPECT_NE(caller_.client(), first);
}

TEST_F(GateTest, SaysNothingOfTheTokenInItsRefusals) {
  std::string const good = add({Scope::read});
  std::string wrong = good;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  for (std::string const& header : {good, wrong}) {
    auto const refusal = gate_.admit({.header = header}, Access::admin, at(kNow), caller_);
    ASSERT_FALSE(refusal);
    EXPECT_EQ(describe(refusal.error()).find(header.substr(20, 16)), std::string::npos);
  }
}

TEST_F(GateTest, AnApiKeyIsATokenByItself) {
  std::string const header = add({Scope::read});
  std::string const token = header.substr(std::string_view{"Bearer "}.size());
  auto const shows = [&](std::string_view text, Shown::As as) {
    return gate_.admit({.header = text, .as = as}, Access::read, at(kNow), caller_).has_value();
  };

  EXPECT_TRUE(shows(token, Shown::As::api_key));
  ASSERT_NE(caller_.token(), nullptr);
  EXPECT_EQ(caller_.token()->record.name, "token-0");
  EXPECT_TRUE(gate_.still_holds(Access::read, at(kNow), caller_));
  EXPECT_FALSE(gate_.admit({.header = token, .as = Shown::As::api_key}, Access::admin, at(kNow), caller_));
  // What has counted in one header does not in the other, on the same connection.
  EXPECT_FALSE(shows(token, Shown::As::authorization));
  EXPECT_TRUE(shows(header, Shown::As::authorization));
  EXPECT_FALSE(shows(header, Shown::As::api_key));
  EXPECT_FALSE(shows("", Shown::As::api_key));
  EXPECT_FALSE(shows(token + " ", Shown::As::api_key));
  EXPECT_FALSE(shows(std::string(5'000, 'w'), Shown::As::api_key));
}

TEST_F(GateTest, AnApiKeyThatIsNoMoreIsRefusedAlsoWhereItIsKnownToTheConnection) {
  std::string const token = add({Scope::read}).substr(std::string_view{"Bearer "}.size());
  Shown const key{.header = token, .as = Shown::As::api_key};
  EXPECT_TRUE(gate_.admit(key, Access::read, at(kNow), caller_));

  add({Scope::read});
  EXPECT_TRUE(gate_.still_holds(Access::read, at(kNow), caller_));
  tokens_.set({});

  EXPECT_FALSE(gate_.still_holds(Access::read, at(kNow), caller_));
  EXPECT_FALSE(gate_.admit(key, Access::read, at(kNow), caller_));
}

TEST_F(GateTest, WhoGuessesApiKeysIsLockedOut) {
  std::string wrong = add({Scope::read}).substr(std::string_view{"Bearer "}.size());
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  Gate::Moment const moment = at(kNow);
  Shown const key{.header = wrong, .as = Shown::As::api_key};
  for (std::uint32_t i = 0; i < service::Attempts::kFree; ++i) {
    auto const refusal = gate_.admit(key, Access::read, moment, caller_);
    EXPECT_EQ(refusal.error().code, ErrorCode::unauthorized);
    EXPECT_EQ(describe(refusal.error()).find(wrong.substr(13, 16)), std::string::npos);
  }

  EXPECT_EQ(gate_.admit(key, Access::read, moment, caller_).error().code, ErrorCode::too_many_attempts);
}

TEST(Router, EveryRouteSaysWhatItAsksOfAToken) {
  for (RouteEntry const& entry : routes()) {
    bool const is_health = entry.route == Route::healthz || entry.route == Route::livez || entry.route == Route::readyz;
    EXPECT_EQ(entry.access == Access::open, is_health) << entry.pattern;
    EXPECT_EQ(match(entry.method, entry.pattern)->access, entry.access) << entry.pattern;
  }
}

TEST(Bearer, IsReadInAnyCaseAndWithSeveralSpaces) {
  EXPECT_EQ(parse_bearer("Bearer abc"), "abc");
  EXPECT_EQ(parse_bearer("bEARER   a-b._~+/c=="), "a-b._~+/c==");
  for (std::string_view const bad : {"", "Bearer", "Bearer ", "Bearer\tabc", "Bearerabc", "Basic abc", "Bearer a b",
                                     "Bearer a,b", "Bearer \"a\"", "Bearer \xc3\xa4", "Bearer a\x7f"}) {
    EXPECT_EQ(parse_bearer(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(parse_bearer(std::string_view{"Bearer a\0b", 10}), std::nullopt);
}

}  // namespace
}  // namespace workmill::http
