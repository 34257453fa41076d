#include "model/batch.h"

#include <utility>

#include "base/bytes.h"

namespace workmill {

std::string_view to_string(CallbackKind kind) {
  switch (kind) {
    case CallbackKind::success: return "on_success";
    case CallbackKind::finish: return "on_finish";
  }
  return "unknown";
}

std::string_view to_string(CallbackState state) {
  switch (state) {
    case CallbackState::none: return "none";
    case CallbackState::waiting: return "waiting";
    case CallbackState::enqueued: return "enqueued";
    case CallbackState::not_coming: return "not_coming";
  }
  return "unknown";
}

std::string_view to_string(BatchState state) {
  switch (state) {
    case BatchState::open: return "open";
    case BatchState::closed: return "closed";
    case BatchState::over: return "over";
  }
  return "unknown";
}

std::optional<BatchState> parse_batch_state(std::string_view text) {
  for (BatchState const state : kAllBatchStates) {
    if (to_string(state) == text) return state;
  }
  return std::nullopt;
}

void GoneJobs::count(JobState last) {
  switch (last) {
    case JobState::scheduled:
    case JobState::ready:
    case JobState::leased: ++deleted; return;
    case JobState::completed: ++completed; return;
    case JobState::dead: ++dead; return;
    case JobState::cancelled: ++cancelled; return;
  }
}

Result<> check_callback(CallbackKind kind, JobSpecView const& spec) {
  auto const field = [kind](std::string_view name) {
    std::string whole{to_string(kind)};
    if (!name.empty()) whole.append(".").append(name);
    return whole;
  };
  auto checked = check_spec(spec);
  if (!checked) {
    checked.error().field = field(checked.error().field);
    return checked;
  }
  auto const refuse = [&field](std::string_view name) {
    return fail_field(ErrorCode::invalid_field, field(name),
                      "cannot be set for a callback: it is enqueued whatever is there");
  };
  if (!spec.id.empty()) return refuse("id");
  if (!spec.unique_key.empty()) return refuse("unique");
  if (!spec.batch.empty()) return refuse("batch");
  if (!spec.cache_key.empty()) return refuse("cache");
  Bytes bytes;
  encode_spec(spec, bytes);
  if (bytes.size() > kCallbackBytesMax) {
    return fail_field(ErrorCode::payload_too_large, field({}),
                      "must be " + std::to_string(kCallbackBytesMax) + " bytes at most, payload and all");
  }
  return {};
}

}  // namespace workmill
