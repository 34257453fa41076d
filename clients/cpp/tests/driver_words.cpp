#include "driver_words.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <utility>

namespace workmill::client::driver {
namespace {

Duration parse_duration(std::string_view text) {
  Duration sum{0};
  std::size_t at = 0;
  while (at < text.size()) {
    Duration::rep number = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) number = number * 10 + (text[at] - '0');
    std::size_t const unit = at;
    while (at < text.size() && (text[at] < '0' || text[at] > '9')) ++at;
    std::string_view const name = text.substr(unit, at - unit);
    Duration::rep const factor = name == "ms"  ? 1
                                 : name == "s" ? 1'000
                                 : name == "m" ? 60'000
                                 : name == "h" ? 3'600'000
                                               : 86'400'000;
    sum += Duration{number * factor};
  }
  return sum;
}

double double_of(Json const& json, std::string_view name, double otherwise) {
  Json const* const found = json.find(name);
  return found != nullptr ? found->as_double().value_or(otherwise) : otherwise;
}

}  // namespace

std::mutex& output_mutex() {
  static std::mutex mutex;
  return mutex;
}

void say(Json::Object members) {
  std::string line = Json{std::move(members)}.dump();
  line.push_back('\n');
  std::lock_guard const lock{output_mutex()};
  std::cout << line << std::flush;
}

Json error_json(Error const& error) {
  Json::Object out{
      {"class", std::string{to_string(error.error_class)}}, {"code", error.code}, {"message", error.message}};
  if (!error.field.empty()) out.emplace_back("field", error.field);
  if (!error.trace_id.empty()) out.emplace_back("trace_id", error.trace_id);
  if (error.code == "cache_pending") {
    Json const pending = Json::parse(error.detail).value_or(Json{});
    for (std::string_view const name : {"job_id", "state"}) {
      out.emplace_back(std::string{name}, std::string{pending.text(name)});
    }
  }
  return Json{std::move(out)};
}

Json enqueued_json(Enqueued const& job) {
  return Json{Json::Object{{"id", job.id}, {"state", std::string{to_string(job.state)}}, {"duplicate", job.duplicate}}};
}

Result<Json> cached_json(CachedValue const& found) {
  Json::Object out{{"fresh", found.fresh},
                   {"age", found.age.count()},
                   {"etag", found.etag},
                   {"content_type", found.content_type},
                   {"computed", found.computed}};
  if (found.content_type == "application/json") {
    auto value = found.as<Json>();
    if (!value) return std::unexpected(value.error());
    out.emplace_back("value", *std::move(value));
  } else {
    out.emplace_back("value_base64", encode_base64(found.body));
  }
  return Json{std::move(out)};
}

std::string text_of(Json const& json, std::string_view name) { return std::string{json.text(name)}; }
std::optional<Duration> duration_of(Json const& json, std::string_view name) {
  if (json.find(name) == nullptr) return std::nullopt;
  return parse_duration(json.text(name));
}
std::optional<unsigned> number_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  if (found == nullptr || !found->as_uint()) return std::nullopt;
  return static_cast<unsigned>(*found->as_uint());
}
CacheOptions cache_options(Json const& json) {
  CacheOptions options{.fresh = duration_of(json, "fresh"), .stale = duration_of(json, "stale")};
  if (Json const* const tags = json.find("tags"); tags != nullptr) {
    for (Json const& tag : *tags->as_array()) options.tags.push_back(*tag.as_string());
  }
  return options;
}
Bytes bytes_of(Json const& json) { return Bytes{decode_base64(json.text("value_base64")).value_or("")}; }

NewJob job_of(Json const& json) {
  NewJob job{.type = text_of(json, "type")};
  if (Json const* const payload = json.find("payload"); payload != nullptr) job.payload = payload->dump();
  if (json.find("payload_base64") != nullptr) {
    job.payload = decode_base64(json.text("payload_base64")).value_or("");
    job.payload_is_bytes = true;
  }
  JobOptions& options = job.options;
  options.queue = text_of(json, "queue");
  options.id = text_of(json, "id");
  if (Json const* const priority = json.find("priority"); priority != nullptr) {
    options.priority = static_cast<int>(priority->as_int().value_or(-1));
  }
  options.delay = duration_of(json, "delay");
  options.expires_in = duration_of(json, "expires_in");
  options.max_attempts = number_of(json, "max_attempts");
  options.lease = duration_of(json, "lease");
  options.keep_result = duration_of(json, "keep_result");
  options.group = text_of(json, "group");
  if (Json const* const backoff = json.find("backoff"); backoff != nullptr) {
    options.backoff = Backoff{.first = duration_of(*backoff, "first").value_or(Duration{15'000}),
                              .factor = double_of(*backoff, "factor", 2.0),
                              .cap = duration_of(*backoff, "cap"),
                              .jitter = double_of(*backoff, "jitter", 0.2)};
  }
  if (Json const* const unique = json.find("unique"); unique != nullptr) {
    options.unique = Unique{.key = text_of(*unique, "key"), .within = duration_of(*unique, "for")};
    if (unique->find("while") != nullptr) options.unique->until = unique->text("while");
  }
  if (Json const* const tags = json.find("tags"); tags != nullptr && tags->as_array() != nullptr) {
    for (Json const& tag : *tags->as_array()) options.tags.push_back(*tag.as_string());
  }
  options.batch = text_of(json, "batch");
  if (Json const* const meta = json.find("meta"); meta != nullptr) options.meta = *meta;
  constexpr std::array kKnown{"type",    "payload",    "payload_base64", "queue", "id",          "priority",
                              "delay",   "expires_in", "max_attempts",   "lease", "keep_result", "group",
                              "backoff", "unique",     "tags",           "batch", "meta"};
  for (auto const& [name, value] : *json.as_object()) {
    if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end()) options.more.emplace_back(name, value);
  }
  return job;
}

}  // namespace workmill::client::driver
