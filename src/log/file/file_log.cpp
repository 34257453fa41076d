#include "log/file/file_log.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>

#include "base/assert.h"
#include "base/thread_name.h"
#include "log/file/fd.h"
#include "log/file/file_disk.h"
#include "log/segment_log.h"

namespace workmill::log {
namespace {

constexpr int kLookAtSpaceMs = 1'000;

// The thread that does ahead, or behind, what would hold up a flush.
class Keeper {
 public:
  Keeper(FileDisk& disk, SegmentLog& log, FileLogOptions const& options)
      : disk_(disk),
        log_(log),
        syncs_(options.durability == Durability::interval),
        pause_ms_(syncs_ ? static_cast<int>(options.sync_interval.count()) : kLookAtSpaceMs) {}

  ~Keeper() {
    stopping_.store(true);
    wake();
  }

  Result<> start() {
    wake_ = Fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!wake_) return fail(ErrorCode::io_failed, "cannot make an event: " + std::generic_category().message(errno));
    try {
      thread_ = std::jthread{[this] {
        name_this_thread("wm-disk");
        run();
      }};
    } catch (std::system_error const& error) {
      return fail(ErrorCode::io_failed, fmt::format("cannot start a thread: {}", error.what()));
    }
    return {};
  }

  // From the flushing thread, after each flush.
  void after_flush() {
    if (log_.wants_next() && !asked_.exchange(true)) wake();
  }

 private:
  void wake() {
    std::uint64_t const one = 1;
    [[maybe_unused]] ssize_t const wrote = ::write(wake_.get(), &one, sizeof one);  // Full means that it wakes anyway.
  }

  void run() {
    while (!stopping_.load()) {
      pollfd waiting{.fd = wake_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, pause_ms_) > 0) {
        std::uint64_t count = 0;
        [[maybe_unused]] ssize_t const got = ::read(wake_.get(), &count, sizeof count);
      }
      if (stopping_.load()) return;
      // Neither can be answered to anybody here: the next flush meets a failed sync, or makes the segment itself.
      prepare_next();
      if (syncs_) [[maybe_unused]]
        Result<> const synced = log_.sync_written();
      disk_.refresh_space();
    }
  }

  // Where there is no room for it, each flush would ask anew: then it is tried again every second only.
  void prepare_next() {
    if (pauses_left_ > 0) {
      --pauses_left_;
      return;
    }
    asked_.store(false);
    Result<> const prepared = log_.prepare_next();
    if (prepared || prepared.error().code != ErrorCode::disk_full) return;
    asked_.store(true);
    pauses_left_ = kLookAtSpaceMs / pause_ms_ - 1;
  }

  FileDisk& disk_;
  SegmentLog& log_;
  bool const syncs_;
  int const pause_ms_;
  int pauses_left_ = 0;  // Before the next segment is tried again.
  Fd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asked_{false};
  std::jthread thread_;  // Last: it ends before the rest does.
};

class FileLog final : public Log {
 public:
  FileLog(FileLogOptions options, std::unique_ptr<FileDisk> disk, std::unique_ptr<SegmentLog> log)
      : options_(std::move(options)), disk_(std::move(disk)), log_(std::move(log)) {}

  ~FileLog() override {
    bool const is_owned = keeper_ != nullptr;
    keeper_.reset();
    if (is_owned) [[maybe_unused]]
      Result<> const sealed = log_->seal();  // Without it the log is as good as after a kill.
  }

  Result<Epoch> own() override {
    WM_TRY(Epoch const epoch, log_->own());
    keeper_ = std::make_unique<Keeper>(*disk_, *log_, options_);
    WM_TRY_VOID(keeper_->start());
    return epoch;
  }
  Result<ReplayReport> replay(std::function<Result<>(ReplayedBatch const&)> const& visit,
                              std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) override {
    return log_->replay(visit, on_progress);
  }
  Position next_base() override { return log_->next_base(); }
  void stage(BytesView payload, Instant at) override { log_->stage(payload, at); }
  Result<> flush() override {
    WM_TRY_VOID(log_->flush());
    keeper_->after_flush();
    return {};
  }
  Result<BytesView> read(Position position, std::size_t length) override { return log_->read(position, length); }
  std::move_only_function<void()> fetch(Position position, std::size_t length) override {
    return log_->fetch(position, length);
  }
  Result<std::optional<ReplayedBatch>> next_batch(Position& cursor) override { return log_->next_batch(cursor); }
  Result<> skip_damaged(Position& cursor) override { return log_->skip_damaged(cursor); }
  Result<bool> trim_oldest() override { return log_->trim_oldest(); }
  LogStatus status() const override { return log_->status(); }

 private:
  FileLogOptions const options_;
  std::unique_ptr<FileDisk> disk_;
  std::unique_ptr<SegmentLog> log_;
  std::unique_ptr<Keeper> keeper_;
};

Result<std::uint64_t> random_id() {
  std::uint64_t id = 0;
  if (::getrandom(&id, sizeof id, 0) != sizeof id) {
    return fail(ErrorCode::io_failed, "the system gives no random bytes: " + std::generic_category().message(errno));
  }
  return id;
}

}  // namespace

Result<std::unique_ptr<Log>> open_file_log(FileLogOptions const& options) {
  if (options.sync_interval < Duration{1} || options.sync_interval > std::chrono::hours{1}) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the sync interval is 1 ms to 1 h, not {} ms", options.sync_interval.count()));
  }
  WM_TRY(std::uint64_t const log_id, random_id());
  WM_TRY(auto disk, FileDisk::open(options.folder));
  SegmentLogOptions const segments{.segment_bytes = options.segment_bytes,
                                   .durability = options.durability,
                                   .sync_interval = options.sync_interval,
                                   .synced_elsewhere = true,
                                   .recent_bytes = options.recent_bytes,
                                   .log_id = log_id};
  WM_TRY(auto log, SegmentLog::open(*disk, segments));
  return std::make_unique<FileLog>(options, std::move(disk), std::move(log));
}

}  // namespace workmill::log
