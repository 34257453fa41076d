#include "log/file/verifier.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "base/thread_name.h"
#include "log/file/read_only_disk.h"
#include "log/segment_walk.h"

namespace workmill::log {
namespace {

// Behind all that serves. Not the lowest there is: a process that was killed is gone, and its folder free for the next
// one, when the last of its threads has run to its end, which took one of niceness 19 some 20 s on a busy machine.
constexpr int kLowPriority = 10;
constexpr std::uint64_t kPacedBytes = std::uint64_t{256} << 10;  // It sleeps after each so many.

}  // namespace

Result<std::unique_ptr<Verifier>> Verifier::start(VerifierOptions options, Clock const& clock,
                                                  std::function<void(Finding const&)> on_damage) {
  WM_TRY(auto disk, ReadOnlyDisk::open(options.folder, ReadOnlyDisk::Guard::none));
  auto verifier = std::make_unique<Verifier>(std::move(options), clock, std::move(on_damage), std::move(disk));
  try {
    verifier->thread_ = std::thread{[it = verifier.get()] { it->run(); }};
  } catch (std::system_error const& error) {
    return fail(ErrorCode::io_failed, fmt::format("cannot start a thread: {}", error.what()));
  }
  return verifier;
}

Verifier::Verifier(VerifierOptions options, Clock const& clock, std::function<void(Finding const&)> on_damage,
                   std::unique_ptr<ReadOnlyDisk> disk)
    : options_(std::move(options)), clock_(clock), on_damage_(std::move(on_damage)), disk_(std::move(disk)) {}

Verifier::~Verifier() {
  {
    Lock const lock{mutex_};
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

VerifierFigures Verifier::figures() const {
  return {.bytes = bytes_.load(),
          .passes = passes_.load(),
          .damaged = damaged_.load(),
          .last_pass_at = instant_from_ms(last_pass_ms_.load())};
}

void Verifier::run() {
  name_this_thread("wm-verify");
  // Linux has a priority for each thread; where it has not, this is no worse than before.
  [[maybe_unused]] int const set = ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLowPriority);
  Duration left = options_.every;  // Recovery has just read everything.
  while (pause(left)) {
    auto const began = clock_.monotonic();
    if (pass()) {
      passes_.fetch_add(1);
      last_pass_ms_.store(to_ms(clock_.now()));
    }  // What cannot be listed just now is tried again the next time.
    auto const took = std::chrono::duration_cast<Duration>(clock_.monotonic() - began);
    left = std::max(options_.every - took, Duration{1});
  }
}

Result<> Verifier::pass() {
  WM_TRY(auto const files, disk_->list());
  for (std::size_t i = 0; i + 1 < files.size(); ++i) {
    // Full is what has another behind it that was begun. The others change under our eyes.
    SegmentWalk next{*disk_, files[i + 1].ordinal};
    bool const is_begun = next.open().has_value() && next.next().value_or(std::nullopt).has_value();
    disk_->done_reading(files[i + 1].ordinal);
    if (!is_begun && i + 2 >= files.size()) return {};
    WM_TRY_VOID(verify(files[i].ordinal));
    disk_->done_reading(files[i].ordinal);
  }
  return {};
}

Result<> Verifier::verify(std::uint32_t ordinal) {
  disk_->done_reading(ordinal);
  disk_->forget_cached(ordinal, 0, 0);
  SegmentWalk walk{*disk_, ordinal};
  auto const stopped = [] { return fail(ErrorCode::shutting_down, "stopped"); };
  if (auto const opened = walk.open(); !opened) {
    found(ordinal, 0, opened.error().message);
    return {};
  }
  while (true) {
    std::uint64_t const offset = walk.offset();
    auto const read = walk.next();
    if (!read) {  // The disk itself refuses.
      found(ordinal, offset, read.error().message);
      return {};
    }
    if (auto const& frame = *read) {
      bytes_.fetch_add(frame->whole.size(), std::memory_order_relaxed);
      if (!pace(frame->whole.size())) return stopped();
      continue;
    }
    if (walk.stop() == SegmentWalk::Stop::full) return {};
    if (!disk_->is_still_there(ordinal)) return {};  // Dropped meanwhile, and the file may be another's by now.
    bool const is_payload = walk.stop() == SegmentWalk::Stop::bad_payload;
    found(ordinal, offset, is_payload ? "the checksum of a batch does not match" : "no frame begins here");
    auto const search = walk.find_header(offset + kFrameAlignment);
    if (!search) return {};
    auto const& behind = *search;
    if (!behind) return {};
    if (!pace(behind->offset - offset)) return stopped();
    walk.go_to(behind->offset);
  }
}

void Verifier::found(std::uint32_t ordinal, std::uint64_t offset, std::string what) {
  if (!disk_->is_still_there(ordinal) || !known_.emplace(ordinal, offset).second) return;
  damaged_.fetch_add(1);
  on_damage_({.file = disk_->name(ordinal), .offset = offset, .what = std::move(what)});
}

bool Verifier::pace(std::uint64_t bytes) {
  unpaced_ += bytes;
  if (unpaced_ < kPacedBytes) return true;
  Duration const time{static_cast<std::int64_t>(unpaced_ * 1'000 / options_.bytes_per_second)};
  unpaced_ = 0;
  return pause(time);
}

bool Verifier::pause(Duration time) {
  Lock const lock{mutex_};
  auto const until = Condition::Deadline::clock::now() + time;
  while (!stopping_ && stop_.wait_until(mutex_, until)) {
  }
  return !stopping_;
}

}  // namespace workmill::log
