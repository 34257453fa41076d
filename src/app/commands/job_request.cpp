#include "app/commands/job_request.h"

#include <charconv>
#include <utility>

#include "app/json.h"
#include "base/base64.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

void member_if(JsonWriter& json, std::string_view name, std::string const& value) {
  if (!value.empty()) json.member(name, value);
}
template <class T>
void member_if(JsonWriter& json, std::string_view name, std::optional<T> const& value) {
  if (value) json.member(name, *value);
}

Result<> append_payload(JsonWriter& json, std::string_view payload, PayloadFrom from) {
  if (from == PayloadFrom::bytes) {
    json.key("payload_base64").plain_from([payload](std::string& out) { append_base64(payload, out); });
    return {};
  }
  if (from != PayloadFrom::text) {
    if (auto const document = parse_json(payload)) {
      json.key("payload").raw(document->root().raw);
      return {};
    }
    if (from == PayloadFrom::json) return fail(ErrorCode::malformed_json, "the payload is not JSON");
  }
  if (!is_utf8(payload)) {
    return fail(ErrorCode::malformed_json, "the payload is neither JSON nor UTF-8 text: --bytes sends it as it is");
  }
  json.member("payload", payload);
  return {};
}

}  // namespace

Result<std::string> job_json(JobOptions const& options, std::optional<std::string_view> payload, PayloadFrom from) {
  std::string out;
  JsonWriter json{out};
  json.begin_object().member("type", options.type);
  member_if(json, "queue", options.queue);
  member_if(json, "id", options.id);
  member_if(json, "priority", options.priority);
  member_if(json, "delay", options.delay);
  member_if(json, "run_at", options.run_at);
  member_if(json, "expires_in", options.expires_in);
  member_if(json, "max_attempts", options.max_attempts);
  bool const has_backoff = !options.backoff_first.empty() || options.backoff_factor || !options.backoff_cap.empty() ||
                           options.backoff_jitter;
  if (has_backoff) {
    json.key("backoff").begin_object();
    member_if(json, "first", options.backoff_first);
    member_if(json, "factor", options.backoff_factor);
    member_if(json, "cap", options.backoff_cap);
    member_if(json, "jitter", options.backoff_jitter);
    json.end_object();
  }
  member_if(json, "lease", options.lease);
  if (!options.unique_key.empty()) {
    json.key("unique").begin_object().member("key", options.unique_key);
    member_if(json, "while", options.unique_while);
    member_if(json, "for", options.unique_for);
    json.end_object();
  }
  member_if(json, "group", options.group);
  if (!options.tags.empty()) {
    json.key("tags").begin_array();
    for (auto const& tag : options.tags) json.value(tag);
    json.end_array();
  }
  member_if(json, "batch", options.batch);
  member_if(json, "keep_result", options.keep_result);
  if (!options.meta.empty()) {
    auto const meta = parse_json(options.meta);
    if (!meta || meta->root().kind != JsonValue::Kind::object) {
      return fail_field(ErrorCode::malformed_json, "meta", "this is no JSON object");
    }
    json.key("meta").raw(meta->root().raw);
  }
  if (payload) WM_TRY_VOID(append_payload(json, *payload, from));
  json.end_object();
  return out;
}

void JobBatch::add(std::string_view job_json, std::uint64_t line) {
  body_.append(body_.empty() ? R"({"jobs":[)" : ",").append(job_json);
  lines_.push_back(line);
}

std::string JobBatch::take_body() {
  body_.append("]}");
  return std::exchange(body_, {});
}

void JobBatch::clear() {
  body_.clear();
  lines_.clear();
}

std::optional<std::uint64_t> JobBatch::line_of_field(std::string_view field) const {
  constexpr std::string_view kPrefix = "jobs[";
  if (!field.starts_with(kPrefix)) return std::nullopt;
  field.remove_prefix(kPrefix.size());
  std::size_t index = 0;
  auto const [end, error] = std::from_chars(field.data(), field.data() + field.size(), index);
  bool const closed = end != field.data() + field.size() && *end == ']';
  if (error != std::errc{} || !closed || index >= lines_.size()) return std::nullopt;
  return lines_[index];
}

}  // namespace workmill::app
