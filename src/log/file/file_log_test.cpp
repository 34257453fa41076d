#include "log/file/file_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "log/conformance.h"
#include "log/file/fd.h"
#include "log/frame.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

// In memory where there is room: a power cut cannot be tried here, so ten thousand waits for a disk would prove
// nothing.
fs::path roomy_folder() {
  std::error_code none;
  fs::space_info const space = fs::space("/dev/shm", none);
  return !none && space.available >= (std::uintmax_t{1} << 30) ? fs::path{"/dev/shm"} : fs::temp_directory_path();
}

class FilePlace final : public Place {
 public:
  FilePlace() {
    std::string made = (roomy_folder() / "workmill-log-XXXXXX").string();
    if (::mkdtemp(made.data()) == nullptr) std::abort();
    root_ = made;
  }
  ~FilePlace() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  Result<std::unique_ptr<Log>> open(PlaceOptions const& options) override {
    return open_file_log({.folder = folder().string(),
                          .segment_bytes = options.segment_bytes,
                          .durability = options.durability,
                          .recent_bytes = options.recent_bytes});
  }

  // What lies in the folder at the moment of death is taken aside, and put back once the destructors are through. The
  // log's own thread may be making its next segment meanwhile, under another name at first.
  void kill(std::unique_ptr<Log> log) override {
    fs::create_directory(root_ / "at-death");
    for (auto const& entry : fs::directory_iterator{folder()}) {
      std::error_code vanished;
      fs::copy(entry.path(), root_ / "at-death" / entry.path().filename(), vanished);
    }
    log.reset();
    fs::remove_all(folder());
    fs::rename(root_ / "at-death", folder());
  }

  std::vector<std::uint32_t> ordinals() const override {
    std::vector<std::uint32_t> ordinals;
    for (auto const& entry : fs::directory_iterator{folder()}) {
      std::string const name = entry.path().filename().string();
      if (name.size() == 12 && name.ends_with(".wal")) ordinals.push_back(static_cast<std::uint32_t>(std::stoul(name)));
    }
    std::sort(ordinals.begin(), ordinals.end());
    return ordinals;
  }
  Bytes bytes_of(std::uint32_t ordinal) const override {
    std::ifstream in{path(ordinal), std::ios::binary};
    return Bytes{std::istreambuf_iterator<char>{in}, {}};
  }
  void replace(std::uint32_t ordinal, Bytes const& bytes) override {
    std::ofstream out{path(ordinal), std::ios::binary | std::ios::trunc};
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void remove(std::uint32_t ordinal) override { fs::remove(path(ordinal)); }

  fs::path root() const { return root_; }
  fs::path folder() const { return root_ / "log"; }
  fs::path path(std::uint32_t ordinal) const { return folder() / fmt::format("{:08}.wal", ordinal); }

 private:
  fs::path root_;
};

std::unique_ptr<Place> make_file_place() { return std::make_unique<FilePlace>(); }

INSTANTIATE_TEST_SUITE_P(OnFile, LogConformance, testing::Values(DeviceUnderTest{"file", make_file_place}), name_of);

class FileLog : public testing::Test {
 protected:
  FilePlace place_;
};

// ---- Who may have the folder.

TEST_F(FileLog, AFolderInUseIsRefusedWithTheProcessThatHasIt) {
  Opened const holder = open_log(place_);

  auto const second = place_.open({});

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::log_in_use);
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("process {}:", ::getpid())));
  EXPECT_THAT(second.error().message, HasSubstr(place_.folder().string()));
}

TEST_F(FileLog, TheLockOfADeadProcessHoldsNobodyUp) {
  place_.kill(open_log(place_).log);
  ASSERT_TRUE(fs::exists(place_.folder() / "LOCK"));

  EXPECT_TRUE(place_.open({}));
}

TEST_F(FileLog, AFolderThatCannotBeMadeOrWrittenIsNamedWithTheReason) {
  std::ofstream{place_.root() / "a-file"} << "not a folder";
  struct Case {
    std::string folder;
    std::string reason;
  };
  std::vector<Case> const cases{{(place_.root() / "a-file").string(), "Not a directory"},
                                {(place_.root() / "a-file" / "log").string(), "Not a directory"},
                                {(place_.root() / "missing" / "log").string(), "No such file or directory"},
                                {"/proc/self/log", "No such file or directory"}};
  for (auto const& [folder, reason] : cases) {
    auto const log = open_file_log({.folder = folder});
    ASSERT_FALSE(log) << folder;
    EXPECT_EQ(log.error().code, ErrorCode::io_failed);
    EXPECT_THAT(log.error().message, HasSubstr(folder));
    EXPECT_THAT(log.error().message, HasSubstr(reason));
  }
}

TEST_F(FileLog, AFolderWithoutTheRightToWriteIsRefused) {
  fs::path const folder = place_.root() / "read-only";
  fs::create_directory(folder);
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  if (::access(folder.c_str(), W_OK) == 0) GTEST_SKIP() << "this user may write everywhere";

  auto const log = open_file_log({.folder = folder.string()});

  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code, ErrorCode::io_failed);
  EXPECT_THAT(log.error().message, HasSubstr("Permission denied"));
}

TEST_F(FileLog, AnIntervalOutOfRangeIsRefused) {
  for (Duration const interval : {Duration{0}, Duration{-1}, Duration{std::chrono::hours{2}}}) {
    auto const log = open_file_log({.folder = place_.folder().string(), .sync_interval = interval});
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().code, ErrorCode::bad_configuration);
  }
}

// ---- The files.

TEST_F(FileLog, EveryLogHasAnIdOfItsOwn) {
  FilePlace other;
  open_log(place_);
  open_log(other);

  EXPECT_NE(decode_segment_header(place_.bytes_of(1))->log_id, decode_segment_header(other.bytes_of(1))->log_id);
}

TEST_F(FileLog, FilesThatAreNotItsOwnAreLeftAlone) {
  open_log(place_);
  for (char const* const name : {"notes.txt", "1.wal", "00000000.wal", "000000x1.wal", "new.tmp", ".wal"}) {
    std::ofstream{place_.folder() / name} << "mine";
  }

  Opened const opened = open_log(place_);

  EXPECT_EQ(opened.log->status().segments.size(), 1u);
  EXPECT_TRUE(fs::exists(place_.folder() / "notes.txt"));
}

TEST_F(FileLog, TheNextSegmentIsMadeAheadByAThreadOfItsOwn) {
  PlaceOptions const options{.segment_bytes = 64 << 10};
  Opened const opened = open_log(place_, options);

  append(*opened.log, Bytes(40'000, 'x'));

  while (place_.ordinals().size() < 2) std::this_thread::yield();
  EXPECT_THAT(place_.ordinals(), ElementsAre(1, 2));
  EXPECT_EQ(opened.log->status().segments.size(), 1u);
}

TEST_F(FileLog, TheFileOfADroppedSegmentBecomesTheNextOne) {
  PlaceOptions const options{.segment_bytes = 4096};
  Opened const opened = open_log(place_, options);
  while (opened.log->status().segments.size() < 4) append(*opened.log, Bytes(1'000, 'x'));
  auto const file_of = [](fs::path const& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  };
  ino_t const dropped = file_of(place_.path(1));

  ASSERT_TRUE(opened.log->trim_oldest().value());
  append(*opened.log, "the flush that makes it so");
  EXPECT_EQ(file_of(place_.path(1)), 0u);
  while (opened.log->status().segments.size() < 6) append(*opened.log, Bytes(1'000, 'x'));

  std::vector<ino_t> files;
  for (std::uint32_t const ordinal : place_.ordinals()) files.push_back(file_of(place_.path(ordinal)));
  EXPECT_THAT(files, Contains(dropped));
}

TEST_F(FileLog, AfterAnOrderlyEndALostLastBatchIsCorruption) {
  Opened opened = open_log(place_);
  KnownBatch const last = append(*opened.log, "the last");
  opened.log.reset();
  Bytes bytes = place_.bytes_of(1);
  bytes[last.base.offset] ^= 1;
  place_.replace(1, bytes);

  auto const damaged = try_open_log(place_);

  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, ErrorCode::log_corrupt);
  EXPECT_THAT(damaged.error().message, HasSubstr(place_.path(1).string()));
}

// ---- The process dies for real.

TEST_F(FileLog, WhatWasAcknowledgedBeforeAKillIsThereAfterIt) {
  PlaceOptions const options{.segment_bytes = 16 << 10};
  std::uint64_t acknowledged = 0;
  for (int round = 0; round < 5; ++round) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    pid_t const child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {  // Appends its own count for ever, and tells the pipe after each flush.
      auto opened = try_open_log(place_, options);
      if (!opened) ::_exit(1);
      for (std::uint64_t i = opened->batches.size();; ++i) {
        opened->log->stage(Bytes(1 + i % 900, static_cast<char>('a' + i % 26)),
                           instant_from_ms(static_cast<std::int64_t>(i)));
        if (!opened->log->flush() || ::write(ends[1], &i, sizeof i) != sizeof i) ::_exit(1);
      }
    }
    ::close(ends[1]);
    Fd const reports{ends[0]};
    std::uint64_t last = 0;
    for (int i = 0; i < 60 * (round + 1); ++i) ASSERT_EQ(::read(ends[0], &last, sizeof last), ssize_t{sizeof last});
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    while (::read(ends[0], &last, sizeof last) == sizeof last) {
    }
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    acknowledged = last + 1;

    std::vector<KnownBatch> const batches = open_log(place_, options).batches;

    ASSERT_GE(batches.size(), acknowledged);
    ASSERT_LE(batches.size(), acknowledged + 1);
    for (std::size_t i = 0; i < batches.size(); ++i) {
      ASSERT_EQ(batches[i].payload, Bytes(1 + i % 900, static_cast<char>('a' + i % 26)));
    }
  }
}

// ---- No space.

TEST_F(FileLog, AFileSystemThatIsFullFailsTheFlushAndLosesNothing) {
  fs::path const mounted = place_.root() / "small";
  fs::create_directory(mounted);
  if (::mount("tmpfs", mounted.c_str(), "tmpfs", 0, "size=256k") != 0) GTEST_SKIP() << "may not mount a small tmpfs";
  std::string const folder = (mounted / "log").string();
  std::size_t acknowledged = 0;
  Result<> flushed;
  {
    auto const log = open_file_log({.folder = folder, .segment_bytes = 32 << 10}).value();
    ASSERT_TRUE(log->replay([](ReplayedBatch const&) { return Result<>{}; }, {}));
    ASSERT_TRUE(log->own());
    EXPECT_LE(log->status().free_bytes, 256u << 10);
    while (true) {
      log->stage(Bytes(3'000, 'x'), {});
      flushed = log->flush();
      if (!flushed) break;
      ++acknowledged;
    }
    EXPECT_FALSE(log->flush());  // Final.
  }

  EXPECT_EQ(flushed.error().code, ErrorCode::disk_full);
  EXPECT_THAT(flushed.error().message, HasSubstr("No space left on device"));
  std::size_t found = 0;
  {
    auto const log = open_file_log({.folder = folder, .segment_bytes = 32 << 10}).value();
    auto const report = log->replay(
        [&](ReplayedBatch const&) -> Result<> {
          ++found;
          return {};
        },
        {});
    EXPECT_TRUE(report) << describe(report.error());
  }
  EXPECT_EQ(found, acknowledged);
  EXPECT_EQ(::umount(mounted.c_str()), 0);
}

TEST_F(FileLog, AFileThatMayNotGrowFailsTheFlushAndIsNamed) {
  Opened opened = open_log(place_, {.segment_bytes = 64 << 10});
  KnownBatch const before = append(*opened.log, "before");
  auto const handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  rlimit const tight{.rlim_cur = 80 << 10, .rlim_max = old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);

  stage(*opened.log, Bytes(100'000, 'x'));
  auto const flushed = opened.log->flush();

  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code, ErrorCode::io_failed);
  EXPECT_THAT(flushed.error().message, HasSubstr("00000001.wal"));
  place_.kill(std::move(opened.log));
  EXPECT_THAT(open_log(place_).batches, ElementsAre(before));
}

}  // namespace
}  // namespace workmill::log
