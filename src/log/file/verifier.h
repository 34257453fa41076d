#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/guarded.h"
#include "base/time.h"
#include "log/disk.h"

// Reads the log again while a server runs on it, slowly, and holds every frame against its checksums: so that a disk
// that forgets is found out while the jobs are still in memory, and not at the next start.
//
// Looks at the segments that are full, through file descriptors of its own; asks the system to fetch them from the disk
// anew. Owns one thread, of a low priority. It is told of nothing by the server, and tells it nothing but
// findings.
namespace workmill::log {

class ReadOnlyDisk;

struct VerifierOptions {
  std::string folder;
  std::uint64_t bytes_per_second = std::uint64_t{8} << 20;  // More than 0.
  Duration every = std::chrono::hours{1};                   // From the begin of one pass to that of the next, at least.
};

struct VerifierFigures {
  std::uint64_t bytes = 0;    // Read and found right.
  std::uint64_t passes = 0;   // Over all that was there.
  std::uint64_t damaged = 0;  // Places, each counted once.
  Instant last_pass_at{};     // When the last pass ended.
};

class Verifier {
 public:
  struct Finding {
    std::string file;
    std::uint64_t offset = 0;  // Of the frame, or of the file's begin.
    std::string what;
  };
  // `on_damage` is called on the verifier's thread, once for each place. What is lent outlives it. io_failed where
  // there is no folder or no thread to be had.
  static Result<std::unique_ptr<Verifier>> start(VerifierOptions options, Clock const& clock,
                                                 std::function<void(Finding const&)> on_damage);
  Verifier(VerifierOptions options, Clock const& clock, std::function<void(Finding const&)> on_damage,
           std::unique_ptr<ReadOnlyDisk> disk);
  ~Verifier();  // Ends at the next frame.
  Verifier(Verifier const&) = delete;
  Verifier& operator=(Verifier const&) = delete;

  VerifierFigures figures() const;  // Any thread.

 private:
  void run();
  Result<> pass();
  Result<> verify(std::uint32_t ordinal);
  void found(std::uint32_t ordinal, std::uint64_t offset, std::string what);
  // Waits as long as reading `bytes` may take; false: it is time to end.
  bool pace(std::uint64_t bytes);
  bool pause(Duration time);

  VerifierOptions const options_;
  Clock const& clock_;
  std::function<void(Finding const&)> const on_damage_;
  std::unique_ptr<ReadOnlyDisk> disk_;
  std::set<std::pair<std::uint32_t, std::uint64_t>> known_;  // Findings.
  std::uint64_t unpaced_ = 0;

  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> passes_{0};
  std::atomic<std::uint64_t> damaged_{0};
  std::atomic<std::int64_t> last_pass_ms_{0};

  Mutex mutex_;
  Condition stop_;
  bool stopping_ WM_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace workmill::log
