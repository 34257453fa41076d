#include "log/memory/memory_log.h"

namespace workmill::log {
namespace {

class MemoryLog final : public Log {
 public:
  MemoryLog(std::unique_ptr<Disk> disk, std::unique_ptr<SegmentLog> log)
      : disk_(std::move(disk)), log_(std::move(log)) {}

  Result<Epoch> own() override { return log_->own(); }
  Result<ReplayReport> replay(std::function<Result<>(ReplayedBatch const&)> const& visit,
                              std::function<void(std::uint64_t, std::uint64_t)> const& on_progress) override {
    return log_->replay(visit, on_progress);
  }
  Position next_base() override { return log_->next_base(); }
  void stage(BytesView payload, Instant at) override { log_->stage(payload, at); }
  Result<> flush() override { return log_->flush(); }
  Result<BytesView> read(Position position, std::size_t length) override { return log_->read(position, length); }
  std::move_only_function<void()> fetch(Position position, std::size_t length) override {
    return log_->fetch(position, length);
  }
  Result<std::optional<ReplayedBatch>> next_batch(Position& cursor) override { return log_->next_batch(cursor); }
  Result<> skip_damaged(Position& cursor) override { return log_->skip_damaged(cursor); }
  Result<bool> trim_oldest() override { return log_->trim_oldest(); }
  LogStatus status() const override { return log_->status(); }

 private:
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<SegmentLog> log_;
};

}  // namespace

Result<std::unique_ptr<Log>> open_memory_log(MemoryDisk& disk, SegmentLogOptions options) {
  std::unique_ptr<Disk> session = disk.open();
  WM_TRY(auto log, SegmentLog::open(*session, options));
  return std::make_unique<MemoryLog>(std::move(session), std::move(log));
}

}  // namespace workmill::log
