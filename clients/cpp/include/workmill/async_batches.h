#pragma once
#include <functional>
#include <string_view>
#include <utility>

#include "workmill/batches.h"
#include "workmill/pages.h"
#include "workmill/task.h"

namespace workmill::client {

// Batches for coroutines and callbacks: AsyncClient::batches(). Each call as in Batches. Lent by its client.
class AsyncBatches {
 public:
  using Executor = std::function<void(std::move_only_function<void()>)>;
  AsyncBatches(detail::Core& core, Executor executor) : core_(&core), executor_(std::move(executor)) {}

  Async<Batch> create(NewBatch const& batch, CallOptions const& call = default_call());
  Async<Batch> close(std::string_view id, CallOptions const& call = default_call());
  Async<Batch> get(std::string_view id, CallOptions const& call = default_call());
  AsyncListing<BatchPage> all(BatchQuery query = default_batches(), CallOptions call = default_call());
  Async<BatchPage> list(BatchQuery const& query = default_batches(), CallOptions const& call = default_call());
  Async<void> remove(std::string_view id, CallOptions const& call = default_call());

 private:
  detail::Core* core_;
  Executor executor_;
};

}  // namespace workmill::client
