#include <algorithm>
#include <map>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"
#include "sim/simulator.h"

// What an adapter does on its I/O thread for those who use feature flags: evaluates them between two turns, from the
// set that the shard has published, and sends changes to the shard. The model is shown all that was seen.
namespace workmill::sim {
namespace {

class LooksOnly final : public EffectSink {
 public:
  Written write(Effect const&) override {
    WM_ASSERT(false);
    return {};
  }
};

}  // namespace

void Simulator::use_flags() {
  if (!flag_callers_.uses_some()) return;
  std::string key = flag_callers_.draw_key();
  flags::FlagEntry const* const known = front_->flags().find(key);
  switch (flag_callers_.draw_use()) {
    case FlagUse::look: return look_at_flags();
    case FlagUse::make: return send(flag_callers_.make(std::move(key), known), next_cookie_++);
    case FlagUse::kill:
      if (known != nullptr) send(flag_callers_.kill(*known), next_cookie_++);
      return;
    case FlagUse::change:
      if (known != nullptr) send(flag_callers_.change(*known), next_cookie_++);
      return;
    case FlagUse::repeat:
      if (auto again = flag_callers_.repeat()) send(*std::move(again), next_cookie_++);
      return;
    case FlagUse::remove: return send(flag_callers_.remove(std::move(key)), next_cookie_++);
    case FlagUse::history: {
      GetFlagHistory page{.key = std::move(key)};
      if (known != nullptr && known->version % 3 == 0) page.limit = 2;
      if (known != nullptr && known->version % 4 > 1) page.before = known->version;
      return send(std::move(page), next_cookie_++);
    }
  }
}

// Of turns that have been answered everything must be seen, and of others nothing.
void Simulator::look_at_flags() {
  FlagsSeen seen{.set = front_->flags(), .context = flag_callers_.draw_context()};
  auto const newest = std::find_if(open_.rbegin(), open_.rend(), [](Open const& open) { return open.is_answered; });
  if (newest == open_.rend()) {
    if (!model_.saw(seen)) complain(model_.complaint());
    return;
  }
  newest->flags_seen.push_back(std::move(seen));
  if (is_flag_change_open()) ++figures_[Figure::flag_seen_while_undurable];
}

// Of a turn that is decided, and not answered.
bool Simulator::is_flag_change_open() const {
  return std::ranges::any_of(open_, [](Open const& open) {
    return !open.is_answered && std::ranges::any_of(open.asked, [](Asked const& asked) {
      return holds<SetFlag>(asked.command) || holds<RemoveFlag>(asked.command);
    });
  });
}

std::map<std::string, FlagHistory> Simulator::flag_histories(engine::Engine& engine) {
  std::map<std::string, FlagHistory> histories;
  LooksOnly sink;
  for (flags::FlagEntryPtr const& entry : engine.flags()->entries()) {
    bool again = false;
    Reply reply = engine.execute(GetFlagHistory{.key = entry->key}, {.now = now_, .chance = 0}, sink, &again);
    histories.emplace(entry->key, as_history(std::get<FlagHistoryReply>(reply)));
  }
  return histories;
}

// All that the engine has, at a moment at which the model has been told everything.
void Simulator::check_flags() {
  if (!model_.compare_flags(*engine_->flags()) || !model_.compare_flags(front_->flags()) ||
      !model_.compare_gates(engine_->status())) {
    return complain(model_.complaint());
  }
  for (auto const& [key, changes] : flag_histories(*engine_)) {
    if (!model_.compare_history(key, changes)) return complain(model_.complaint());
  }
}

}  // namespace workmill::sim
