#include "log/file/small_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

class SmallFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "small-file-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = (folder_ / "file").string();
  }
  void TearDown() override { fs::remove_all(folder_); }

  static constexpr std::size_t kMax = 100;

  fs::path folder_;
  std::string path_;
};

TEST_F(SmallFileTest, IsNothingWhereItIsNot) {
  auto const read = read_small_file(path_, kMax);

  ASSERT_TRUE(read);
  EXPECT_FALSE(*read);
}

TEST_F(SmallFileTest, IsMadeAndReplacedWithItsPermissionsAndNothingIsLeftBesideIt) {
  auto const made = change_small_file(path_, 0600, kMax, [](auto const& before) -> Result<std::string> {
    EXPECT_FALSE(before);
    return std::string{"one"};
  });
  ASSERT_TRUE(made) << describe(made.error());
  ::chmod(path_.c_str(), 0644);

  auto const changed = change_small_file(
      path_, 0600, kMax, [](auto const& before) -> Result<std::string> { return before.value_or("?") + " two"; });

  ASSERT_TRUE(changed) << describe(changed.error());
  auto const read = read_small_file(path_, kMax);
  ASSERT_TRUE(read && *read);
  EXPECT_EQ((*read)->bytes, "one two");
  EXPECT_EQ((*read)->mode, 0600U);
  EXPECT_EQ(std::distance(fs::directory_iterator{folder_}, fs::directory_iterator{}), 1);
}

TEST_F(SmallFileTest, IsReplacedAlsoWhileSomebodyElseHoldsTheFolder) {
  std::ofstream{path_} << "old";
  int const folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(::flock(folder, LOCK_EX), 0);

  auto const replaced = replace_small_file(path_, 0600, "new");

  ::close(folder);
  ASSERT_TRUE(replaced) << describe(replaced.error());
  auto const read = read_small_file(path_, kMax);
  ASSERT_TRUE(read && *read);
  EXPECT_EQ((*read)->bytes, "new");
  EXPECT_EQ((*read)->mode, 0600U);
  EXPECT_EQ(std::distance(fs::directory_iterator{folder_}, fs::directory_iterator{}), 1);
}

TEST_F(SmallFileTest, StaysAsItWasWhereTheChangeFails) {
  std::ofstream{path_} << "old";

  auto const changed = change_small_file(
      path_, 0600, kMax, [](auto const&) -> Result<std::string> { return fail(ErrorCode::invalid_field, "no"); });

  ASSERT_FALSE(changed);
  EXPECT_EQ((*read_small_file(path_, kMax))->bytes, "old");
}

TEST_F(SmallFileTest, IsRefusedWhereItIsTooLargeOrNoFile) {
  std::ofstream{path_} << std::string(kMax + 1, 'x');
  EXPECT_FALSE(read_small_file(path_, kMax));
  EXPECT_FALSE(read_small_file(folder_.string(), kMax));
  std::string const pipe = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_FALSE(read_small_file(pipe, kMax));
}

}  // namespace
}  // namespace workmill::log
