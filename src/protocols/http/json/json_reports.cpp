#include "protocols/http/json/json_in_parser.h"

#include <fmt/format.h>

#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_writer.h"
#include "model/cache_set.h"
#include "protocols/http/field_names.h"
#include "protocols/http/request_values.h"
#include "protocols/http/response.h"

// Reports of workers.
namespace workmill::http {

enum class ReportField : std::uint8_t {
  id,
  lease,
  outcome,
  result,
  result_base64,
  cache,
  error,
  retry_in,
  for_long,
  percent,
  message,
  lines,
  data
};

namespace {

constexpr FieldNames<13> kReportFields{{"id", "lease", "outcome", "result", "result_base64", "cache", "error",
                                        "retry_in", "for", "percent", "message", "lines", "data"}};

enum class ErrorField : std::uint8_t { error_class, code, message, detail };
constexpr FieldNames<4> kErrorFields{{"class", "code", "message", "detail"}};

enum class CacheEntryField : std::uint8_t { key, value, value_base64, content_type, fresh, stale, tags };
constexpr FieldNames<7> kCacheEntryFields{{"key", "value", "value_base64", "content_type", "fresh", "stale", "tags"}};

constexpr FieldNames<1> kReportsOnly{{"reports"}};

// An error's detail, which is JSON: what is too long to be kept becomes a string with its beginning.
Bytes cut_json(std::string_view json) {
  if (json.size() <= kErrorTextBytesMax) return Bytes{json};
  Bytes text;
  for (std::size_t bytes = kErrorTextBytesMax; text.empty() || text.size() > kErrorTextBytesMax;
       bytes = bytes * 3 / 4) {
    text.clear();
    append_json_string(cut(json, bytes), text);
  }
  return text;
}

std::optional<ErrorClass> parse_error_class(std::string_view text) {
  for (auto const error_class : {ErrorClass::retryable, ErrorClass::user, ErrorClass::fatal}) {
    if (to_string(error_class) == text) return error_class;
  }
  return std::nullopt;
}

}  // namespace

bool JsonIn::Parser::reports_body(ReportBatch& batch) {
  Seen seen;
  bool const well = members(kReportsOnly, seen, [&](std::size_t) { return reports(batch.reports); });
  return well && (seen.only(0) || missing("reports"));
}

bool JsonIn::Parser::reports(std::vector<Report>& reports) {
  return elements(kReportsPerRequestMax, [&] { return report(reports.emplace_back()); });
}

bool JsonIn::Parser::report(Report& report) {
  ReportParts parts;
  bool const well = members(kReportFields, parts.seen,
                            [&](std::size_t place) { return report_field(static_cast<ReportField>(place), parts); });
  if (!well) return false;
  if (!parts.seen.has(ReportField::id)) return missing("id");
  if (!parts.seen.has(ReportField::lease)) return missing("lease");
  if (!parts.seen.has(ReportField::outcome)) return missing("outcome");
  report.job = service_.job_ref(parts.id);
  report.lease = parse_token(parts.lease).value_or(LeaseToken{});
  return outcome(parts, report.outcome);
}

bool JsonIn::Parser::report_field(ReportField field, ReportParts& parts) {
  switch (field) {
    case ReportField::id: return name(parts.id);
    case ReportField::lease: return string(parts.lease);
    case ReportField::outcome: return string(parts.outcome);
    case ReportField::result:
      if (parts.seen.has(ReportField::result_base64)) {
        return invalid("cannot stand beside result_base64: send one of them");
      }
      return json(parts.result);
    case ReportField::result_base64:
      if (parts.seen.has(ReportField::result)) return invalid("cannot stand beside result: send one of them");
      raw_.clear();
      if (!base64(raw_)) return false;
      parts.result = raw_;
      return true;
    case ReportField::error: return report_error(parts.failed);
    case ReportField::retry_in: return duration(parts.retry_in);
    case ReportField::for_long: return duration(parts.extend_by, kLeaseMin, kLeaseMax);
    case ReportField::percent: return whole_number(parts.percent, 100);
    case ReportField::message: return string(parts.message);
    case ReportField::lines: return log_lines(parts.lines);
    case ReportField::data: return json(parts.data);
    case ReportField::cache:
      return elements(kCacheSetsPerReportMax, [&] { return cache_entry(parts.cache.emplace_back()); });
  }
  return false;
}

bool JsonIn::Parser::report_error(Failed& failed) {
  Seen seen;
  failed.code = "failed";
  return members(kErrorFields, seen, [&](std::size_t place) {
    std::string_view text;
    switch (static_cast<ErrorField>(place)) {
      case ErrorField::error_class:
        return choice(failed.error_class, &parse_error_class, "must be retryable, user or fatal");
      case ErrorField::code: return name(failed.code);
      case ErrorField::message:
        if (!string(text)) return false;
        failed.message = cut(text, kErrorTextBytesMax);
        return true;
      case ErrorField::detail:
        if (!json(text)) return false;
        failed.detail = cut_json(text);
        return true;
    }
    return false;
  });
}

bool JsonIn::Parser::log_lines(std::vector<Bytes>& lines) {
  return elements(kLogLinesPerReportMax, [&] {
    std::string_view line;
    if (!string(line)) return false;
    lines.emplace_back(cut(line, kLogLineBytesMax));
    return true;
  });
}

bool JsonIn::Parser::cache_entry(CacheEntrySet& entry) {
  Seen seen;
  std::optional<Duration> fresh, stale;
  std::string_view text;
  bool const well = members(kCacheEntryFields, seen, [&](std::size_t place) {
    switch (static_cast<CacheEntryField>(place)) {
      case CacheEntryField::key:
        if (!string(text)) return false;
        entry.key = text;
        return is_cache_key(entry.key) || invalid(std::string{kBadCacheKey});
      case CacheEntryField::value:
        if (seen.has(CacheEntryField::value_base64)) {
          return invalid("cannot stand beside value_base64: send one of them");
        }
        if (!json(text)) return false;
        entry.set.body = text;
        return true;
      case CacheEntryField::value_base64:
        if (seen.has(CacheEntryField::value)) return invalid("cannot stand beside value: send one of them");
        return base64(entry.set.body);
      case CacheEntryField::content_type:
        if (!string(text)) return false;
        entry.set.content_type = text;
        return is_cache_content_type(text) || invalid("must be 1 to 255 visible ASCII characters and spaces");
      case CacheEntryField::fresh: return duration(fresh, Duration{0}, kCacheWindowMax);
      case CacheEntryField::stale: return duration(stale, Duration{0}, kCacheWindowMax);
      case CacheEntryField::tags: return elements(kCacheTagsMax, [&] { return name(entry.set.tags.emplace_back()); });
    }
    return false;
  });
  if (!well) return false;
  if (!seen.has(CacheEntryField::key)) return missing("key");
  bool const is_json = seen.has(CacheEntryField::value);
  if (!is_json && !seen.has(CacheEntryField::value_base64)) return missing("value");
  if (!seen.has(CacheEntryField::content_type)) {
    entry.set.content_type = is_json ? content_type::kJson : content_type::kBytes;
  }
  entry.set.fresh = fresh.value_or(kFreshDefault);
  entry.set.stale = stale.value_or(Duration{0});
  auto rules = check_cache_set(entry.set);
  return rules || broken_rule(std::move(rules).error());
}

// Puts the outcome together, once all fields are known. What belongs to another outcome is refused.
bool JsonIn::Parser::outcome(ReportParts& parts, Outcome& made) {
  using enum ReportField;
  auto const allows = [&](std::initializer_list<ReportField> fields) {
    for (std::size_t place = std::to_underlying(result); place <= std::to_underlying(data); ++place) {
      auto const field = static_cast<ReportField>(place);
      bool allowed = !parts.seen.has(field);
      for (ReportField const other : fields) allowed |= other == field;
      if (!allowed)
        return invalid(fmt::format("does not belong to the outcome {}", parts.outcome), kReportFields.name(place));
    }
    return true;
  };

  if (parts.outcome == "completed") {
    if (!allows({result, result_base64, ReportField::cache})) return false;
    if (parts.result.size() > kResultBytesMax) {
      return fail(ErrorCode::payload_too_large, fmt::format("must be {} bytes at most", kResultBytesMax), "result");
    }
    PayloadKind const kind = parts.seen.has(result)          ? PayloadKind::json
                             : parts.seen.has(result_base64) ? PayloadKind::raw
                                                             : PayloadKind::none;
    made = Completed{.result_kind = kind, .result = Bytes{parts.result}, .cache = std::move(parts.cache)};
    return true;
  }
  if (parts.outcome == "failed") {
    if (!allows({error, retry_in})) return false;
    if (!parts.seen.has(error)) return missing("error");
    parts.failed.retry_in = parts.retry_in;
    made = std::move(parts.failed);
    return true;
  }
  if (parts.outcome == "extend") {
    if (!allows({for_long})) return false;
    if (!parts.extend_by) return missing("for");
    made = Extend{.by = *parts.extend_by};
    return true;
  }
  if (parts.outcome == "progress") {
    if (!allows({percent, message})) return false;
    if (!parts.seen.has(percent)) return missing("percent");
    made = Progress{.percent = static_cast<std::uint8_t>(parts.percent),
                    .message = Bytes{cut(parts.message, kErrorTextBytesMax)}};
    return true;
  }
  if (parts.outcome == "log") {
    if (!allows({lines})) return false;
    if (!parts.seen.has(lines)) return missing("lines");
    made = LogLines{.lines = std::move(parts.lines)};
    return true;
  }
  if (parts.outcome == "released") {
    made = Released{};
    return allows({});
  }
  if (parts.outcome == "checkpoint") {
    if (!allows({data})) return false;
    if (!parts.seen.has(data)) return missing("data");
    if (parts.data.size() > kCheckpointBytesMax) {
      return fail(ErrorCode::payload_too_large, fmt::format("must be {} bytes at most", kCheckpointBytesMax), "data");
    }
    made = Checkpoint{.data = Bytes{parts.data}};
    return true;
  }
  return invalid("must be completed, failed, extend, progress, log, checkpoint or released", "outcome");
}

}  // namespace workmill::http
