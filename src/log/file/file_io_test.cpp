#include "log/file/file_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "log/file/fd.h"

namespace workmill::log {
namespace {

constexpr std::size_t kBytes = 300'000;  // Not a whole number of pages, nor of what is read at once.

class FileIo : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = (std::filesystem::temp_directory_path() / "workmill-io-XXXXXX").string();
    file_ = Fd{::mkstemp(path.data())};
    ASSERT_TRUE(file_);
    ::unlink(path.c_str());
    ASSERT_TRUE(write_at(file_.get(), 0, Bytes(kBytes, 'x'), path));
    ASSERT_TRUE(sync_file(file_.get(), path));
  }
  Fd file_;
};

TEST_F(FileIo, WhatWasJustWrittenIsAtHand) {
  EXPECT_TRUE(is_at_hand(file_.get(), 0, kBytes));
  EXPECT_TRUE(is_at_hand(file_.get(), 100, 1));
  EXPECT_TRUE(is_at_hand(file_.get(), kBytes - 10, 1'000)) << "there is nothing to wait for behind its end";
}

TEST_F(FileIo, WhatTheSystemHasForgottenIsNotAtHandUntilItIsReadThrough) {
  ASSERT_EQ(::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  if (is_at_hand(file_.get(), 0, kBytes)) GTEST_SKIP() << "this file system keeps its files in memory";

  read_through(file_.get(), 0, kBytes);

  EXPECT_TRUE(is_at_hand(file_.get(), 0, kBytes));
}

TEST_F(FileIo, WhatCannotBeReadIsSomebodyElsesToTell) {
  EXPECT_TRUE(is_at_hand(-1, 0, kBytes));
  read_through(-1, 0, kBytes);
}

}  // namespace
}  // namespace workmill::log
