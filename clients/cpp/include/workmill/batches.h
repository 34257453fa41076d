#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/json.h"
#include "workmill/options.h"

// Batches: jobs whose end enqueues one or two more. Client::batches().
//
//   auto const batch = client.batches().create({.on_success = make_job("publish", 7)});
//   for (int row = 0; row < rows; ++row) client.enqueue("row", row, {.batch = batch->id});
//   client.batches().close(batch->id);
namespace workmill::client {

namespace detail {
class Core;
}
template <class Page>
class Listing;  // pages.h

// At least one of the two callbacks. Each is a job without `id`, `unique` and `batch`, 64 KiB at most, and what it says
// of times is counted from when it is enqueued.
struct NewBatch {
  // One of your own: the same batch sent again under it answers the one that is there. Empty: the server makes one.
  std::string id{};
  // Enqueued once, when the batch is closed and all of its jobs are completed.
  std::optional<NewJob> on_success{};
  // Enqueued once, when the batch is closed and each of its jobs has ended for the first time: completed, dead,
  // cancelled or deleted.
  std::optional<NewJob> on_finish{};
  Json meta{};  // An object, 16 KiB at most, or null for none.
};

enum class CallbackState : std::uint8_t {
  waiting,     // For the end of jobs, or for the batch to be closed.
  enqueued,    // Once and for all.
  not_coming,  // A job is gone that was not completed.
};
std::string_view to_string(CallbackState value);

struct BatchCallback {
  CallbackState state{};
  std::string job{};  // Where it is enqueued: its id. The job itself may be gone by now.
};

// A batch as it was when it was asked for. `total` is the sum of the five counts below it. A job that is gone counts as
// what it was in the end.
struct Batch {
  std::string id{};
  std::optional<Time> created_at{};
  std::optional<Time> closed_at{};  // Nothing: it is open.
  std::uint64_t total = 0;
  std::uint64_t pending = 0;  // Scheduled, ready or leased.
  std::uint64_t completed = 0;
  std::uint64_t dead = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t deleted = 0;                  // Before it was finished.
  std::optional<BatchCallback> on_success{};  // Nothing: it was made without one.
  std::optional<BatchCallback> on_finish{};
  Json json{};  // All of it, as the server wrote it.
};

enum class BatchState : std::uint8_t {
  open,    // It takes jobs: nobody has closed it.
  closed,  // It waits: for the end of jobs, or for the retry of dead or cancelled ones.
  over,    // Its callbacks are enqueued or not coming, and no job of it is pending.
};
std::string_view to_string(BatchState value);

struct BatchQuery {
  std::optional<BatchState> state{};
  unsigned limit = 50;  // 1 to 1,000.
  std::string cursor{};
};
// All of them; see default_call().
inline BatchQuery const& default_batches() {
  static BatchQuery const query;
  return query;
}
struct BatchPage {
  std::vector<Batch> batches{};  // May be short of `limit`, or empty, and not be the last.
  std::string next{};            // Empty: that was the last.
};

// Lent by its client, which must be there while it is used. Any thread, as the client.
class Batches {
 public:
  explicit Batches(detail::Core& core) : core_(&core) {}

  // Durable when it answers. Its callbacks are checked now, and the client's hooks see them. Jobs are put into it by
  // JobOptions::batch, by any client, until it is closed. `batch_exists`: another batch has this id. Tried again under
  // one idempotency key, so that a lost answer makes no second one.
  Result<Batch> create(NewBatch const& batch, CallOptions const& call = {});
  // All its jobs are sent: it takes no more, and calls back when its time has come. Once more is no error.
  Result<Batch> close(std::string_view id, CallOptions const& call = {});
  // `batch_not_found`: there is none, or no longer.
  Result<Batch> get(std::string_view id, CallOptions const& call = {});
  // All that match, newest first, fetched as they are gone through, `query.limit` a call; for that, include pages.h.
  Listing<BatchPage> all(BatchQuery query = {}, CallOptions call = {});
  // A page of them; `query.cursor` of the next is the `next` of this one, until that is empty.
  Result<BatchPage> list(BatchQuery const& query = {}, CallOptions const& call = {});
  // Forgets it. Its jobs stay, and what it has not enqueued by then never comes.
  Result<> remove(std::string_view id, CallOptions const& call = {});

 private:
  detail::Core* core_;
};

}  // namespace workmill::client
