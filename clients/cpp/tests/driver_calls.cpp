#include "driver_calls.h"

#include <utility>

#include "driver_words.h"

namespace workmill::client::driver {
namespace {

template <class T>
Result<Json> number(Result<T> const& result) {
  if (!result) return std::unexpected(result.error());
  return Json{*result};
}

template <class T>
Result<Json> whole(Result<T> result) {
  if (!result) return std::unexpected(result.error());
  return std::move(result->json);
}
template <class T>
Result<Json> nothing(Result<T> const& result) {
  if (!result) return std::unexpected(result.error());
  return Json{};
}

Result<Json> bulk(Client& client, Json const& command) {
  std::vector<NewJob> jobs;
  for (Json const& job : *command.find("jobs")->as_array()) jobs.push_back(job_of(job));
  auto answers = client.enqueue_all(jobs);
  if (!answers) return std::unexpected(answers.error());
  Json::Array out;
  for (Enqueued const& job : *answers) out.push_back(enqueued_json(job));
  return Json{std::move(out)};
}

Result<Json> list(Client& client, Json const& command) {
  JobQuery query{.limit = number_of(command, "page").value_or(50)};
  if (Json const* const filter = command.find("filter"); filter != nullptr) {
    query.queue = text_of(*filter, "queue");
    query.type = text_of(*filter, "type");
    query.tag = text_of(*filter, "tag");
    query.group = text_of(*filter, "group");
    query.batch = text_of(*filter, "batch");
    for (int i = 0; i < 6; ++i) {
      if (auto const state = static_cast<JobState>(i); to_string(state) == filter->text("state")) query.state = state;
    }
  }
  Json::Array ids;
  for (auto const& job : client.jobs(std::move(query))) {
    if (!job) return std::unexpected(job.error());
    ids.emplace_back(job->id);
  }
  return Json{std::move(ids)};
}

Result<Json> list_batches(Batches batches, Json const& command) {
  BatchQuery query{.limit = number_of(command, "page").value_or(50)};
  for (auto const state : {BatchState::open, BatchState::closed, BatchState::over}) {
    if (to_string(state) == command.text("state")) query.state = state;
  }
  Json::Array ids;
  for (auto const& batch : batches.all(std::move(query))) {
    if (!batch) return std::unexpected(batch.error());
    ids.emplace_back(batch->id);
  }
  return Json{std::move(ids)};
}

Result<Json> call_cache(Cache cache, std::string const& what, Json const& command) {
  std::string const key = text_of(command, "key");
  if (what == "cache_get") {
    auto const found = cache.get(key);
    if (!found) return std::unexpected(found.error());
    return *found ? cached_json(**found) : Json{};
  }
  if (what == "cache_put") {
    auto const etag = command.find("value_base64") != nullptr
                          ? cache.put(key, bytes_of(command), cache_options(command))
                          : cache.put(key, *command.find("value"), cache_options(command));
    if (!etag) return std::unexpected(etag.error());
    return Json{*etag};
  }
  if (what == "cache_compute") {
    CacheOptions const windows = cache_options(command);
    ComputeOptions options{.fresh = windows.fresh,
                           .stale = windows.stale,
                           .error_for = duration_of(command, "error_for"),
                           .tags = windows.tags};
    if (auto const wait = duration_of(command, "wait")) options.wait = *wait;
    auto const value = cache.get_or_compute(key, job_of(*command.find("job")), options);
    if (!value) return std::unexpected(value.error());
    return cached_json(*value);
  }
  if (what != "cache_delete") return fail(ErrorClass::fatal, "driver_bug", "no such command: " + what);
  if (command.find("tag") != nullptr) return number(cache.remove_by_tag(text_of(command, "tag")));
  if (command.find("prefix") != nullptr) return number(cache.remove_by_prefix(text_of(command, "prefix")));
  return number(cache.remove(key));
}

Result<Json> create_batch(Batches batches, Json const& command) {
  Json const& given = *command.find("batch");
  NewBatch batch{.id = text_of(given, "id")};
  if (Json const* const job = given.find("on_success"); job != nullptr) batch.on_success = job_of(*job);
  if (Json const* const job = given.find("on_finish"); job != nullptr) batch.on_finish = job_of(*job);
  if (Json const* const meta = given.find("meta"); meta != nullptr) batch.meta = *meta;
  return whole(batches.create(batch, {.idempotency_key = text_of(command, "idempotency_key")}));
}

}  // namespace

Result<Json> call(Client& client, std::string const& what, Json const& command) {
  std::string const id = text_of(command, "id");
  if (what == "enqueue") {
    auto job = client.enqueue(job_of(*command.find("job")), {.idempotency_key = text_of(command, "idempotency_key")});
    if (!job) return std::unexpected(job.error());
    return enqueued_json(*job);
  }
  if (what == "bulk") return bulk(client, command);
  if (what == "list") return list(client, command);
  if (what == "get") return whole(client.job(id));
  if (what == "wait") return whole(client.wait(id, duration_of(command, "for").value_or(Duration{60'000})));
  if (what == "cancel") return nothing(client.cancel(id));
  if (what == "retry") return nothing(client.retry(id));
  if (what == "delete") return nothing(client.remove(id));
  if (what == "queue") return whole(client.queue(text_of(command, "name")));
  if (what == "pause") return nothing(client.pause(text_of(command, "name")));
  if (what == "resume") return nothing(client.resume(text_of(command, "name")));
  if (what.starts_with("cache_")) return call_cache(client.cache(), what, command);
  if (what == "batch_create") return create_batch(client.batches(), command);
  if (what == "batch_close") return whole(client.batches().close(id));
  if (what == "batch_get") return whole(client.batches().get(id));
  if (what == "batch_list") return list_batches(client.batches(), command);
  if (what == "batch_delete") return nothing(client.batches().remove(id));
  return fail(ErrorClass::fatal, "driver_bug", "no such command: " + what);
}

}  // namespace workmill::client::driver
