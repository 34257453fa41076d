#include "app/worker/checkpoint_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "model/job.h"

namespace workmill::app {
namespace {

class CheckpointFileTest : public ::testing::Test {
 protected:
  CheckpointFile file(std::string_view left) {
    auto made = CheckpointFile::make(*folder_, "lease", left);
    EXPECT_TRUE(made) << describe(made.error());
    return std::move(*made);
  }
  static void write(CheckpointFile const& file, std::string_view bytes) {
    std::ofstream{file.path(), std::ios::trunc} << bytes;
  }
  Result<CheckpointFolder> folder_ = CheckpointFolder::make();
};

TEST_F(CheckpointFileTest, ACommandFindsWhatWasLeftAndNothingWhereNothingWas) {
  {
    CheckpointFile const first = file("");
    EXPECT_FALSE(std::filesystem::exists(first.path()));
  }
  CheckpointFile const second = file(R"({"row": 7})");

  std::string found;
  std::getline(std::ifstream{second.path()}, found);
  EXPECT_EQ(found, R"({"row": 7})");
}

TEST_F(CheckpointFileTest, WhatWasLeftIsNotNewAndWhatIsWrittenIsNewOnce) {
  CheckpointFile checkpoint = file("1");
  EXPECT_FALSE(checkpoint.take_new());

  write(checkpoint, " {\"row\": 8}\n");

  EXPECT_EQ(checkpoint.take_new(), R"({"row": 8})");
  EXPECT_FALSE(checkpoint.take_new());
  write(checkpoint, "1");
  EXPECT_EQ(checkpoint.take_new(), "1");
}

TEST_F(CheckpointFileTest, WhatIsHalfWrittenOrNoneOrTooLargeIsPassedOver) {
  CheckpointFile checkpoint = file("");
  EXPECT_FALSE(checkpoint.take_new());
  write(checkpoint, "");
  EXPECT_FALSE(checkpoint.take_new());
  write(checkpoint, R"({"row": )");
  EXPECT_FALSE(checkpoint.take_new());
  write(checkpoint, '"' + std::string(kCheckpointBytesMax, 'x') + '"');
  EXPECT_FALSE(checkpoint.take_new());
  std::filesystem::remove(checkpoint.path());
  ASSERT_EQ(mkfifo(checkpoint.path().c_str(), 0600), 0);
  EXPECT_FALSE(checkpoint.take_new());
}

TEST_F(CheckpointFileTest, NothingIsLeftBehind) {
  std::string path;
  {
    auto const folder = CheckpointFolder::make();
    ASSERT_TRUE(folder);
    path = folder->path();
    auto const checkpoint = CheckpointFile::make(*folder, "lease", "1");
    ASSERT_TRUE(checkpoint);
    EXPECT_TRUE(std::filesystem::exists(checkpoint->path()));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace workmill::app
