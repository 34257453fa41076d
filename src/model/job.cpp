#include "model/job.h"

#include <array>
#include <string>
#include <utility>

#include "base/byte_packer.h"
#include "model/cache_set.h"

namespace workmill {
namespace {

constexpr std::array<std::string_view, kJobStates> kStateNames{"scheduled", "ready", "leased",
                                                               "completed", "dead",  "cancelled"};
constexpr std::array<std::string_view, 3> kUniqueNames{"scheduled", "queued", "unfinished"};

// Which fields of a spec follow, in this order. The commonest have the low bits, so that the mask is mostly one byte.
constexpr std::uint32_t kHasPayloadKind = 0b11;  // PayloadKind itself; the payload is all that is left at the end.
constexpr std::uint32_t kHasQueue = 1U << 2;
constexpr std::uint32_t kHasTraceparent = 1U << 3;
constexpr std::uint32_t kHasId = 1U << 4;
constexpr std::uint32_t kHasPriority = 1U << 5;
constexpr std::uint32_t kHasMaxAttempts = 1U << 6;
constexpr std::uint32_t kHasDelay = 1U << 7;
constexpr std::uint32_t kHasRunAt = 1U << 8;
constexpr std::uint32_t kHasExpiresIn = 1U << 9;
constexpr std::uint32_t kHasBackoff = 1U << 10;
constexpr std::uint32_t kHasLease = 1U << 11;
constexpr std::uint32_t kHasUniqueKey = 1U << 12;
constexpr std::uint32_t kHasUniqueWhile = 1U << 13;
constexpr std::uint32_t kHasUniqueFor = 1U << 14;
constexpr std::uint32_t kHasGroup = 1U << 15;
constexpr std::uint32_t kHasTags = 1U << 16;
constexpr std::uint32_t kHasKeepResult = 1U << 17;
constexpr std::uint32_t kHasMeta = 1U << 18;
constexpr std::uint32_t kHasTracestate = 1U << 19;
constexpr std::uint32_t kHasCache = 1U << 20;
constexpr std::uint32_t kHasBatch = 1U << 21;
constexpr std::uint32_t kAllSpecFields = (1U << 22) - 1;
constexpr std::uint32_t kRareSpecFields = kAllSpecFields & ~(kHasPayloadKind | kHasQueue | kHasTraceparent | kHasId);
constexpr std::string_view kDefaultQueue = "default";

constexpr std::uint32_t kHasResultKind = 0b11;  // PayloadKind itself; the result is all that is left at the end.
constexpr std::uint32_t kHasStartedAt = 1U << 2;
constexpr std::uint32_t kHasFinishedAt = 1U << 3;
constexpr std::uint32_t kHasWorker = 1U << 4;
constexpr std::uint32_t kHasErrors = 1U << 5;
constexpr std::uint32_t kHasProgress = 1U << 6;
constexpr std::uint32_t kHasLogLines = 1U << 7;

std::uint32_t fields_of(JobSpecView const& spec) {
  auto mask = static_cast<std::uint32_t>(std::to_underlying(spec.payload_kind));
  auto const add = [&](bool present, std::uint32_t field) { mask |= present ? field : 0U; };
  add(spec.queue != kDefaultQueue, kHasQueue);
  add(!spec.traceparent.empty(), kHasTraceparent);
  add(!spec.id.empty(), kHasId);
  add(spec.priority != kPriorityDefault, kHasPriority);
  add(spec.max_attempts.has_value(), kHasMaxAttempts);
  add(spec.delay.has_value(), kHasDelay);
  add(spec.run_at.has_value(), kHasRunAt);
  add(spec.expires_in.has_value(), kHasExpiresIn);
  add(spec.backoff.has_value(), kHasBackoff);
  add(spec.lease.has_value(), kHasLease);
  add(!spec.unique_key.empty(), kHasUniqueKey);
  add(spec.unique_while != UniqueWhile::unfinished, kHasUniqueWhile);
  add(spec.unique_for.has_value(), kHasUniqueFor);
  add(!spec.group.empty(), kHasGroup);
  add(!spec.tags.empty(), kHasTags);
  add(spec.keep_result.has_value(), kHasKeepResult);
  add(!spec.meta.empty(), kHasMeta);
  add(!spec.tracestate.empty(), kHasTracestate);
  add(!spec.cache_key.empty(), kHasCache);
  add(!spec.batch.empty(), kHasBatch);
  return mask;
}

std::size_t spec_bytes_max(JobSpecView const& spec, std::uint32_t mask) {
  std::size_t bytes = 4 + packed_bytes_max(spec.type) + packed_bytes_max(spec.queue) +
                      packed_bytes_max(spec.traceparent) + packed_bytes_max(spec.id) + spec.payload.size();
  if ((mask & kRareSpecFields) == 0) return bytes;
  bytes += packed_bytes_max(spec.unique_key) + packed_bytes_max(spec.group) + packed_bytes_max(spec.meta) +
           packed_bytes_max(spec.tracestate) + packed_bytes_max(spec.cache_key) + packed_bytes_max(spec.batch);
  bytes += 20 * kVarintBytesMax;  // All numbers, with room to spare.
  for (std::string_view const tag : spec.tags) bytes += packed_bytes_max(tag);
  for (std::string_view const tag : spec.cache_tags) bytes += packed_bytes_max(tag);
  return bytes;
}

void pack_tags(std::vector<std::string_view> const& tags, BytePacker& out) {
  out.varint(tags.size());
  for (std::string_view const tag : tags) out.bytes(tag);
}

void pack_rare_fields(JobSpecView const& spec, std::uint32_t mask, BytePacker& out) {
  if (mask & kHasPriority) out.u8(spec.priority);
  if (spec.max_attempts) out.varint(*spec.max_attempts);
  if (spec.delay) out.zigzag(spec.delay->count());
  if (spec.run_at) out.zigzag(to_ms(*spec.run_at));
  if (spec.expires_in) out.zigzag(spec.expires_in->count());
  if (spec.backoff) {
    out.zigzag(spec.backoff->first.count());
    out.varint(spec.backoff->factor_permille);
    out.zigzag(spec.backoff->cap.count());
    out.varint(spec.backoff->jitter_permille);
  }
  if (spec.lease) out.zigzag(spec.lease->count());
  if (mask & kHasUniqueKey) out.bytes(spec.unique_key);
  if (mask & kHasUniqueWhile) out.u8(std::to_underlying(spec.unique_while));
  if (spec.unique_for) out.zigzag(spec.unique_for->count());
  if (mask & kHasGroup) out.bytes(spec.group);
  if (mask & kHasTags) pack_tags(spec.tags, out);
  if (spec.keep_result) out.zigzag(spec.keep_result->count());
  if (mask & kHasMeta) out.bytes(spec.meta);
  if (mask & kHasTracestate) out.bytes(spec.tracestate);
  if (mask & kHasCache) {
    out.bytes(spec.cache_key);
    out.zigzag(spec.cache_fresh.count());
    out.zigzag(spec.cache_stale.count());
    out.zigzag(spec.cache_error_for.count());
    pack_tags(spec.cache_tags, out);
  }
  if (mask & kHasBatch) out.bytes(spec.batch);
}

// Reads, and keeps in mind whether what it read could have been written: a field that has no bytes, or its default
// value, would not have been.
class FieldReader {
 public:
  explicit FieldReader(BytesView in) : in_(in) {}

  ByteReader& in() { return in_; }
  void require(bool condition) { ok_ &= condition; }
  std::string_view text() {
    std::string_view const value = in_.bytes();
    require(!value.empty());
    return value;
  }
  Duration duration() { return Duration{in_.zigzag()}; }
  Instant instant() { return instant_from_ms(in_.zigzag()); }
  std::uint32_t number() {
    std::uint64_t const value = in_.varint();
    require(value <= UINT32_MAX);
    return static_cast<std::uint32_t>(value);
  }
  PayloadKind payload_kind(std::uint32_t bits, PayloadKind most) {
    require(bits <= std::to_underlying(most));
    return static_cast<PayloadKind>(bits);
  }
  // All that is left: the last field.
  BytesView rest(PayloadKind kind) {
    BytesView const value = in_.raw(in_.remaining());
    require((kind != PayloadKind::none && kind != PayloadKind::lost) || value.empty());
    return value;
  }
  bool done() const { return ok_ && in_.done(); }
  bool ok() const { return ok_ && in_.ok(); }

 private:
  ByteReader in_;
  bool ok_ = true;
};

void read_tags(FieldReader& reader, std::vector<std::string_view>& tags) {
  std::uint64_t const count = reader.in().varint();
  // Ends with the bytes, whatever `count` says.
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) tags.push_back(reader.in().bytes());
}

void read_rare_fields(FieldReader& reader, std::uint32_t mask, JobSpecView& spec) {
  if (mask & kHasPriority) {
    spec.priority = reader.in().u8();
    reader.require(spec.priority != kPriorityDefault);
  }
  if (mask & kHasMaxAttempts) spec.max_attempts = reader.number();
  if (mask & kHasDelay) spec.delay = reader.duration();
  if (mask & kHasRunAt) spec.run_at = reader.instant();
  if (mask & kHasExpiresIn) spec.expires_in = reader.duration();
  if (mask & kHasBackoff) {
    Backoff& backoff = spec.backoff.emplace();
    backoff.first = reader.duration();
    backoff.factor_permille = reader.number();
    backoff.cap = reader.duration();
    backoff.jitter_permille = reader.number();
  }
  if (mask & kHasLease) spec.lease = reader.duration();
  if (mask & kHasUniqueKey) spec.unique_key = reader.text();
  if (mask & kHasUniqueWhile) {
    std::uint8_t const value = reader.in().u8();
    reader.require(value < std::to_underlying(UniqueWhile::unfinished));
    spec.unique_while = static_cast<UniqueWhile>(value);
  }
  if (mask & kHasUniqueFor) spec.unique_for = reader.duration();
  if (mask & kHasGroup) spec.group = reader.text();
  if (mask & kHasTags) {
    read_tags(reader, spec.tags);
    reader.require(!spec.tags.empty());
  }
  if (mask & kHasKeepResult) spec.keep_result = reader.duration();
  if (mask & kHasMeta) spec.meta = reader.text();
  if (mask & kHasTracestate) spec.tracestate = reader.text();
  if (mask & kHasCache) {
    spec.cache_key = reader.text();
    spec.cache_fresh = reader.duration();
    spec.cache_stale = reader.duration();
    spec.cache_error_for = reader.duration();
    read_tags(reader, spec.cache_tags);
  }
  if (mask & kHasBatch) spec.batch = reader.text();
}

auto invalid(std::string field, std::string message) {
  return fail_field(ErrorCode::invalid_field, std::move(field), std::move(message));
}
auto bad_name(std::string field) {
  return invalid(std::move(field), "must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -");
}

Result<> check_duration(std::string_view field, std::optional<Duration> const& value, Duration min, Duration max) {
  if (!value || (*value >= min && *value <= max)) return {};
  return invalid(std::string{field}, "must be from " + format_duration(min) + " to " + format_duration(max));
}

Result<> check_backoff(Backoff const& backoff) {
  WM_TRY_VOID(check_duration("backoff.first", backoff.first, Duration{0}, kDurationMax));
  WM_TRY_VOID(check_duration("backoff.cap", backoff.cap, Duration{0}, kDurationMax));
  if (backoff.factor_permille < 1'000 || backoff.factor_permille > 100'000) {
    return invalid("backoff.factor", "must be from 1 to 100");
  }
  if (backoff.cap < backoff.first) return invalid("backoff.cap", "must not be shorter than backoff.first");
  if (backoff.jitter_permille > 1'000) return invalid("backoff.jitter", "must be from 0 to 1");
  return {};
}

Result<> check_times(JobSpecView const& spec) {
  bool const has_times =
      spec.delay || spec.run_at || spec.expires_in || spec.lease || spec.unique_for || spec.keep_result;
  if (!has_times) return {};  // Most jobs, and this is on the path of each.
  WM_TRY_VOID(check_duration("delay", spec.delay, Duration{0}, kDurationMax));
  if (spec.run_at && (*spec.run_at < kInstantMin || *spec.run_at > kInstantMax)) {
    return invalid("run_at", "must lie between the years 1970 and 9999");
  }
  if (spec.delay && spec.run_at) return invalid("run_at", "cannot stand beside delay: send one of them");
  WM_TRY_VOID(check_duration("expires_in", spec.expires_in, Duration{1}, kDurationMax));
  WM_TRY_VOID(check_duration("lease", spec.lease, kLeaseMin, kLeaseMax));
  WM_TRY_VOID(check_duration("unique.for", spec.unique_for, Duration{1}, kDurationMax));
  WM_TRY_VOID(check_duration("keep_result", spec.keep_result, Duration{0}, kDurationMax));
  return {};
}

Result<> check_tags(std::string const& field, std::vector<std::string_view> const& tags, std::size_t most) {
  if (tags.size() > most) return invalid(field, "must be " + std::to_string(most) + " at most");
  for (std::size_t i = 0; i < tags.size(); ++i) {
    if (!is_name(tags[i])) return bad_name(field + "[" + std::to_string(i) + "]");
  }
  return {};
}

Result<> check_flight(JobSpecView const& spec) {
  if (spec.cache_key.empty()) {
    bool const has_others = spec.cache_fresh != Duration{0} || spec.cache_stale != Duration{0} ||
                            spec.cache_error_for != Duration{0} || !spec.cache_tags.empty();
    if (has_others) return invalid("cache.key", "must not be empty");
    return {};
  }
  if (!is_cache_key(spec.cache_key)) {
    return invalid("cache.key",
                   "must be 1 to " + std::to_string(kCacheKeyBytesMax) + " bytes of UTF-8 without control characters");
  }
  if (!spec.unique_key.empty()) return invalid("unique.key", "a job that computes a cached value is unique by its key");
  if (!spec.id.empty()) return invalid("id", "a job that computes a cached value is known by its key");
  if (!spec.batch.empty()) return invalid("batch", "a job that computes a cached value is for all who ask for it");
  auto windows = check_cache_windows(spec.cache_fresh, spec.cache_stale);
  if (!windows) {
    windows.error().field.insert(0, "cache.");
    return windows;
  }
  WM_TRY_VOID(check_duration("cache.error_for", spec.cache_error_for, Duration{0}, kCacheErrorForMax));
  return check_tags("cache.tags", spec.cache_tags, kCacheTagsMax);
}

}  // namespace

std::string_view to_string(JobState state) { return kStateNames[std::to_underlying(state)]; }

std::optional<JobState> parse_job_state(std::string_view text) {
  for (std::size_t i = 0; i < kStateNames.size(); ++i) {
    if (kStateNames[i] == text) return static_cast<JobState>(i);
  }
  return std::nullopt;
}

std::string_view to_string(UniqueWhile value) { return kUniqueNames[std::to_underlying(value)]; }

std::optional<UniqueWhile> parse_unique_while(std::string_view text) {
  for (std::size_t i = 0; i < kUniqueNames.size(); ++i) {
    if (kUniqueNames[i] == text) return static_cast<UniqueWhile>(i);
  }
  return std::nullopt;
}

bool is_legal_move(JobState from, JobState to) {
  using enum JobState;
  switch (from) {
    case scheduled: return to == ready || to == cancelled || to == dead;                  // dead: it expired.
    case ready: return to == leased || to == scheduled || to == cancelled || to == dead;  // scheduled: by PATCH.
    case leased: return to != leased;
    case completed: return false;
    case dead:
    case cancelled: return to == ready;  // By retry.
  }
  return false;
}

void encode_spec(JobSpecView const& spec, Bytes& out) {
  std::uint32_t const mask = fields_of(spec);
  append_packed(out, spec_bytes_max(spec, mask), [&](BytePacker& packer) {
    packer.varint(mask);
    packer.bytes(spec.type);
    if (mask & kHasQueue) packer.bytes(spec.queue);
    if (mask & kHasTraceparent) packer.bytes(spec.traceparent);
    if (mask & kHasId) packer.bytes(spec.id);
    if (mask & kRareSpecFields) pack_rare_fields(spec, mask, packer);
    if (spec.payload_kind != PayloadKind::none) packer.raw(spec.payload);
  });
}

Result<> decode_spec(BytesView in, JobSpecView& view) {
  auto tags = std::move(view.tags);
  auto cache_tags = std::move(view.cache_tags);
  tags.clear();
  cache_tags.clear();
  view = JobSpecView{};
  view.tags = std::move(tags);
  view.cache_tags = std::move(cache_tags);

  FieldReader reader{in};
  std::uint32_t const mask = reader.number();
  reader.require(mask <= kAllSpecFields);
  view.payload_kind = reader.payload_kind(mask & kHasPayloadKind, PayloadKind::lost);
  view.type = reader.in().bytes();
  if (mask & kHasQueue) {
    view.queue = reader.in().bytes();
    reader.require(view.queue != kDefaultQueue);
  }
  if (mask & kHasTraceparent) view.traceparent = reader.text();
  if (mask & kHasId) view.id = reader.text();
  if (mask & kRareSpecFields) read_rare_fields(reader, mask, view);
  view.payload = reader.rest(view.payload_kind);
  if (!reader.done()) return fail(ErrorCode::log_corrupt, "a job's spec is damaged");
  return {};
}

bool is_payload_lost(BytesView spec) {
  // The kind has the low bits of the mask, and that is the first byte.
  return !spec.empty() &&
         (static_cast<unsigned char>(spec.front()) & kHasPayloadKind) == std::to_underlying(PayloadKind::lost);
}

bool names_batch(BytesView spec) {
  // The bit is in the fourth byte of the mask, which most specs do not have.
  if (spec.empty() || (static_cast<unsigned char>(spec.front()) & 0x80U) == 0) return false;
  return (ByteReader{spec}.varint() & kHasBatch) != 0;
}

Result<> check_spec(JobSpecView const& spec) {
  if (!is_name(spec.type)) return bad_name("type");
  if (!is_name(spec.queue)) return bad_name("queue");
  if (!spec.id.empty() && !is_name(spec.id)) return bad_name("id");
  if (spec.payload.size() > kPayloadBytesMax) {
    return fail_field(ErrorCode::payload_too_large, "payload",
                      "must be " + std::to_string(kPayloadBytesMax) + " bytes at most");
  }
  if (spec.priority > kPriorityMax) return invalid("priority", "must be from 0 to 9");
  WM_TRY_VOID(check_times(spec));
  if (spec.max_attempts && (*spec.max_attempts < 1 || *spec.max_attempts > kMaxAttemptsLimit)) {
    return invalid("max_attempts", "must be from 1 to " + std::to_string(kMaxAttemptsLimit));
  }
  if (spec.backoff) WM_TRY_VOID(check_backoff(*spec.backoff));
  if (spec.unique_key.size() > kUniqueKeyBytesMax) {
    return invalid("unique.key", "must be 1 to " + std::to_string(kUniqueKeyBytesMax) + " bytes");
  }
  if (spec.unique_key.empty() && (spec.unique_for || spec.unique_while != UniqueWhile::unfinished)) {
    return invalid("unique.key", "must not be empty");
  }
  if (!spec.group.empty() && !is_name(spec.group)) return bad_name("group");
  if (!spec.batch.empty() && !is_name(spec.batch)) return bad_name("batch");
  WM_TRY_VOID(check_tags("tags", spec.tags, kTagsMax));
  if (spec.meta.size() > kMetaBytesMax) {
    return fail_field(ErrorCode::payload_too_large, "meta",
                      "must be " + std::to_string(kMetaBytesMax) + " bytes at most");
  }
  if (!spec.meta.empty() && spec.meta.front() != '{') return invalid("meta", "must be an object");
  if (spec.traceparent.size() > kTraceparentBytesMax) return invalid("traceparent", "is too long");
  if (spec.tracestate.size() > kTracestateBytesMax) return invalid("tracestate", "is too long");
  return check_flight(spec);
}

void encode_history(JobHistory const& history, Bytes& out) {
  auto mask = static_cast<std::uint32_t>(std::to_underlying(history.result_kind));
  auto const add = [&](bool present, std::uint32_t field) { mask |= present ? std::uint32_t{field} : 0U; };
  add(history.started_at.has_value(), kHasStartedAt);
  add(history.finished_at.has_value(), kHasFinishedAt);
  add(!history.worker.empty(), kHasWorker);
  add(!history.errors.empty(), kHasErrors);
  add(history.progress.has_value(), kHasProgress);
  add(!history.log_lines.empty(), kHasLogLines);

  ByteWriter writer{out};
  writer.u8(static_cast<std::uint8_t>(mask));
  if (history.started_at) writer.zigzag(to_ms(*history.started_at));
  if (history.finished_at) writer.zigzag(to_ms(*history.finished_at));
  if (!history.worker.empty()) writer.bytes(history.worker);
  if (!history.errors.empty()) {
    writer.varint(history.errors.size());
    for (JobError const& error : history.errors) {
      writer.u8(std::to_underlying(error.error_class));
      writer.bytes(error.code);
      writer.bytes(error.message);
      writer.bytes(error.detail);
      writer.varint(error.attempt);
      writer.zigzag(to_ms(error.at));
    }
  }
  if (history.progress) {
    writer.u8(history.progress->percent);
    writer.bytes(history.progress->message);
  }
  if (!history.log_lines.empty()) {
    writer.varint(history.log_lines.size());
    for (Bytes const& line : history.log_lines) writer.bytes(line);
  }
  if (history.result_kind != PayloadKind::none) writer.raw(history.result);
}

Result<JobHistory> decode_history(BytesView in) {
  FieldReader reader{in};
  JobHistory history;
  std::uint8_t const mask = reader.in().u8();
  history.result_kind = reader.payload_kind(mask & kHasResultKind, PayloadKind::raw);
  if (mask & kHasStartedAt) history.started_at = reader.instant();
  if (mask & kHasFinishedAt) history.finished_at = reader.instant();
  if (mask & kHasWorker) history.worker = reader.text();
  if (mask & kHasErrors) {
    std::uint64_t const count = reader.in().varint();
    reader.require(count != 0);
    for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {  // Ends with the bytes, whatever `count` says.
      JobError& error = history.errors.emplace_back();
      std::uint8_t const error_class = reader.in().u8();
      reader.require(error_class <= std::to_underlying(ErrorClass::fatal));
      error.error_class = static_cast<ErrorClass>(error_class);
      error.code = reader.in().bytes();
      error.message = reader.in().bytes();
      error.detail = reader.in().bytes();
      error.attempt = reader.number();
      error.at = reader.instant();
    }
  }
  if (mask & kHasProgress) {
    JobProgress& progress = history.progress.emplace();
    progress.percent = reader.in().u8();
    reader.require(progress.percent <= 100);
    progress.message = reader.in().bytes();
  }
  if (mask & kHasLogLines) {
    std::uint64_t const count = reader.in().varint();
    reader.require(count != 0);
    for (std::uint64_t i = 0; i < count && reader.ok(); ++i) history.log_lines.emplace_back(reader.in().bytes());
  }
  history.result = reader.rest(history.result_kind);
  if (!reader.done()) return fail(ErrorCode::log_corrupt, "a job's history is damaged");
  return history;
}

}  // namespace workmill
