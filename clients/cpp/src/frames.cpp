#include "frames.h"

#include <simdjson.h>

#include "wire.h"

namespace workmill::client::detail {
namespace {

namespace ondemand = simdjson::ondemand;

// The inside of a string that needs no unescaping; escapes are left as they stand.
std::string_view inside(std::string_view token) {
  while (!token.empty() && token.back() != '"') token.remove_suffix(1);
  return token.size() >= 2 ? token.substr(1, token.size() - 2) : std::string_view{};
}

std::string_view raw_text(ondemand::value& value) {
  ondemand::json_type type{};
  if (value.type().get(type) != simdjson::SUCCESS) return {};
  std::string_view text;
  simdjson::error_code error{};
  if (type == ondemand::json_type::object) {
    ondemand::object object;
    error = value.get_object().get(object);
    if (!error) error = object.raw_json().get(text);
  } else if (type == ondemand::json_type::array) {
    ondemand::array array;
    error = value.get_array().get(array);
    if (!error) error = array.raw_json().get(text);
  } else {
    text = value.raw_json_token();
  }
  if (error) return {};
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

std::string_view string_of(ondemand::value& value) { return inside(value.raw_json_token()); }

unsigned small_number(ondemand::value& value) {
  std::uint64_t number = 0;
  return value.get_uint64().get(number) == simdjson::SUCCESS ? static_cast<unsigned>(number) : 0;
}

simdjson::error_code read_job(ondemand::object object, JobView& job) {
  for (auto each : object) {
    ondemand::field field;
    if (auto const error = std::move(each).get(field)) return error;
    std::string_view key;
    if (auto const error = field.unescaped_key().get(key)) return error;
    ondemand::value value = field.value();
    if (key == "id") {
      job.id = string_of(value);
    } else if (key == "lease") {
      job.lease = string_of(value);
    } else if (key == "type") {
      job.type = string_of(value);
    } else if (key == "queue") {
      job.queue = string_of(value);
    } else if (key == "payload") {
      job.payload = raw_text(value);
    } else if (key == "payload_base64") {
      job.payload = string_of(value);
      job.payload_is_bytes = true;
    } else if (key == "attempt") {
      job.attempt = small_number(value);
    } else if (key == "max_attempts") {
      job.max_attempts = small_number(value);
    } else if (key == "checkpoint") {
      job.checkpoint = raw_text(value);
      if (job.checkpoint == "null") job.checkpoint = {};
    } else if (key == "meta") {
      job.meta = raw_text(value);
    } else if (key == "batch") {
      job.batch = string_of(value);
    } else if (key == "traceparent") {
      job.traceparent = string_of(value);
    } else if (key == "tracestate") {
      job.tracestate = string_of(value);
    }
  }
  return simdjson::SUCCESS;
}

simdjson::error_code read_jobs(ondemand::value value, std::vector<JobView>& jobs) {
  ondemand::array array;
  if (auto const error = value.get_array().get(array)) return error;
  for (auto each : array) {
    ondemand::object object;
    if (auto const error = each.get_object().get(object)) return error;
    JobView job;
    if (auto const error = read_job(object, job)) return error;
    if (job.id.empty() || job.lease.empty() || job.type.empty()) return simdjson::NO_SUCH_FIELD;
    jobs.push_back(job);
  }
  return simdjson::SUCCESS;
}

simdjson::error_code read_answer(ondemand::object object, std::size_t index, Frame& frame) {
  std::optional<bool> ok;
  ReportAnswer answer;
  std::string_view id;
  for (auto each : object) {
    ondemand::field field;
    if (auto const error = std::move(each).get(field)) return error;
    std::string_view key;
    if (auto const error = field.unescaped_key().get(key)) return error;
    ondemand::value value = field.value();
    if (key == "id") {
      id = string_of(value);
    } else if (key == "ok") {
      if (auto const error = value.get_bool().get(ok.emplace())) return error;
    } else if (key == "cancel_requested") {
      if (auto const error = value.get_bool().get(answer.cancel_requested)) return error;
    } else if (key == "error") {
      auto const problem = Json::parse(raw_text(value));
      if (!problem || !is_problem(*problem)) return simdjson::INCORRECT_TYPE;
      answer.error = problem_error(*problem);
    }
  }
  if (!ok || (!*ok && !answer.error)) return simdjson::NO_SUCH_FIELD;
  if (answer.error || answer.cancel_requested) {
    answer.index = index;
    answer.id = id;
    frame.remarkable.push_back(std::move(answer));
  }
  return simdjson::SUCCESS;
}

simdjson::error_code read_answers(ondemand::value value, Frame& frame) {
  ondemand::array array;
  if (auto const error = value.get_array().get(array)) return error;
  frame.has_answers = true;
  for (auto each : array) {
    ondemand::object object;
    if (auto const error = each.get_object().get(object)) return error;
    if (auto const error = read_answer(object, frame.answers, frame)) return error;
    ++frame.answers;
  }
  return simdjson::SUCCESS;
}

simdjson::error_code read_cancel(ondemand::value value, std::vector<std::string>& ids) {
  ondemand::array array;
  if (auto const error = value.get_array().get(array)) return error;
  for (auto each : array) {
    std::string_view id;
    if (auto const error = each.get_string().get(id)) return error;
    ids.emplace_back(id);
  }
  return simdjson::SUCCESS;
}

// What is rare goes the slow way.
simdjson::error_code read_rare(std::string_view key, ondemand::value value, Frame& frame) {
  auto const json = Json::parse(raw_text(value));
  if (!json) return simdjson::TAPE_ERROR;
  if (key == "subscribed") {
    if (json->text("resume").empty()) return simdjson::NO_SUCH_FIELD;
    auto const says = [&](std::string_view name) {
      Json const* const found = json->find(name);
      return found != nullptr && found->as_bool() != nullptr && *found->as_bool();
    };
    frame.subscribed =
        Subscribed{.resume = std::string{json->text("resume")}, .resumed = says("resumed"), .direct = says("direct")};
  } else if (key == "error") {
    if (!is_problem(*json)) return simdjson::INCORRECT_TYPE;
    Error error = problem_error(*json);
    Json const* const after = json->find("retry_after");  // Seconds.
    auto const seconds = after != nullptr ? after->as_double() : std::nullopt;
    if (seconds) error.retry_after = Duration{static_cast<Duration::rep>(*seconds * 1e3)};
    frame.error = std::move(error);
  } else if (key == "drained") {
    frame.drained = true;
  }
  return simdjson::SUCCESS;
}

void clear(Frame& frame) {
  frame.jobs.clear();
  frame.has_jobs = false;
  frame.answers = 0;
  frame.has_answers = false;
  frame.remarkable.clear();
  frame.cancel.clear();
  frame.subscribed.reset();
  frame.error.reset();
  frame.drained = false;
}

}  // namespace

struct FrameReader::State {
  ondemand::parser parser;
};

FrameReader::FrameReader() : state_(std::make_unique<State>()) {}
FrameReader::~FrameReader() = default;

std::size_t FrameReader::padding() { return simdjson::SIMDJSON_PADDING; }

Result<> FrameReader::read(std::string_view text, Frame& frame) {
  clear(frame);
  auto const walk = [&]() -> simdjson::error_code {
    ondemand::document document;
    simdjson::padded_string_view const padded{text.data(), text.size(), text.size() + simdjson::SIMDJSON_PADDING};
    if (auto const error = state_->parser.iterate(padded).get(document)) return error;
    ondemand::object object;
    if (auto const error = document.get_object().get(object)) return error;
    for (auto each : object) {
      ondemand::field field;
      if (auto const error = std::move(each).get(field)) return error;
      std::string_view key;
      if (auto const error = field.unescaped_key().get(key)) return error;
      simdjson::error_code error = simdjson::SUCCESS;
      if (key == "jobs") {
        frame.has_jobs = true;
        error = read_jobs(field.value(), frame.jobs);
      } else if (key == "reports") {
        error = read_answers(field.value(), frame);
      } else if (key == "cancel") {
        error = read_cancel(field.value(), frame.cancel);
      } else {
        error = read_rare(key, field.value(), frame);
      }
      if (error) return error;
    }
    return simdjson::SUCCESS;
  };
  if (auto const error = walk()) {
    return fail(ErrorClass::fatal, "protocol_error",
                std::string{"what came back is no frame of a Workmill: "} + simdjson::error_message(error));
  }
  return {};
}

}  // namespace workmill::client::detail
