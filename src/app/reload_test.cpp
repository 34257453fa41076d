#include "app/reload.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "shard/system_clock.h"

namespace workmill::app {
namespace {

class ReloadTest : public testing::Test {
 protected:
  ReloadTest() {
    reload.on_change({"log_level"}, [this](Config const& config) { levels.push_back(config.log_level); });
  }

  bool was_said(std::string_view text) const { return said.find(text) != std::string::npos; }

  Config file;  // What is read next.
  std::string said;
  std::vector<telemetry::LogLevels> levels;
  shard::SystemClock clock;
  telemetry::Logger logger{clock,
                           {.format = telemetry::LogFormat::text, .delivery = telemetry::LogDelivery::immediate},
                           [this](std::string_view line) { said.append(line).push_back('\n'); }};
  Reload reload{Config{}, [this]() -> Result<Config> { return file; }, logger};
};

TEST_F(ReloadTest, KnowsUntilTheNextOneThatItWasRefused) {
  bool is_bad = false;
  reload.on_reload("tokens", {}, [&](Config const&) -> Result<Reload::Prepared> {
    if (is_bad) return fail(ErrorCode::bad_configuration, "it is a photograph");
    return Reload::Prepared{.commit = [] {}};
  });
  EXPECT_FALSE(reload.was_refused());
  is_bad = true;
  reload.run();
  EXPECT_TRUE(reload.was_refused());

  is_bad = false;
  reload.run();

  EXPECT_FALSE(reload.was_refused());
}

TEST_F(ReloadTest, ChangesNothingWhereNothingDiffers) {
  reload.run();

  EXPECT_TRUE(levels.empty());
  EXPECT_TRUE(was_said("reloaded changed=\"\" needs_restart=\"\"")) << said;
}

TEST_F(ReloadTest, AppliesWhatCanChangeAndNamesWhatNeedsARestart) {
  file.log_level = telemetry::LogLevel::debug;
  file.listen = "127.0.0.1:1";

  reload.run();

  EXPECT_EQ(levels, std::vector{telemetry::LogLevels{telemetry::LogLevel::debug}});
  EXPECT_TRUE(was_said("reloaded changed=log_level needs_restart=listen")) << said;
  EXPECT_TRUE(was_said("setting=log_level before=info after=debug")) << said;
  EXPECT_EQ(reload.running().log_level, telemetry::LogLevel::debug);
  EXPECT_EQ(reload.running().listen, Config{}.listen);
}

TEST_F(ReloadTest, SaysAgainWhatStillWaitsForARestart) {
  file.listen = "127.0.0.1:1";
  reload.run();
  said.clear();

  reload.run();

  EXPECT_TRUE(was_said("needs_restart=listen")) << said;
}

TEST_F(ReloadTest, ChangesNothingWhereOnePartRefuses) {
  bool committed = false;
  reload.on_reload("the first", {}, [&](Config const&) -> Result<Reload::Prepared> {
    return Reload::Prepared{.commit = [&] { committed = true; }};
  });
  reload.on_reload("the certificate", {}, [](Config const&) -> Result<Reload::Prepared> {
    return fail(ErrorCode::bad_configuration, "it is a photograph");
  });
  file.log_level = telemetry::LogLevel::debug;

  reload.run();

  EXPECT_FALSE(committed);
  EXPECT_TRUE(levels.empty());
  EXPECT_EQ(reload.running().log_level, telemetry::LogLevel::info);
  EXPECT_TRUE(was_said("not reloaded") && was_said("the certificate") && was_said("it is a photograph")) << said;
}

TEST_F(ReloadTest, LetsAPartReadItsFilesAgainThoughNoSettingDiffers) {
  int commits = 0;
  reload.on_reload("tokens", {}, [&](Config const&) -> Result<Reload::Prepared> {
    return Reload::Prepared{.commit = [&] { ++commits; }};
  });

  reload.run();
  reload.run();

  EXPECT_EQ(commits, 2);
}

TEST_F(ReloadTest, NamesAPartWhoseFilesSayAnotherThingThanBefore) {
  std::string changes = "+new -old";
  reload.on_reload("tokens", {}, [&](Config const&) -> Result<Reload::Prepared> {
    return Reload::Prepared{.commit = [] {},
                            .changes = changes,
                            .tell = [](telemetry::Logger& log) { log.warn("the tokens are other ones"); }};
  });
  file.log_level = telemetry::LogLevel::debug;

  reload.run();

  EXPECT_TRUE(was_said("the tokens are other ones")) << said;
  EXPECT_TRUE(was_said("reloaded changed=log_level,tokens needs_restart")) << said;
  EXPECT_TRUE(
      was_said("audit: admin action who=SIGHUP action=reload "
               "changes=\"log_level=debug tokens(+new -old)\" result=done"))
      << said;

  said.clear();
  changes.clear();
  reload.run();

  EXPECT_FALSE(was_said("the tokens are other ones")) << said;
  EXPECT_TRUE(was_said("reloaded changed=\"\"")) << said;
}

TEST_F(ReloadTest, AuditsWhatItRefuses) {
  reload.on_reload("tokens", {}, [](Config const&) -> Result<Reload::Prepared> {
    return fail(ErrorCode::bad_configuration, "it is a photograph");
  });

  reload.run();

  EXPECT_TRUE(was_said("admin action who=SIGHUP action=reload result=bad_configuration")) << said;
}

TEST_F(ReloadTest, RefusesWhatIsRightOnlyAfterARestart) {
  reload.on_change({"tls_certificate"}, [](Config const&) { FAIL(); });
  file.tls_certificate = "server.crt";
  file.tls_key = "server.key";

  reload.run();  // The file has both, but the running server would have the certificate without its key.

  EXPECT_TRUE(was_said("not reloaded") && was_said("until the settings that need a restart change")) << said;
}

TEST_F(ReloadTest, IsHeardWhereTheLogFallsSilentByIt) {
  reload.on_change({"log_level"}, [this](Config const& config) { logger.set_levels(config.log_level); });
  file.log_level = telemetry::LogLevel::error;
  reload.run();
  EXPECT_TRUE(was_said("changed=log_level")) << said;

  said.clear();
  file.log_level = telemetry::LogLevel::info;
  reload.run();
  EXPECT_TRUE(was_said("changed=log_level")) << said;
}

}  // namespace
}  // namespace workmill::app
