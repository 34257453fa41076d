#include "shard/job_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "log/record.h"

namespace workmill::shard {
namespace {

// Two events an attempt (leased, failed), and some to spare: more than it takes to find kErrorsKept errors. What lies
// further back is not shown.
constexpr int kEventsReadMax = 64;
// Of the chain of log lines: one record a report.
constexpr int kLogRecordsReadMax = 4'096;

// With its end, which takes a byte too: or empty lines were kept without a bound.
std::size_t kept_bytes(BytesView line) { return line.size() + 1; }

Error where(Error error, Position at) {
  return with_context(std::move(error),
                      fmt::format("reading the record at segment {}, offset {}", at.segment, at.offset));
}

// Takes from an event what newer events have not said yet, and answers with the position of the one before it.
struct HistoryFiller {
  JobHistory& history;
  JobNumber number;

  Position operator()(effect::JobLeased const& leased) const {
    if (!history.started_at) {
      history.started_at = leased.at;
      history.worker = leased.worker;
    }
    return leased.previous;
  }
  Position operator()(effect::JobFailed const& failed) const {
    if (history.errors.size() < kErrorsKept) {
      history.errors.push_back(JobError{.error_class = failed.error_class,
                                        .code = Bytes(failed.code),
                                        .message = Bytes(failed.message),
                                        .detail = Bytes(failed.detail),
                                        .attempt = failed.attempt,
                                        .at = failed.at});
    }
    return failed.previous;
  }
  Position operator()(effect::JobCompleted const& completed) const {
    history.result_kind = completed.result_kind;
    history.result = completed.result;
    return completed.previous;
  }
  Position operator()(effect::JobCancelled const& cancelled) const { return cancelled.previous; }
  // A snapshot holds all that was before it.
  Position operator()(effect::JobSnapshot const& snapshot) const {
    auto older = decode_history(snapshot.history);
    if (!older) return {};  // Its checksum was right, so this is our bug; the newer events are still worth showing.
    if (!history.started_at) {
      history.started_at = older->started_at;
      history.worker = std::move(older->worker);
    }
    if (history.result_kind == PayloadKind::none) {
      history.result_kind = older->result_kind;
      history.result = std::move(older->result);
    }
    for (JobError& error : older->errors) {
      if (history.errors.size() < kErrorsKept) history.errors.push_back(std::move(error));
    }
    return {};
  }
  template <class Other>
  Position operator()(Other const&) const {
    return {};  // No event of a job's chain: nothing to follow.
  }
};

}  // namespace

Result<BytesView> JobReader::bytes(Position at, std::size_t length) {
  if (open_ != nullptr && at.segment == base_.segment && at.offset >= base_.offset) {
    std::size_t const offset = at.offset - base_.offset;
    if (offset + length > open_->size()) return fail(ErrorCode::log_corrupt, "a record reaches beyond the open batch");
    return BytesView(*open_).substr(offset, length);
  }
  return log_.read(at, length);
}

Result<BytesView> JobReader::record(Position at, std::uint32_t length) { return bytes(at, length); }

Result<BytesView> JobReader::record(Position at) {
  WM_TRY(auto const header, bytes(at, log::kRecordHeaderBytes));
  return bytes(at, log::record_bytes(header));
}

bool JobReader::is_kept(Position at) const {
  auto const status = log_.status();
  return !status.segments.empty() && at.segment >= status.segments.front().ordinal;
}

std::move_only_function<void()> JobReader::fetch(Position at, std::uint32_t length) {
  bool const is_open = open_ != nullptr && at.segment == base_.segment && at.offset >= base_.offset;
  return is_open ? std::move_only_function<void()>{} : log_.fetch(at, length);
}

Result<Bytes> JobReader::spec(Position at, std::uint32_t length) {
  auto whole = record(at, length);
  if (!whole) return std::unexpected(where(std::move(whole).error(), at));
  auto spec = log::spec_of(*whole);
  if (!spec) return std::unexpected(where(std::move(spec).error(), at));
  return Bytes(*spec);
}

Result<JobCheckpoint> JobReader::checkpoint(Position at) {
  if (!at) return JobCheckpoint{};
  auto const whole = record(at);
  if (!whole) return std::unexpected(where(whole.error(), at));
  auto const parsed = log::parse_record(*whole);
  if (!parsed) return std::unexpected(where(parsed.error(), at));
  if (auto const* made = std::get_if<effect::CheckpointMade>(&*parsed)) return JobCheckpoint{.data = Bytes(made->data)};
  if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&*parsed)) {
    return JobCheckpoint{.data = Bytes(snapshot->checkpoint), .is_lost = snapshot->checkpoint_lost};
  }
  return fail(ErrorCode::log_corrupt, "where a checkpoint should stand, there is a record of another kind");
}

Result<> JobReader::fill(JobView& view) {
  WM_TRY(view.spec, spec(view.spec_at, view.spec_bytes));
  WM_TRY_VOID(fill_history(view));
  WM_TRY(view.checkpoint, checkpoint(view.checkpoint_at));
  return {};
}

Result<std::optional<Error>> JobReader::fill_over_damage(JobView& view, engine::Engine const& engine, Instant now) {
  std::optional<Error> damage;
  auto read = spec(view.spec_at, view.spec_bytes);
  if (read) {
    view.spec = *std::move(read);
  } else if (read.error().code == ErrorCode::log_corrupt) {
    damage = std::move(read).error();
    view.spec = engine.known_spec(view.number);
  } else {
    return std::unexpected(std::move(read).error());
  }
  if (auto history = fill_history(view); !history) {
    if (history.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(history).error());
    if (!damage) damage = std::move(history).error();
  }
  auto left = checkpoint(view.checkpoint_at);
  if (!left && left.error().code != ErrorCode::log_corrupt) return std::unexpected(std::move(left).error());
  view.checkpoint = left ? *std::move(left) : JobCheckpoint{.is_lost = true};
  if (!left && !damage) damage = std::move(left).error();
  if (damage) say_damaged(view, now);
  return damage;
}

void JobReader::say_damaged(JobView& view, Instant now) {
  auto& errors = view.history.errors;
  if (!errors.empty() && errors.front().code == to_string(ErrorCode::payload_damaged)) return;
  errors.insert(errors.begin(), JobError{.error_class = class_of(ErrorCode::payload_damaged),
                                         .code = Bytes(to_string(ErrorCode::payload_damaged)),
                                         .message = "a part of this job is damaged on the disk and is not shown",
                                         .detail = {},
                                         .attempt = view.attempt,
                                         .at = now});
  if (errors.size() > kErrorsKept) errors.pop_back();
}

Result<> JobReader::fill_history(JobView& view) {
  view.history = {};
  auto const read = follow_events(view);
  view.history.finished_at = view.finished_at;  // Not every end is an event of the chain.
  if (view.state != JobState::completed) {
    view.history.result_kind = PayloadKind::none;
    view.history.result.clear();
  }
  view.history.progress = view.progress;
  return read;
}

Result<> JobReader::follow_events(JobView& view) {
  Position at = view.event_at;
  for (int i = 0; at && i < kEventsReadMax; ++i) {
    auto const whole = record(at);
    if (!whole) return std::unexpected(where(whole.error(), at));
    auto const event = log::parse_record(*whole);
    if (!event) return std::unexpected(where(event.error(), at));
    at = std::visit(HistoryFiller{view.history, view.number}, *event);
  }
  return {};
}

Result<std::vector<Bytes>> JobReader::log_lines(JobView const& view) {
  std::vector<std::vector<Bytes>> chunks;  // Newest first.
  std::size_t kept = 0;
  Position at = view.log_at;
  for (int i = 0; at && i < kLogRecordsReadMax && kept < kLogBytesKept; ++i) {
    auto const whole = record(at);
    if (!whole) return std::unexpected(where(whole.error(), at));
    auto const parsed = log::parse_record(*whole);
    if (!parsed) return std::unexpected(where(parsed.error(), at));
    std::vector<Bytes> lines;
    if (auto const* logged = std::get_if<effect::LinesLogged>(&*parsed)) {
      ByteReader reader{logged->lines};
      while (reader.ok() && reader.remaining() > 0) lines.emplace_back(reader.bytes());
      at = logged->previous;
    } else if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&*parsed)) {
      WM_TRY(auto history, decode_history(snapshot->history));
      lines = std::move(history.log_lines);
      at = {};
    } else {
      return fail(ErrorCode::log_corrupt, "a chain of log lines leads to a record of another kind");
    }
    for (Bytes const& line : lines) kept += kept_bytes(line);
    chunks.push_back(std::move(lines));
  }
  std::vector<Bytes> all;
  for (auto chunk = chunks.rbegin(); chunk != chunks.rend(); ++chunk) {
    std::move(chunk->begin(), chunk->end(), std::back_inserter(all));
  }
  std::size_t drop = 0;  // Whole lines from the front, until the rest fits.
  while (kept > kLogBytesKept && drop < all.size()) kept -= kept_bytes(all[drop++]);
  all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(drop));
  return all;
}

}  // namespace workmill::shard
