// The log: appending by batch size with and without fdatasync, recovery, reading a backlog in order, checksums.
//
// Files go to $WORKMILL_BENCH_DIR, by default build/bench-data in the current folder: a figure with fdatasync is one of
// that folder's disk.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "log/crc32c.h"
#include "log/file/file_log.h"
#include "log/memory/memory_log.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRecordBytes = 150;

bool is_smoke() { return std::getenv("WM_BENCH_SMOKE") != nullptr; }

// A folder for one benchmark, gone when it ends.
class Folder {
 public:
  Folder() {
    char const* const root = std::getenv("WORKMILL_BENCH_DIR");
    path_ = fs::path{root != nullptr ? root : "build/bench-data"} / "log";
    fs::remove_all(path_);
    fs::create_directories(path_.parent_path());
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

Bytes records(std::int64_t count) {
  Bytes bytes(static_cast<std::size_t>(count) * kRecordBytes, '\0');
  std::uint32_t state = 1;
  for (char& byte : bytes) byte = static_cast<char>((state = state * 1'664'525 + 1'013'904'223) >> 24);
  return bytes;
}

Result<ReplayReport> replay(Log& log) {
  return log.replay([](ReplayedBatch const&) { return Result<>{}; }, {});
}

// Appends batches of state.range(0) records, and keeps the log at eight segments, as a server does that drains.
void append(benchmark::State& state, Log& log) {
  if (!replay(log) || !log.own()) return state.SkipWithError("cannot open the log");
  Bytes const payload = records(state.range(0));
  for (auto _ : state) {
    log.stage(payload, {});
    if (!log.flush()) return state.SkipWithError("cannot flush");
    if (log.next_base().segment > 8 && log.status().segments.size() > 8) benchmark::DoNotOptimize(log.trim_oldest());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(payload.size()));
}

void append_to_files(benchmark::State& state, Durability durability) {
  Folder const folder;
  auto const log = open_file_log({.folder = folder.path(), .durability = durability});
  if (!log) return state.SkipWithError(log.error().message.c_str());
  append(state, **log);
}

void log_append_sync(benchmark::State& state) { append_to_files(state, Durability::sync); }
void log_append_os(benchmark::State& state) { append_to_files(state, Durability::os); }
void log_append_memory(benchmark::State& state) {
  MemoryDisk disk;
  auto const log = open_memory_log(disk, {.segment_bytes = 1 << 20, .durability = Durability::sync});
  append(state, **log);
}
BENCHMARK(log_append_sync)->RangeMultiplier(4)->Range(1, 4'096)->UseRealTime();
BENCHMARK(log_append_os)->RangeMultiplier(4)->Range(1, 4'096)->UseRealTime();
BENCHMARK(log_append_memory)->Arg(1)->Arg(512);

// What flush() would hand on to a writer thread is not counted: stage() alone, as the shard's thread pays for it.
void log_stage(benchmark::State& state) {
  MemoryDisk disk;
  auto const log = open_memory_log(disk);
  if (!replay(**log) || !(*log)->own()) return state.SkipWithError("cannot open the log");
  Bytes const payload = records(state.range(0));
  for (auto _ : state) {
    (*log)->stage(payload, {});
    state.PauseTiming();
    if (!(*log)->flush()) return state.SkipWithError("cannot flush");
    if ((*log)->status().segments.size() > 2) benchmark::DoNotOptimize((*log)->trim_oldest());
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(log_stage)->Arg(512)->Iterations(2'000);

// A log of state.range(0) MiB in batches of 512 records, written once and read by every iteration.
struct Backlog {
  explicit Backlog(std::int64_t mebibytes) {
    auto const log = open_file_log({.folder = folder.path(), .durability = Durability::os}).value();
    if (!replay(*log) || !log->own()) return;
    Bytes const payload = records(512);
    for (std::int64_t bytes = 0; bytes < mebibytes << 20; bytes += static_cast<std::int64_t>(payload.size())) {
      first_bases.push_back(log->next_base());
      log->stage(payload, {});
      if (!log->flush()) return;
    }
  }
  Folder folder;
  std::vector<Position> first_bases;
};

void log_recover(benchmark::State& state) {
  std::int64_t const mebibytes = is_smoke() ? 1 : state.range(0);
  Backlog const backlog{mebibytes};
  for (auto _ : state) {
    auto const log = open_file_log({.folder = backlog.folder.path()}).value();
    if (!replay(*log)) return state.SkipWithError("cannot replay");
  }
  state.SetBytesProcessed(state.iterations() * (mebibytes << 20));
}
BENCHMARK(log_recover)->Arg(1'024)->Unit(benchmark::kMillisecond);

void log_read_in_order(benchmark::State& state) {
  Backlog const backlog{is_smoke() ? 1 : 256};
  auto const log = open_file_log({.folder = backlog.folder.path()}).value();
  if (!replay(*log) || !log->own()) return state.SkipWithError("cannot open the log");
  std::size_t batch = 0;
  std::uint32_t record = 0;
  for (auto _ : state) {
    Position position = backlog.first_bases[batch];
    position.offset += record * static_cast<std::uint32_t>(kRecordBytes);
    benchmark::DoNotOptimize(log->read(position, kRecordBytes));
    if (++record == 512) {
      record = 0;
      batch = (batch + 1) % backlog.first_bases.size();
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(log_read_in_order);

void checksum(benchmark::State& state) {
  Bytes const bytes(static_cast<std::size_t>(state.range(0)), 'x');
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Arg(64)->Arg(600)->Arg(4'096)->Arg(65'536)->Arg(1 << 20);

void checksum_portable(benchmark::State& state) {
  Bytes const bytes(static_cast<std::size_t>(state.range(0)), 'x');
  for (auto _ : state) benchmark::DoNotOptimize(crc32c_portable(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum_portable)->Arg(65'536);

}  // namespace
}  // namespace workmill::log
