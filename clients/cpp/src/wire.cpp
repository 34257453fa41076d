#include "wire.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "text.h"

namespace workmill::client::detail {
namespace {

constexpr std::array kStates{JobState::scheduled, JobState::ready, JobState::leased,
                             JobState::completed, JobState::dead,  JobState::cancelled};

Result<Json> parse_object(std::string_view body) {
  auto json = Json::parse(body);
  if (!json) return not_ours(json.error().message);
  if (json->as_object() == nullptr) return not_ours("no object");
  return json;
}

// A member list under way: `{"a":1,"b":…`.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_.push_back('{'); }
  std::string& name(std::string_view name) {
    if (!std::exchange(first_, false)) out_.push_back(',');
    write_json_string(name, out_);
    out_.push_back(':');
    return out_;
  }
  void text(std::string_view key, std::string_view value) { write_json_string(value, name(key)); }
  void text_if(std::string_view key, std::string_view value) {
    if (!value.empty()) text(key, value);
  }
  void number(std::string_view key, std::int64_t value) { name(key).append(std::to_string(value)); }
  void duration(std::string_view key, Duration value) { text(key, format_duration(value)); }
  void duration_if(std::string_view key, std::optional<Duration> value) {
    if (value) duration(key, *value);
  }
  void end() { out_.push_back('}'); }

 private:
  std::string& out_;
  bool first_ = true;
};

std::string format_time(Time time) {
  auto const day = std::chrono::floor<std::chrono::days>(time);
  std::chrono::year_month_day const date{day};
  std::chrono::hh_mm_ss const clock{time - day};
  std::array<char, 40> text{};
  int const length =
      std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                    static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                    static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                    static_cast<int>(clock.seconds().count()), static_cast<int>(clock.subseconds().count()));
  return {text.data(), static_cast<std::size_t>(length)};
}

// As the server writes it: UTC with milliseconds.
std::optional<Time> parse_time(std::string_view text) {
  if (text.size() != 24 || text.back() != 'Z') return std::nullopt;
  auto const number = [&](std::size_t at, std::size_t digits) {
    int value = 0;
    for (char const c : text.substr(at, digits)) {
      if (c < '0' || c > '9') return -1;
      value = value * 10 + (c - '0');
    }
    return value;
  };
  std::chrono::year_month_day const date{std::chrono::year{number(0, 4)},
                                         std::chrono::month{static_cast<unsigned>(number(5, 2))},
                                         std::chrono::day{static_cast<unsigned>(number(8, 2))}};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days{date} + std::chrono::hours{number(11, 2)} + std::chrono::minutes{number(14, 2)} +
         std::chrono::seconds{number(17, 2)} + Duration{number(20, 3)};
}

ErrorClass parse_class(std::string_view text) {
  if (text == "user") return ErrorClass::user;
  return text == "retryable" ? ErrorClass::retryable : ErrorClass::fatal;
}

std::optional<JobState> parse_state(std::string_view text) {
  for (JobState const state : kStates) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

unsigned number_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  auto const value = found != nullptr ? found->as_uint() : std::nullopt;
  return value ? static_cast<unsigned>(*value) : 0;
}

bool flag_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  bool const* const value = found != nullptr ? found->as_bool() : nullptr;
  return value != nullptr && *value;
}

std::string dump_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  return found != nullptr ? found->dump() : std::string{};
}

Result<Enqueued> enqueued_of(Json const& json) {
  auto const state = parse_state(json.text("state"));
  if (json.text("id").empty() || !state) return not_ours("no id or state");
  return Enqueued{.id = std::string{json.text("id")}, .state = *state, .duplicate = flag_of(json, "duplicate")};
}

Result<Job> job_of(Json json) {
  auto const state = parse_state(json.text("state"));
  if (json.text("id").empty() || !state) return not_ours("no id or state");
  Job job{.id = std::string{json.text("id")},
          .type = std::string{json.text("type")},
          .queue = std::string{json.text("queue")},
          .state = *state,
          .attempt = number_of(json, "attempt"),
          .max_attempts = number_of(json, "max_attempts"),
          .worker = std::string{json.text("worker")},
          .batch = std::string{json.text("batch")},
          .created_at = parse_time(json.text("created_at")),
          .finished_at = parse_time(json.text("finished_at"))};
  if (Json const* const progress = json.find("progress"); progress != nullptr && progress->as_object() != nullptr) {
    job.progress = JobProgress{.percent = static_cast<int>(number_of(*progress, "percent")),
                               .message = std::string{progress->text("message")}};
  }
  if (Json const* const error = json.find("error"); error != nullptr && error->as_object() != nullptr) {
    job.error = JobFailure{.error_class = parse_class(error->text("class")),
                           .code = std::string{error->text("code")},
                           .message = std::string{error->text("message")},
                           .detail = dump_of(*error, "detail"),
                           .attempt = number_of(*error, "attempt")};
  }
  job.json = std::move(json);
  return job;
}

Json::Array const* list_of(Json const& json, std::string_view name) {
  Json const* const found = json.find(name);
  return found != nullptr ? found->as_array() : nullptr;
}

Result<QueueStats> queue_of(Json json) {
  QueueStats queue{.name = std::string{json.text("name")}, .paused = flag_of(json, "paused")};
  if (queue.name.empty()) return not_ours("no name");
  if (Json const* const depth = json.find("depth"); depth != nullptr) {
    for (JobState const state : kStates) {
      Json const* const count = depth->find(to_string(state));
      if (count != nullptr) queue.depth[static_cast<std::size_t>(state)] = count->as_uint().value_or(0);
    }
  }
  if (Json const* const settings = json.find("settings"); settings != nullptr) {
    Json const* const most = settings->find("max_depth");
    if (most != nullptr) queue.max_depth = most->as_uint().value_or(kUnbounded);
    if (settings->text("when_full") == to_string(WhenFull::drop_oldest)) queue.when_full = WhenFull::drop_oldest;
  }
  queue.json = std::move(json);
  return queue;
}

std::optional<CallbackState> parse_callback_state(std::string_view text) {
  for (auto const state : {CallbackState::waiting, CallbackState::enqueued, CallbackState::not_coming}) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

// Nothing where the batch has none.
Result<std::optional<BatchCallback>> callback_of(Json const& batch, std::string_view name) {
  Json const* const callback = batch.find(name);
  if (callback == nullptr) return std::nullopt;
  auto const state = parse_callback_state(callback->text("state"));
  if (!state) return not_ours("no state of " + std::string{name});
  return std::optional{BatchCallback{.state = *state, .job = std::string{callback->text("job")}}};
}

Result<Batch> batch_of(Json json) {
  if (json.text("id").empty()) return not_ours("no id");
  auto on_success = callback_of(json, "on_success");
  if (!on_success) return std::unexpected(std::move(on_success).error());
  auto on_finish = callback_of(json, "on_finish");
  if (!on_finish) return std::unexpected(std::move(on_finish).error());
  auto const count = [&json](std::string_view name) -> std::uint64_t {
    Json const* const found = json.find(name);
    return found != nullptr ? found->as_uint().value_or(0) : 0;
  };
  Batch batch{.id = std::string{json.text("id")},
              .created_at = parse_time(json.text("created_at")),
              .closed_at = parse_time(json.text("closed_at")),
              .total = count("total"),
              .pending = count("pending"),
              .completed = count("completed"),
              .dead = count("dead"),
              .cancelled = count("cancelled"),
              .deleted = count("deleted"),
              .on_success = *std::move(on_success),
              .on_finish = *std::move(on_finish)};
  batch.json = std::move(json);
  return batch;
}

// `items` of a page, each read by `read`, into `items`; and what its next one is called.
template <class Item>
Result<std::string> read_page(std::string_view body, Result<Item> (*read)(Json), std::vector<Item>& items) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  auto const* const list = list_of(*json, "items");
  if (list == nullptr) return not_ours("no items");
  for (Json const& each : *list) {
    auto item = read(each);
    if (!item) return std::unexpected(std::move(item).error());
    items.push_back(*std::move(item));
  }
  return std::string{json->text("next")};
}

// What a query says of a list, behind the first of its parameters.
void add_parameter(std::string& target, std::string_view name, std::string_view value) {
  if (!value.empty()) target.append("&").append(name).append("=").append(url_encoded(value));
}

void write_backoff(Backoff const& backoff, std::string& out) {
  ObjectWriter object{out};
  object.duration("first", backoff.first);
  write_double(backoff.factor, object.name("factor"));
  object.duration_if("cap", backoff.cap);
  write_double(backoff.jitter, object.name("jitter"));
  object.end();
}

// As the server cuts texts, and what it takes for a time span. A message of many MiB would not even reach it.
constexpr std::size_t kErrorTextBytesMax = 8 * 1024;
constexpr std::size_t kLogLineBytesMax = 4 * 1024;
constexpr Duration kDurationMax = std::chrono::days{36'525};

// What is no JSON, or too long to be kept, becomes a string with its beginning.
void write_detail(std::string_view detail, std::string& out) {
  if (detail.size() <= kErrorTextBytesMax && check_json(detail)) {
    out.append(detail);
    return;
  }
  std::string text;
  for (std::size_t bytes = kErrorTextBytesMax; text.empty() || text.size() > kErrorTextBytesMax;
       bytes = bytes * 3 / 4) {
    text.clear();
    write_json_string(cut_text(detail, bytes), text);
  }
  out.append(text);
}

void write_report_head(ReportOn const& job, std::string_view outcome, std::string& out) {
  out.append("{\"id\":");
  write_json_string(job.id, out);
  out.append(",\"lease\":");
  write_json_string(job.lease, out);
  out.append(",\"outcome\":\"").append(outcome).append("\"");
}

}  // namespace

std::string format_duration(Duration duration) {
  return std::to_string(std::max<Duration::rep>(0, duration.count())) + "ms";
}

std::string url_encoded(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (char const c : text) {
    bool const plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out.push_back(c);
    } else {
      auto const byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out;
}

void write_job(NewJob const& job, std::string& out) {
  JobOptions const& options = job.options;
  ObjectWriter object{out};
  object.text_if("type", job.type);  // Where it is missing, the server has the words for it.
  object.text_if("queue", options.queue);
  if (job.payload_is_bytes)
    object.text("payload_base64", encode_base64(job.payload));
  else if (!job.payload.empty())
    object.name("payload").append(job.payload);
  object.text_if("id", options.id);
  if (options.priority) object.number("priority", *options.priority);
  object.duration_if("delay", options.delay);
  if (options.run_at) object.text("run_at", format_time(*options.run_at));
  object.duration_if("expires_in", options.expires_in);
  if (options.max_attempts) object.number("max_attempts", *options.max_attempts);
  if (options.backoff) write_backoff(*options.backoff, object.name("backoff"));
  object.duration_if("lease", options.lease);
  if (options.unique) {
    ObjectWriter unique{object.name("unique")};
    unique.text("key", options.unique->key);
    unique.text("while", options.unique->until);
    unique.duration_if("for", options.unique->within);
    unique.end();
  }
  object.text_if("group", options.group);
  if (!options.tags.empty()) Codec<std::vector<std::string>>::write(options.tags, object.name("tags"));
  object.text_if("batch", options.batch);
  object.duration_if("keep_result", options.keep_result);
  if (!options.meta.is_null()) options.meta.write(object.name("meta"));
  for (auto const& [name, value] : options.more) value.write(object.name(name));
  object.end();
}

std::string enqueue_body(NewJob const& job) {
  std::string out;
  write_job(job, out);
  return out;
}

std::string part_key(std::string_view key, std::size_t part) {
  if (key.empty() || part == 0) return std::string{key};
  std::string const suffix = "." + std::to_string(part);
  if (key.size() + suffix.size() <= kIdempotencyKeyBytesMax) return std::string{key} + suffix;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<unsigned char const*>(key.data()), key.size(), digest.data());
  std::string out = "sha256:";
  static constexpr std::string_view kHex = "0123456789abcdef";  // As the clients of other languages write it.
  for (unsigned char const byte : digest) {
    out.push_back(kHex[byte >> 4]);
    out.push_back(kHex[byte & 15]);
  }
  return out + suffix;
}

void write_queues(std::vector<QueueChoice> const& queues, std::string& out) {
  out.push_back('[');
  for (std::size_t i = 0; i < queues.size(); ++i) {
    if (i > 0) out.push_back(',');
    if (queues[i].weight == 0) {
      write_json_string(queues[i].name, out);
      continue;
    }
    ObjectWriter object{out};
    object.text("name", queues[i].name);
    object.number("weight", queues[i].weight);
    object.end();
  }
  out.push_back(']');
}

std::string lease_body(LeaseRequest const& request) {
  std::string out;
  ObjectWriter object{out};
  write_queues(request.queues, object.name("queues"));
  object.number("max", request.max);
  object.duration("wait", request.wait);
  object.duration_if("lease", request.lease);
  object.text_if("worker", request.worker);
  object.end();
  return out;
}

std::string reports_body(std::vector<Report> const& reports) {
  std::string out = "{\"reports\":[";
  for (std::size_t i = 0; i < reports.size(); ++i) {
    if (i > 0) out.push_back(',');
    out.append(reports[i].json());
  }
  return out += "]}";
}

std::string list_target(JobQuery const& query) {
  std::string target = "/v1/jobs?limit=" + std::to_string(query.limit);
  if (query.state) add_parameter(target, "state", to_string(*query.state));
  add_parameter(target, "queue", query.queue);
  add_parameter(target, "type", query.type);
  add_parameter(target, "tag", query.tag);
  add_parameter(target, "group", query.group);
  add_parameter(target, "batch", query.batch);
  add_parameter(target, "q", query.text);
  add_parameter(target, "cursor", query.cursor);
  return target;
}

std::string list_target(QueueQuery const& query) {
  std::string target = "/v1/queues?limit=" + std::to_string(query.limit);
  add_parameter(target, "cursor", query.cursor);
  return target;
}

std::string list_target(BatchQuery const& query) {
  std::string target = "/v1/batches?limit=" + std::to_string(query.limit);
  if (query.state) add_parameter(target, "state", to_string(*query.state));
  add_parameter(target, "cursor", query.cursor);
  return target;
}

std::string changes_body(JobChanges const& changes) {
  std::string out;
  ObjectWriter object{out};
  if (changes.priority) object.number("priority", *changes.priority);
  if (changes.run_at) object.text("run_at", format_time(*changes.run_at));
  object.text_if("queue", changes.queue);
  if (changes.tags) Codec<std::vector<std::string>>::write(*changes.tags, object.name("tags"));
  if (changes.max_attempts) object.number("max_attempts", *changes.max_attempts);
  for (auto const& [name, value] : changes.more) value.write(object.name(name));
  object.end();
  return out;
}

std::string changes_body(QueueChanges const& changes) {
  std::string out;
  ObjectWriter object{out};
  if (changes.paused) object.name("paused").append(*changes.paused ? "true" : "false");
  if (changes.max_depth) {
    object.name("max_depth").append(*changes.max_depth == kUnbounded ? "null" : std::to_string(*changes.max_depth));
  }
  if (changes.when_full) object.text("when_full", to_string(*changes.when_full));
  for (auto const& [name, value] : changes.more) value.write(object.name(name));
  object.end();
  return out;
}

std::string bulk_action_body(std::string_view action, JobFilter const& where) {
  std::string out;
  ObjectWriter object{out};
  object.text("action", action);
  ObjectWriter filter{object.name("where")};
  if (where.state) filter.text("state", to_string(*where.state));
  filter.text_if("queue", where.queue);
  filter.text_if("type", where.type);
  filter.text_if("tag", where.tag);
  filter.text_if("group", where.group);
  filter.text_if("batch", where.batch);
  filter.end();
  object.end();
  return out;
}

std::unexpected<Error> not_ours(std::string const& what) {
  auto error = fail(ErrorClass::fatal, "protocol_error", "what came back is no answer of a Workmill: " + what);
  error.error().may_have_happened = true;
  return error;
}

bool is_problem(Json const& json) { return !json.text("code").empty() && !json.text("class").empty(); }

Error problem_error(Json const& problem) {
  Json const* const status = problem.find("status");
  Error error{.code = std::string{problem.text("code")},
              .error_class = parse_class(problem.text("class")),
              .message = std::string{problem.text("detail").empty() ? problem.text("title") : problem.text("detail")},
              .field = std::string{problem.text("field")},
              .status = status != nullptr ? static_cast<int>(status->as_int().value_or(0)) : 0,
              .trace_id = std::string{problem.text("trace_id")}};
  error.may_have_happened = error.code == "outcome_unknown";  // Of all others a Workmill knows: they have not.
  return error;
}

Error read_problem(Response const& response) {
  auto const json = Json::parse(response.body);
  Error error;
  if (json && is_problem(*json)) {
    error = problem_error(*json);
  } else {
    error = not_ours("status " + std::to_string(response.status)).error();
    // A proxy's word for a server that is away, or busy.
    if (response.status == 502 || response.status == 503 || response.status == 504 || response.status == 429) {
      error.error_class = ErrorClass::retryable;
    }
    // It may have handed the request on before it lost the server, but for one that it found to be too many.
    error.may_have_happened = response.status != 429;
  }
  error.status = response.status;
  error.retry_after = response.retry_after;
  return error;
}

Result<Enqueued> read_enqueued(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  return enqueued_of(*json);
}

Result<std::vector<Enqueued>> read_bulk(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  auto const* const list = list_of(*json, "jobs");
  if (list == nullptr) return not_ours("no jobs");
  std::vector<Enqueued> out;
  out.reserve(list->size());
  for (Json const& each : *list) {
    auto job = enqueued_of(each);
    if (!job) return std::unexpected(std::move(job).error());
    out.push_back(*std::move(job));
  }
  return out;
}

Result<Job> read_job(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  return job_of(*std::move(json));
}

Result<Batch> read_batch(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  return batch_of(*std::move(json));
}

Result<BatchPage> read_batches(std::string_view body) {
  BatchPage page;
  auto next = read_page(body, &batch_of, page.batches);
  if (!next) return std::unexpected(std::move(next).error());
  page.next = *std::move(next);
  return page;
}

Result<JobPage> read_jobs(std::string_view body) {
  JobPage page;
  auto next = read_page(body, &job_of, page.jobs);
  if (!next) return std::unexpected(std::move(next).error());
  page.next = *std::move(next);
  return page;
}

Result<QueuePage> read_queues(std::string_view body) {
  QueuePage page;
  auto next = read_page(body, &queue_of, page.queues);
  if (!next) return std::unexpected(std::move(next).error());
  page.next = *std::move(next);
  return page;
}

Result<std::vector<std::string>> read_lines(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  auto const* const list = list_of(*json, "lines");
  if (list == nullptr) return not_ours("no lines");
  std::vector<std::string> out;
  for (Json const& each : *list) out.push_back(each.as_string() != nullptr ? *each.as_string() : std::string{});
  return out;
}

Result<std::vector<LeasedJob>> read_leased(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  auto const* const list = list_of(*json, "jobs");
  if (list == nullptr) return not_ours("no jobs");
  std::vector<LeasedJob> out;
  for (Json const& each : *list) {
    LeasedJob job{.id = std::string{each.text("id")},
                  .lease = std::string{each.text("lease")},
                  .type = std::string{each.text("type")},
                  .queue = std::string{each.text("queue")},
                  .payload = dump_of(each, "payload"),
                  .attempt = number_of(each, "attempt"),
                  .max_attempts = number_of(each, "max_attempts"),
                  .checkpoint = dump_of(each, "checkpoint"),
                  .meta = dump_of(each, "meta"),
                  .batch = std::string{each.text("batch")},
                  .traceparent = std::string{each.text("traceparent")},
                  .tracestate = std::string{each.text("tracestate")}};
    if (each.find("payload_base64") != nullptr) {
      auto bytes = decode_base64(each.text("payload_base64"));
      if (!bytes) return not_ours("payload_base64");
      job.payload = *std::move(bytes);
      job.payload_is_bytes = true;
    }
    out.push_back(std::move(job));
  }
  return out;
}

Result<std::vector<ReportResult>> read_reports(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  auto const* const list = list_of(*json, "reports");
  if (list == nullptr) return not_ours("no reports");
  std::vector<ReportResult> out;
  for (Json const& each : *list) {
    ReportResult result{.ok = flag_of(each, "ok"), .cancel_requested = flag_of(each, "cancel_requested")};
    if (Json const* const error = each.find("error"); error != nullptr) result.error = problem_error(*error);
    out.push_back(std::move(result));
  }
  return out;
}

Result<QueueStats> read_queue(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return std::unexpected(std::move(json).error());
  return queue_of(*std::move(json));
}

Result<std::uint64_t> read_count(std::string_view body) {
  auto const json = Json::parse(body);
  Json const* const member = json ? json->find("count") : nullptr;
  auto const count = member != nullptr ? member->as_uint() : std::nullopt;
  if (!count) return not_ours("no count");
  return *count;
}

Result<Json> read_object(std::string_view body) { return parse_object(body); }

Result<Job> completed_or_error(Job job) {
  switch (job.state) {
    case JobState::completed: return job;
    case JobState::cancelled: return fail(ErrorClass::fatal, "job_cancelled", "the job was cancelled");
    case JobState::dead: {
      JobFailure const failure = job.error.value_or(JobFailure{.error_class = ErrorClass::fatal, .code = "failed"});
      auto error = fail(failure.error_class, failure.code, failure.message).error();
      error.detail = failure.detail;
      return std::unexpected(std::move(error));
    }
    default: return fail(ErrorClass::retryable, "not_finished", "the job is " + std::string{to_string(job.state)});
  }
}

}  // namespace workmill::client::detail

namespace workmill::client {

using detail::format_duration;

Report Report::completed(ReportOn const& job, std::string_view result_json) {
  std::string out;
  detail::write_report_head(job, "completed", out);
  if (!result_json.empty()) out.append(",\"result\":").append(result_json);
  return Report{std::move(out += '}')};
}

Report Report::completed_with_bytes(ReportOn const& job, std::string_view bytes) {
  std::string out;
  detail::write_report_head(job, "completed", out);
  out.append(",\"result_base64\":\"").append(encode_base64(bytes)).append("\"}");
  return Report{std::move(out)};
}

Report Report::failed(ReportOn const& job, Error const& error) {
  std::string out;
  detail::write_report_head(job, "failed", out);
  out.append(",\"error\":{\"class\":\"").append(to_string(error.error_class)).append("\",\"code\":");
  write_json_string(error.code, out);
  out.append(",\"message\":");
  write_json_string(detail::cut_text(error.message, detail::kErrorTextBytesMax), out);
  if (!error.detail.empty()) detail::write_detail(error.detail, out.append(",\"detail\":"));
  out.push_back('}');
  // What is no duration for the server is not told it: the job's backoff decides.
  if (auto const in = error.retry_after; in && *in >= Duration{0} && *in <= detail::kDurationMax) {
    out.append(",\"retry_in\":\"").append(format_duration(*in)).append("\"");
  }
  return Report{std::move(out += '}')};
}

Report Report::extend(ReportOn const& job, Duration by) {
  std::string out;
  detail::write_report_head(job, "extend", out);
  out.append(",\"for\":\"").append(format_duration(by)).append("\"}");
  return Report{std::move(out)};
}

Report Report::progress(ReportOn const& job, int percent, std::string_view message) {
  std::string out;
  detail::write_report_head(job, "progress", out);
  out.append(",\"percent\":").append(std::to_string(percent));
  if (!message.empty()) {
    out.append(",\"message\":");
    write_json_string(detail::cut_text(message, detail::kErrorTextBytesMax), out);
  }
  return Report{std::move(out += '}')};
}

Report Report::log(ReportOn const& job, std::vector<std::string> const& lines) {
  std::string out;
  detail::write_report_head(job, "log", out);
  out.append(",\"lines\":[");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.push_back(',');
    write_json_string(detail::cut_text(lines[i], detail::kLogLineBytesMax), out);
  }
  return Report{std::move(out += "]}")};
}

Report Report::checkpoint(ReportOn const& job, std::string_view data_json) {
  std::string out;
  detail::write_report_head(job, "checkpoint", out);
  out.append(",\"data\":").append(data_json);
  return Report{std::move(out += '}')};
}

Report Report::released(ReportOn const& job) {
  std::string out;
  detail::write_report_head(job, "released", out);
  return Report{std::move(out += '}')};
}

}  // namespace workmill::client
