#include "app/config.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace workmill::app {
namespace {

class ConfigFile : public testing::Test {
 protected:
  std::string write(std::string const& text) {
    std::string const path = testing::TempDir() + "workmill_config_test.toml";
    std::ofstream(path) << text;
    return path;
  }
  void TearDown() override { std::remove((testing::TempDir() + "workmill_config_test.toml").c_str()); }
};

TEST_F(ConfigFile, OverridesWhatItNamesAndNothingElse) {
  Config config;

  ASSERT_TRUE(read_config(write("listen = \"127.0.0.1:9\"\nsegment_size = \"8MiB\"\nio_threads = 3\n"), config));

  EXPECT_EQ(config.listen, "127.0.0.1:9");
  EXPECT_EQ(config.segment_bytes, 8u << 20);
  EXPECT_EQ(config.io_threads, 3u);
  EXPECT_EQ(config.data, Config{}.data);
}

TEST_F(ConfigFile, RefusesASettingThatDoesNotExistByNameAndLine) {
  Config config;

  auto const read = read_config(write("data = \"x\"\nlisten_on = \"y\"\n"), config);

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::bad_configuration);
  EXPECT_NE(read.error().message.find(":2: there is no setting 'listen_on'"), std::string::npos)
      << read.error().message;
}

TEST_F(ConfigFile, RefusesValuesOfTheWrongKind) {
  for (char const* text : {"io_threads = \"two\"", "io_threads = -1", "data = 7", "insecure = \"yes\"",
                           "durability = \"maybe\"", "idle_timeout = 5", "segment_size = \"8 parsecs\"", "data = "}) {
    Config config;
    EXPECT_FALSE(read_config(write(text), config)) << text;
  }
}

TEST_F(ConfigFile, RefusesBytesThatAreNoText) {
  for (char const* text : {"data = 'caf\xe9'", "data = \"caf\xe9\"", "# caf\xe9\n", "data = '''\xa6\xa6'''"}) {
    Config config;

    auto const read = read_config(write(text), config);

    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().message.find("UTF-8"), std::string::npos) << read.error().message;
  }
}

TEST_F(ConfigFile, ShowsNoLineThatItCannotRead) {
  Config config;

  auto const read = read_config(write("data = \"x\"\notlp_headers = \"authorization=hush\n"), config);

  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message.find("hush"), std::string::npos) << read.error().message;
  EXPECT_NE(read.error().message.find("line 2"), std::string::npos) << read.error().message;
}

TEST_F(ConfigFile, ThatIsNotThereIsSaidSo) {
  Config config;

  auto const read = read_config("/nowhere/workmill.toml", config);

  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("/nowhere/workmill.toml"), std::string::npos);
}

TEST_F(ConfigFile, SaysWhereASettingStandsThatIsOutOfRange) {
  Config config;
  SettingLines lines;
  ASSERT_TRUE(read_config(write("data = \"x\"\n\nidle_timeout = \"2d\"\n"), config, &lines));
  auto checked = check_config(config);
  ASSERT_FALSE(checked);

  EXPECT_EQ(with_place(checked.error(), "w.toml", lines).message, "w.toml:3: idle_timeout: 1s to 1d");

  lines.erase("idle_timeout");
  EXPECT_EQ(with_place(checked.error(), "w.toml", lines).message, "idle_timeout: 1s to 1d");
}

TEST(Config, ListensBeyondLoopbackOnlyWithTokensOrWhenToldThatItIsInsecure) {
  Config config;
  config.listen = "0.0.0.0:7330";
  EXPECT_FALSE(check_exposure(config, CallersAre::unknown));
  EXPECT_TRUE(check_exposure(config, CallersAre::asked_for_tokens));

  config.insecure = true;
  EXPECT_TRUE(check_exposure(config, CallersAre::unknown));

  config.insecure = false;
  for (char const* loopback : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:0"}) {
    config.listen = loopback;
    EXPECT_TRUE(check_exposure(config, CallersAre::unknown)) << loopback;
  }
}

TEST_F(ConfigFile, BoundsWhatConnectionsMayHold) {
  Config config;

  ASSERT_TRUE(read_config(write("pipelined_max = 7\nbuffered_size_max = \"32MiB\"\n"), config));

  EXPECT_EQ(config.pipelined_max, 7u);
  EXPECT_EQ(config.buffered_bytes_max, 32u << 20);
  EXPECT_TRUE(check_config(config));
  config.pipelined_max = 0;
  EXPECT_FALSE(check_config(config));
  config.pipelined_max = 1;
  config.buffered_bytes_max = 1 << 20;
  EXPECT_FALSE(check_config(config));
}

TEST_F(ConfigFile, BoundsTheKeysThatAreRemembered) {
  Config config;

  ASSERT_TRUE(read_config(write("idempotency_keys_max = 5000000\n"), config));

  EXPECT_EQ(config.idempotency_keys_max, 5'000'000u);
  EXPECT_TRUE(check_config(config));
  for (std::uint32_t const wrong : {0u, 100'000'001u}) {
    config.idempotency_keys_max = wrong;
    EXPECT_FALSE(check_config(config)) << wrong;
  }
}

TEST_F(ConfigFile, BoundsTheBatchesThatAreKeptAndForHowLong) {
  Config config;

  ASSERT_TRUE(read_config(write("batches_max = 5000\nbatch_keep = \"0s\"\n"), config));

  EXPECT_EQ(config.batches_max, 5'000u);
  EXPECT_EQ(config.batch_keep, Duration{0});
  EXPECT_TRUE(check_config(config));
  for (std::uint32_t const wrong : {0u, 10'000'001u}) {
    config.batches_max = wrong;
    EXPECT_FALSE(check_config(config)) << wrong;
  }
  config.batches_max = 1;
  config.batch_keep = std::chrono::days{366};
  EXPECT_FALSE(check_config(config));
}

TEST_F(ConfigFile, PingsIdleStreamsAtLeastEachHourOrNever) {
  Config config;
  for (char const* const allowed : {"0s", "1s", "1h"}) {
    ASSERT_TRUE(read_config(write(std::string{"stream_idle_ping = \""} + allowed + "\"\n"), config));
    EXPECT_TRUE(check_config(config)) << allowed;
  }
  for (char const* const refused : {"500ms", "61m"}) {
    ASSERT_TRUE(read_config(write(std::string{"stream_idle_ping = \""} + refused + "\"\n"), config));
    EXPECT_FALSE(check_config(config)) << refused;
  }
}

TEST(Config, RefusesAnAddressThatIsNone) {
  Config config;
  config.listen = "example.org";

  EXPECT_FALSE(check_config(config));
}

TEST(Config, ReadsSizesWithUnits) {
  EXPECT_EQ(parse_bytes("1024").value(), 1024u);
  EXPECT_EQ(parse_bytes("64MiB").value(), 64u << 20);
  EXPECT_EQ(parse_bytes("8 MB").value(), 8'000'000u);
  for (char const* text : {"", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB"})
    EXPECT_FALSE(parse_bytes(text)) << text;
}

TEST(ConfigChanges, NamesEachSettingThatDiffersWithBothValues) {
  Config const before;
  Config after;
  after.connections_max = 7;
  after.idle_timeout = std::chrono::seconds{90};

  auto const found = changes(before, after);

  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].setting, "connections_max");
  EXPECT_EQ(found[0].before, "20000");
  EXPECT_EQ(found[0].after, "7");
  EXPECT_EQ(found[1].setting, "idle_timeout");
  EXPECT_EQ(found[1].after, "1m30s");
  EXPECT_TRUE(changes(after, after).empty());
}

TEST(ConfigChanges, SayOfASecretOnlyWhetherItIsSet) {
  Config const none;
  Config one;
  one.otlp_headers = "authorization=one";
  Config other;
  other.otlp_headers = "authorization=other";

  auto const found = changes(one, other);

  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].before, "(secret)");
  EXPECT_EQ(found[0].after, "(secret)");
  ASSERT_EQ(changes(none, one).size(), 1u);
  EXPECT_EQ(changes(none, one)[0].before, "");
  EXPECT_TRUE(changes(one, one).empty());
}

TEST(ConfigChanges, CopiesOneSettingAlone) {
  Config from;
  from.connections_max = 7;
  from.pipelined_max = 8;
  Config to;

  copy_setting("connections_max", from, to);

  EXPECT_EQ(to.connections_max, 7u);
  EXPECT_EQ(to.pipelined_max, Config{}.pipelined_max);
}

}  // namespace
}  // namespace workmill::app
