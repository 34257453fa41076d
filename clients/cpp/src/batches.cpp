#include "workmill/batches.h"

#include <string>
#include <utility>

#include "operation.h"
#include "wire.h"
#include "workmill/async_batches.h"

// The batches of both clients.
namespace workmill::client {
namespace detail {
namespace {

using BatchOp = CallOptions const&;

std::string batch_target(std::string_view id, std::string_view rest = {}) {
  return "/v1/batches/" + url_encoded(id) + std::string{rest};
}

Operation<Batch> op_create(Core const& core, NewBatch const& batch, BatchOp call) {
  std::string body = "{";
  Result<> written;
  auto const name = [&body](std::string_view text) {
    body.append(body.size() > 1 ? ",\"" : "\"").append(text).append("\":");
  };
  auto const callback = [&](std::string_view text, std::optional<NewJob> const& job) {
    if (!job || !written) return;
    name(text);
    written = write_hooked(core, *job, body);
  };
  if (!batch.id.empty()) {
    name("id");
    write_json_string(batch.id, body);
  }
  callback("on_success", batch.on_success);
  callback("on_finish", batch.on_finish);
  if (!batch.meta.is_null()) {
    name("meta");
    batch.meta.write(body);
  }
  body.push_back('}');
  auto made = make_call(core, "POST", "/v1/batches", std::move(body), true, call);
  made.request.idempotency_key = call.idempotency_key.empty() ? random_key() : call.idempotency_key;
  if (!written) made.refused = written.error();
  return {std::move(made), of_body<read_batch>};
}
Operation<Batch> op_close(Core const& core, std::string_view id, BatchOp call) {
  return {make_call(core, "POST", batch_target(id, "/close"), {}, true, call), of_body<read_batch>};
}
Operation<Batch> op_get_batch(Core const& core, std::string_view id, BatchOp call) {
  return {make_call(core, "GET", batch_target(id), {}, true, call), of_body<read_batch>};
}
Operation<BatchPage> op_list_batches(Core const& core, BatchQuery const& query, BatchOp call) {
  return {make_call(core, "GET", list_target(query), {}, true, call), of_body<read_batches>};
}
Result<> read_forgotten(Result<Response> answer) {
  if (!answer) return std::unexpected(std::move(answer).error());
  return {};
}
// Repeatable: a second attempt that finds nothing counts as done (Core::on_answer).
Operation<void> op_forget_batch(Core const& core, std::string_view id, BatchOp call) {
  return {make_call(core, "DELETE", batch_target(id), {}, true, call), read_forgotten};
}

}  // namespace
}  // namespace detail

using namespace detail;  // NOLINT(google-build-using-namespace): this file is theirs.

std::string_view to_string(CallbackState value) {
  switch (value) {
    case CallbackState::waiting: return "waiting";
    case CallbackState::enqueued: return "enqueued";
    case CallbackState::not_coming: return "not_coming";
  }
  return "unknown";
}

std::string_view to_string(BatchState value) {
  switch (value) {
    case BatchState::open: return "open";
    case BatchState::closed: return "closed";
    case BatchState::over: return "over";
  }
  return "unknown";
}

// ---- Batches

Result<Batch> Batches::create(NewBatch const& batch, BatchOp call) {
  return run(*core_, op_create(*core_, batch, call), call);
}
Result<Batch> Batches::close(std::string_view id, BatchOp call) {
  return run(*core_, op_close(*core_, id, call), call);
}
Result<Batch> Batches::get(std::string_view id, BatchOp call) {
  return run(*core_, op_get_batch(*core_, id, call), call);
}
Listing<BatchPage> Batches::all(BatchQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_, query = std::move(query), call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return run(*core, op_list_batches(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Result<BatchPage> Batches::list(BatchQuery const& query, BatchOp call) {
  return run(*core_, op_list_batches(*core_, query, call), call);
}
Result<> Batches::remove(std::string_view id, BatchOp call) {
  return run(*core_, op_forget_batch(*core_, id, call), call);
}

// ---- AsyncBatches

Async<Batch> AsyncBatches::create(NewBatch const& batch, BatchOp call) {
  return start(*core_, executor_, op_create(*core_, batch, call), call);
}
Async<Batch> AsyncBatches::close(std::string_view id, BatchOp call) {
  return start(*core_, executor_, op_close(*core_, id, call), call);
}
Async<Batch> AsyncBatches::get(std::string_view id, BatchOp call) {
  return start(*core_, executor_, op_get_batch(*core_, id, call), call);
}
AsyncListing<BatchPage> AsyncBatches::all(BatchQuery query, CallOptions call) {
  std::string cursor = query.cursor;
  auto fetch = [core = core_, executor = executor_, query = std::move(query),
                call = std::move(call)](std::string const& at) mutable {
    query.cursor = at;
    return start(*core, executor, op_list_batches(*core, query, call), call);
  };
  return {std::move(fetch), std::move(cursor)};
}
Async<BatchPage> AsyncBatches::list(BatchQuery const& query, BatchOp call) {
  return start(*core_, executor_, op_list_batches(*core_, query, call), call);
}
Async<void> AsyncBatches::remove(std::string_view id, BatchOp call) {
  return start(*core_, executor_, op_forget_batch(*core_, id, call), call);
}

}  // namespace workmill::client
