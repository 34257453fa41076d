#include <vector>

#include "sim/simulator.h"

// Those who use batches ask the shard, as all others do; and what the engine has of batches is held against the model.
namespace workmill::sim {

void Simulator::use_batches() {
  if (!batch_callers_.uses_some()) return;
  for (std::uint64_t i = batch_callers_.draw_count(); i > 0; --i) send(batch_callers_.next(model_), next_cookie_++);
}

std::vector<BatchView> Simulator::batches_of(engine::Engine const& engine) {
  std::vector<BatchView> batches;
  engine.batch_views(batches);
  return batches;
}

// At a moment at which the model has been told everything.
void Simulator::check_batches() {
  if (!model_.compare_batches(batches_of(*engine_))) complain(model_.complaint());
}

}  // namespace workmill::sim
