#include "shard/examination.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"
#include "log/log_reader.h"
#include "log/record.h"
#include "shard/batch.h"
#include "shard/cache_replay.h"
#include "shard/job_reader.h"

namespace workmill::shard {
namespace {

// A rebuilt log is written in batches of about this size: large enough to be quick, small enough to be read back.
constexpr std::size_t kRebuiltBatchBytes = std::size_t{256} << 10;

// The whole frames of a log that may be damaged between them, to be read from by position. Nothing else can be done
// with it.
class KeptFrames final : public log::Log {
 public:
  explicit KeptFrames(log::Disk& disk) : disk_(disk) {}
  void add(Position payload, std::uint32_t bytes) { frames_.push_back({payload, bytes}); }

  Result<BytesView> read(Position position, std::size_t length) override {
    auto const after = std::upper_bound(frames_.begin(), frames_.end(), position,
                                        [](Position const& at, Frame const& frame) { return at < frame.payload; });
    if (after == frames_.begin()) return lost(position);
    Frame const& frame = *std::prev(after);
    if (frame.payload.segment != position.segment ||
        position.offset + length > std::uint64_t{frame.payload.offset} + frame.bytes) {
      return lost(position);
    }
    buffer_.resize(length);
    WM_TRY(std::size_t const got, disk_.read(position.segment, position.offset, {buffer_.data(), length}));
    if (got < length) return lost(position);
    return BytesView{buffer_};
  }

  Result<Epoch> own() override { return unused(); }
  Result<log::ReplayReport> replay(std::function<Result<>(log::ReplayedBatch const&)> const&,
                                   std::function<void(std::uint64_t, std::uint64_t)> const&) override {
    return unused();
  }
  Position next_base() override { return {}; }
  void stage(BytesView, Instant) override { WM_ASSERT(false); }
  Result<> flush() override { return unused(); }
  Result<std::optional<log::ReplayedBatch>> next_batch(Position&) override { return unused(); }
  Result<> skip_damaged(Position&) override { return unused(); }
  Result<bool> trim_oldest() override { return unused(); }
  log::LogStatus status() const override { return {}; }

 private:
  struct Frame {
    Position payload;
    std::uint32_t bytes = 0;
  };
  std::unexpected<Error> lost(Position at) const {
    return fail(ErrorCode::log_corrupt,
                fmt::format("what stood in {} at offset {} is lost", disk_.name(at.segment), at.offset));
  }
  static std::unexpected<Error> unused() { return fail(ErrorCode::internal, "these frames can only be read"); }

  log::Disk& disk_;
  std::vector<Frame> frames_;  // In the order of the log.
  Bytes buffer_;
};

// The number of the job that an effect is about, or none.
std::optional<JobNumber> job_of(Effect const& effect) {
  return std::visit(
      [](auto const& e) -> std::optional<JobNumber> {
        if constexpr (requires { e.number; }) return e.number;
        return {};
      },
      effect);
}

// Likewise of the batch, as its callers know one. Also where the effect says of a job that it was in it and is gone.
std::optional<BatchNumber> batch_of(Effect const& effect) {
  auto const number = std::visit(
      [](auto const& e) -> BatchNumber {
        if constexpr (requires { e.batch; }) return e.batch;
        return {};
      },
      effect);
  return number == BatchNumber{} ? std::nullopt : std::optional{number};
}

// The state in which an effect wants its job; nothing where it takes any, or where nothing can be done.
std::optional<JobState> wanted_state(Effect const& effect) {
  if (holds<effect::JobLeased>(effect)) return JobState::ready;
  bool const needs_lease = holds<effect::JobCompleted>(effect) || holds<effect::JobFailed>(effect) ||
                           holds<effect::JobReleased>(effect) || holds<effect::LeaseExtended>(effect) ||
                           holds<effect::CancelRequested>(effect) || holds<effect::ProgressMade>(effect) ||
                           holds<effect::LinesLogged>(effect) || holds<effect::CheckpointMade>(effect);
  if (needs_lease) return JobState::leased;
  return {};
}

// Tells an engine that a batch of this id is gone, if it knows one: another has the id, or a copy comes, which says all
// of it, also what was lost before.
void free_id(engine::Engine& engine, std::string_view id, EffectSink::Written at, Instant when) {
  auto const known = engine.find_batch(id);
  if (!known) return;
  [[maybe_unused]] auto const told = engine.replay(effect::BatchForgotten{.batch = *known}, at, when);
}

// The same as fill_in for a batch: what called back was closed, and an id that comes again was free.
void fill_in_batch(engine::Engine& engine, Effect const& effect, EffectSink::Written at, Instant when) {
  if (auto const* fired = std::get_if<effect::BatchFired>(&effect)) {
    [[maybe_unused]] auto const told =
        engine.replay(effect::BatchClosed{.batch = fired->batch, .at = fired->at}, at, when);
  }
  if (auto const* made = std::get_if<effect::BatchMade>(&effect)) free_id(engine, made->id, at, when);
}

// Tells an engine what must have happened to a job in between, when what comes next is `effect`. Each step may be
// refused, and then the next one is as well: the effect itself shows whether it fits now.
void fill_in(engine::Engine& engine, Effect const& effect, EffectSink::Written at, Instant when) {
  auto const number = job_of(effect);
  if (!number) return fill_in_batch(engine, effect, at, when);
  auto const state = [&] {
    auto const view = engine.view(*number);
    return view ? view->state : JobState::completed;
  };
  auto const tell = [&](Effect const& step) { [[maybe_unused]] auto const told = engine.replay(step, at, when); };
  auto const order = std::to_underlying(*number);
  auto const make_ready = [&] {
    JobState const now = state();
    if (now == JobState::scheduled) tell(effect::JobReady{.number = *number, .order = order});
    if (now == JobState::dead || now == JobState::cancelled) {
      tell(effect::JobRetried{.number = *number, .order = order});
    }
    if (now == JobState::leased) {
      tell(effect::JobReleased{.number = *number, .order = order, .next = JobState::ready, .at = when});
    }
  };
  if (holds<effect::JobSnapshot>(effect) || holds<effect::JobForgotten>(effect)) {
    if (state() == JobState::leased) make_ready();
    if (holds<effect::JobSnapshot>(effect)) tell(effect::JobForgotten{.number = *number});
    return;
  }
  auto const wanted = wanted_state(effect);
  if (!wanted) return;
  make_ready();
  if (*wanted != JobState::leased || state() != JobState::ready) return;
  auto const view = engine.view(*number);
  if (!view) return;
  tell(effect::JobLeased{.number = *number,
                         .token = LeaseToken{order},
                         .at = when,
                         .deadline = when,
                         .worker = {},
                         .previous = view->event_at});
}

// Replay as recovery does it, but what does not fit is counted and not the end.
class LenientReplay final : public log::ScanVisitor {
 public:
  LenientReplay(log::Disk& disk, engine::Engine& engine, cache::Cache& cache, KeptFrames& kept, Examination& out)
      : disk_(disk),
        engine_(engine),
        cached_(cache, no_prefixes_, kInstantMin, CacheReplay::Values::leave_on_disk),
        kept_(kept),
        out_(out) {}

  Result<> frame(log::FrameHeader const& header, BytesView payload) override {
    SegmentFigures& segment = figures(header.start.segment);
    segment.used_bytes =
        std::max<std::uint64_t>(segment.used_bytes, header.start.offset + log::frame_bytes(header.payload_bytes));
    out_.epoch = header.epoch;
    if (header.kind != log::FrameKind::batch) return {};
    Position base = header.start;
    base.offset += log::kFrameHeaderBytes;
    kept_.add(base, header.payload_bytes);
    ++out_.batches;
    ++segment.batches;
    if (segment.batches == 1) segment.first_at = header.at;
    segment.last_at = out_.last_batch_at = header.at;
    auto const read =
        log::for_each_record(payload, [&](Effect const& effect, std::uint32_t offset, std::uint32_t bytes) -> Result<> {
          ++out_.records;
          ++segment.records;
          replay(effect, {.at = {base.segment, base.offset + offset}, .bytes = bytes}, header.at);
          return {};
        });
    if (!read) {
      out_.losses.push_back(
          {.damage = {.kind = log::DamageKind::record,
                      .ordinal = base.segment,
                      .from = base.offset,
                      .until = std::uint64_t{base.offset} + payload.size(),
                      .what = "a batch has a record that this program does not understand: " + read.error().message},
           .file = disk_.name(base.segment)});
    }
    return {};
  }

  void damage(log::Damage const& damage, BytesView unsound) override {
    Guess guess{.loss = out_.losses.size()};
    Loss loss{.damage = damage, .file = disk_.name(damage.ordinal)};
    // The batch as it may have been: its first records are right more often than not.
    [[maybe_unused]] auto const read = log::for_each_record(
        unsound, [&](Effect const& effect, std::uint32_t /*offset*/, std::uint32_t /*bytes*/) -> Result<> {
          ++loss.records;
          // Without its salt no id that was given out would be known again: better a guess.
          if (holds<effect::StoreCreated>(effect) && engine_.salt() == 0) {
            [[maybe_unused]] auto const told = engine_.replay(effect, {}, {});
          }
          if (auto const number = job_of(effect)) {
            bool const made_here = holds<effect::JobEnqueued>(effect);
            bool const copied_here = holds<effect::JobSnapshot>(effect);
            Named job{.number = std::to_underlying(*number), .is_whole = made_here || copied_here};
            name_job(effect, job);
            guess.jobs.push_back(std::move(job));
          }
          if (auto const number = batch_of(effect)) {
            Named batch{.number = std::to_underlying(*number)};
            if (auto const* made = std::get_if<effect::BatchMade>(&effect)) batch.id = made->id;
            if (auto const* copied = std::get_if<effect::BatchCopied>(&effect)) batch.id = copied->id;
            batch.is_whole = !batch.id.empty();
            guess.batches.push_back(std::move(batch));
          }
          return {};
        });
    out_.losses.push_back(std::move(loss));
    guesses_.push_back(std::move(guess));
  }

  // When all has been replayed: which of the jobs and batches that the damage names are gone.
  void settle() {
    JobIdCodec const ids{engine_.salt()};
    for (Guess& guess : guesses_) {
      Loss& loss = out_.losses[guess.loss];
      std::unordered_set<std::uint64_t> seen;
      for (Named& job : guess.jobs) {
        bool const is_there = engine_.find(JobRef{.number = JobNumber{job.number}, .text = {}}).has_value();
        if ((!is_there && !job.is_whole) || !seen.insert(job.number).second) continue;
        if (job.id.empty()) {
          auto const text = ids.encode(JobNumber{job.number});
          job.id.assign(text.data(), text.size());
        }
        count(job.id, is_there, loss.jobs);
        if (is_there || job.batch.empty()) continue;
        if (auto const batch = engine_.find_batch(job.batch)) {
          guess.batches.push_back({.number = std::to_underlying(*batch)});
        }
      }
      seen.clear();
      for (Named const& batch : guess.batches) {
        bool const is_there = engine_.has_batch(BatchNumber{batch.number});
        if ((!is_there && !batch.is_whole) || !seen.insert(batch.number).second) continue;
        count(batch.id, is_there, loss.batches);
      }
    }
  }

 private:
  struct Named {
    std::uint64_t number = 0;
    bool is_whole = false;  // It stood there itself, not only something that happened to it.
    std::string id{};
    std::string batch{};  // Of a job.
  };
  struct Guess {
    std::size_t loss = 0;
    std::vector<Named> jobs{};
    std::vector<Named> batches{};
  };

  static void name_job(Effect const& effect, Named& job) {
    BytesView spec;
    if (auto const* made = std::get_if<effect::JobEnqueued>(&effect)) spec = made->spec;
    if (auto const* copied = std::get_if<effect::JobSnapshot>(&effect)) spec = copied->spec;
    JobSpecView view;
    if (spec.empty() || !decode_spec(spec, view)) return;
    job.id = view.id;
    job.batch = view.batch;
  }

  static void count(std::string const& id, bool is_there, Taken& taken) {
    ++(is_there ? taken.touched : taken.lost);
    if (!is_there && taken.ids.size() < kIdsMax) taken.ids.push_back(id);
  }

  void replay(Effect const& effect, EffectSink::Written at, Instant when) {
    cached_.replay(effect, at);
    if (auto const* copied = std::get_if<effect::BatchCopied>(&effect)) free_id(engine_, copied->id, at, when);
    if (engine_.replay(effect, at, when)) return;
    ++out_.contradictions;
    fill_in(engine_, effect, at, when);
    [[maybe_unused]] auto const again = engine_.replay(effect, at, when);
  }

  SegmentFigures& figures(std::uint32_t ordinal) {
    auto const found = std::find_if(out_.segments.begin(), out_.segments.end(),
                                    [&](SegmentFigures const& segment) { return segment.ordinal == ordinal; });
    WM_ASSERT(found != out_.segments.end());
    return *found;
  }

  log::Disk& disk_;
  engine::Engine& engine_;
  std::vector<std::string> const no_prefixes_{};
  CacheReplay cached_;
  KeptFrames& kept_;
  Examination& out_;
  std::vector<Guess> guesses_;
};

// What recovery would answer, short of the engine.
Result<log::LogReader::End> read_as_server(log::Disk& disk) {
  log::LogReader reader{disk};
  while (true) {
    WM_TRY(auto const frame, reader.next());
    if (!frame) return reader.end();
  }
}

}  // namespace

std::string_view to_string(Health health) {
  switch (health) {
    case Health::none: return "no_log";
    case Health::healthy: return "healthy";
    case Health::torn: return "torn";
    case Health::damaged: return "damaged";
  }
  return "";
}

struct Examiner::Impl {
  explicit Impl(log::Disk& the_disk) : disk(the_disk), kept(the_disk) {}

  log::Disk& disk;
  std::unique_ptr<engine::Engine> engine;
  // What time it was is not known, so nothing is over, and no budget is.
  cache::Cache cache{{.memory_bytes = std::uint64_t{1} << 30, .disk_bytes = UINT64_MAX}};
  KeptFrames kept;
  Position until{};
  Instant last_batch_at{};
  std::uint32_t last_ordinal = 0;

  // The finished are kept whatever the server's budget for them is, and so are keys: it is not known here.
  static engine::EngineOptions options() {
    engine::EngineOptions options;
    options.finished_kept_per_queue = std::numeric_limits<std::uint32_t>::max();
    options.idempotency_keys_max = std::numeric_limits<std::uint32_t>::max();
    return options;
  }
};

Examiner::Examiner(log::Disk& disk) : impl_(std::make_unique<Impl>(disk)) {}
Examiner::~Examiner() = default;

Result<Examination> Examiner::examine(OnProgress const& on_progress) {
  Impl& impl = *impl_;
  WM_ASSERT(impl.engine == nullptr);
  impl.engine = std::make_unique<engine::Engine>(Impl::options());
  Examination out;
  WM_TRY(auto const files, impl.disk.list());
  if (files.empty()) return out;
  impl.last_ordinal = files.back().ordinal;
  for (log::DiskFile const& file : files) {
    out.segments.push_back({.ordinal = file.ordinal, .file = impl.disk.name(file.ordinal), .file_bytes = file.bytes});
  }

  auto const end = read_as_server(impl.disk);
  if (!end && end.error().code != ErrorCode::log_corrupt && end.error().code != ErrorCode::log_version) {
    return std::unexpected(end.error());
  }
  if (!end) out.refusal = end.error();
  if (end) impl.until = end->next;

  LenientReplay replay{impl.disk, *impl.engine, impl.cache, impl.kept, out};
  WM_TRY(auto const scanned, log::scan_log(impl.disk, impl.until, replay, on_progress));
  impl.engine->finish_replay(out.last_batch_at);
  impl.last_batch_at = out.last_batch_at;
  replay.settle();
  // How many frames a hole has swallowed is known only behind it.
  for (Loss& loss : out.losses) {
    for (log::Damage const& damage : scanned.damages) {
      bool const is_it =
          damage.ordinal == loss.damage.ordinal && damage.from == loss.damage.from && damage.kind == loss.damage.kind;
      if (is_it) loss.damage.frames_lost = damage.frames_lost;
    }
    out.frames_lost += loss.damage.frames_lost;
  }
  out.format_version = scanned.format_version;
  out.log_id = scanned.log_id;

  out.health = end && out.losses.empty() ? Health::healthy : Health::damaged;
  if (out.health == Health::healthy && out.contradictions > 0) {
    out.health = Health::damaged;
    out.refusal = Error{.code = ErrorCode::log_corrupt, .message = "records of the log contradict each other"};
  }
  if (out.health == Health::healthy && end->torn) {
    out.health = Health::torn;
    out.torn_at = end->next;
    out.torn_bytes = end->torn_bytes;
  }
  for (SegmentFigures& segment : out.segments) {
    segment.used_bytes = std::max<std::uint64_t>(segment.used_bytes, log::kSegmentHeaderBytes);
    segment.live_records = impl.engine->live_records_in(segment.ordinal) + impl.cache.live_records_in(segment.ordinal);
    out.used_bytes += segment.used_bytes;
  }
  out.live_bytes = impl.engine->live_bytes() + impl.cache.live_bytes();
  out.cached = impl.cache.figures().entries;
  out.jobs = impl.engine->status();
  impl.engine->queue_views(out.queues);
  return out;
}

namespace {

// Goes over the log a second time and writes what lives into another, whose segments the engine takes for later ones of
// the same log: `shift` is the ordinal of the last old one.
class Rebuild final : public log::ScanVisitor {
 public:
  Rebuild(engine::Engine& engine, cache::Cache const& cache, KeptFrames& kept, log::Log& fresh, std::uint32_t shift,
          Instant at)
      : engine_(engine), cache_(cache), reader_(kept), fresh_(fresh), shift_(shift), at_(at) {
    begin();
  }

  Result<> frame(log::FrameHeader const& header, BytesView payload) override {
    if (header.kind != log::FrameKind::batch) return {};
    Position base = header.start;
    base.offset += log::kFrameHeaderBytes;
    bool is_readable = true;
    Result<> written;
    [[maybe_unused]] auto const read = log::for_each_record(
        payload, [&](Effect const& record, std::uint32_t offset, std::uint32_t /*bytes*/) -> Result<> {
          written = survive(record, {base.segment, base.offset + offset});
          is_readable = written.has_value();
          return written;
        });
    return is_readable ? Result<>{} : written;
  }
  void damage(log::Damage const&, BytesView) override {}

  Result<> finish() { return flush(); }
  Examiner::Rebuilt const& rebuilt() const { return rebuilt_; }

 private:
  void begin() {
    Position base = fresh_.next_base();
    base.segment += shift_;
    batch_.begin(base);
    engine_.begin_batch(base, batch_);
  }

  Result<> survive(Effect const& record, Position at) {
    if (engine_.survive(record, at, batch_) == engine::Engine::Survival::copy_job) {
      auto const number = job_of(record);
      WM_ASSERT(number.has_value());
      WM_TRY_VOID(copy(*number));
    }
    copy_cached(record, at);
    return batch_.payload().size() < kRebuiltBatchBytes ? Result<>{} : flush();
  }

  void copy_cached(Effect const& record, Position at) {
    auto const* const stored = std::get_if<effect::CacheStored>(&record);
    auto const* const failed = std::get_if<effect::CacheFailed>(&record);
    if (stored == nullptr && failed == nullptr) return;
    auto const place = stored != nullptr ? cache_.place(stored->key) : cache_.failure_place(failed->key);
    if (!place || place->at != at) return;
    Effect copy = record;
    if (auto* const value = std::get_if<effect::CacheStored>(&copy)) value->is_copy = true;
    batch_.write(copy);
    ++rebuilt_.cached;
  }

  Result<> copy(JobNumber number) {
    auto view = engine_.view(number);
    WM_ASSERT(view.has_value());
    ++rebuilt_.jobs;
    auto filled = reader_.fill(*view);
    if (!filled) {
      if (filled.error().code != ErrorCode::log_corrupt || view->spec.empty()) return filled;
      // An event that lies in what is lost: the newer ones have been read.
      view->history.finished_at = view->finished_at;
      view->history.progress = view->progress;
      if (view->state != JobState::completed) {
        view->history.result_kind = PayloadKind::none;
        view->history.result.clear();
      }
    }
    bool is_short = !filled;
    // Of one that is lost the copy says so, and the next lease ends the job (docs/adr/0014).
    auto checkpoint = reader_.checkpoint(view->checkpoint_at);
    if (!checkpoint && checkpoint.error().code != ErrorCode::log_corrupt) {
      return std::unexpected(std::move(checkpoint).error());
    }
    is_short = is_short || !checkpoint;
    view->checkpoint = checkpoint ? *std::move(checkpoint) : JobCheckpoint{.is_lost = true};
    if (view->log_at) {
      auto lines = reader_.log_lines(*view);
      if (!lines && lines.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(lines).error());
      is_short = is_short || !lines;
      if (lines) view->history.log_lines = std::move(*lines);
    }
    rebuilt_.shortened += is_short ? 1 : 0;
    Bytes history;
    encode_history(view->history, history);
    engine_.copy_ahead(number, view->spec, history, view->checkpoint, batch_);
    return {};
  }

  Result<> flush() {
    if (batch_.empty()) return {};
    fresh_.stage(batch_.payload(), at_);
    WM_TRY_VOID(fresh_.flush());
    begin();
    return {};
  }

  engine::Engine& engine_;
  cache::Cache const& cache_;
  JobReader reader_;
  log::Log& fresh_;
  std::uint32_t const shift_;
  Instant const at_;
  Batch batch_;
  Examiner::Rebuilt rebuilt_;
};

}  // namespace

Result<Examiner::Rebuilt> Examiner::rebuild(log::Log& fresh, OnProgress const& on_progress) {
  Impl& impl = *impl_;
  WM_ASSERT(impl.engine != nullptr);
  Rebuild rebuild{*impl.engine, impl.cache, impl.kept, fresh, impl.last_ordinal, impl.last_batch_at};
  WM_TRY([[maybe_unused]] auto const scanned, log::scan_log(impl.disk, impl.until, rebuild, on_progress));
  WM_TRY_VOID(rebuild.finish());
  return rebuild.rebuilt();
}

}  // namespace workmill::shard
