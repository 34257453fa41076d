#include "app/token_uses.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "app/tokens_file.h"
#include "shard/system_clock.h"

namespace workmill::app {
namespace {

constexpr Instant kUsedAt = instant_from_ms(1'795'334'400'000);
constexpr Duration kNever = std::chrono::hours{1};

class TokenUsesTest : public testing::Test {
 protected:
  TokenUsesTest() {
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    service::make_token(record_);
  }
  ~TokenUsesTest() override { std::filesystem::remove_all(folder_); }

  void use(Instant at) { store_.list().at(0)->last_used_ms = to_ms(at); }
  std::optional<Instant> written() const {
    auto const uses = read_token_uses(folder_);
    if (!uses || uses->empty()) return std::nullopt;
    return uses->front().at;
  }
  bool becomes_written(Instant at) const {
    for (int look = 0; look < 60'000; ++look) {
      if (written() == at) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return false;
  }

  std::string folder_ = testing::TempDir() + "token-uses-XXXXXX";
  service::TokenRecord record_{.id = {}, .name = "ci", .scopes = {service::Scope::read}};
  shard::SystemClock clock_;
  std::vector<std::string> lines_;
  telemetry::Logger logger_{clock_,
                            {.format = telemetry::LogFormat::text, .delivery = telemetry::LogDelivery::immediate},
                            [this](std::string_view line) { lines_.emplace_back(line); }};
  service::TokenStore store_;
};

TEST_F(TokenUsesTest, AreThereForTheNextServerAtTheEnd) {
  store_.set({record_});
  TokenUses uses{folder_, store_, logger_, kNever};
  uses.begin();
  use(kUsedAt);
  uses.finish();

  EXPECT_EQ(written(), kUsedAt);
  EXPECT_EQ(std::filesystem::status(token_uses_path(folder_)).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(TokenUsesTest, AreWrittenWhileTheServerRuns) {
  store_.set({record_});
  use(kUsedAt);
  TokenUses uses{folder_, store_, logger_, Duration{1}};
  uses.begin();

  EXPECT_TRUE(becomes_written(kUsedAt));
  use(kUsedAt + Duration{1});
  EXPECT_TRUE(becomes_written(kUsedAt + Duration{1}));
}

TEST_F(TokenUsesTest, WithoutTokensThereIsNoFile) {
  TokenUses uses{folder_, store_, logger_, Duration{1}};
  uses.begin();
  uses.finish();

  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(TokenUsesTest, BeginsOnceThereAreTokens) {
  TokenUses uses{folder_, store_, logger_, Duration{1}};
  uses.begin();
  store_.set({record_});
  use(kUsedAt);
  uses.begin();

  EXPECT_TRUE(becomes_written(kUsedAt));
}

TEST_F(TokenUsesTest, ThatCannotBeWrittenAreWarnedOfOnce) {
  store_.set({record_});
  TokenUses uses{folder_ + "/gone", store_, logger_, kNever};
  use(kUsedAt);
  uses.finish();
  use(kUsedAt + Duration{1});
  uses.finish();

  EXPECT_EQ(lines_.size(), 1U);
}

}  // namespace
}  // namespace workmill::app
