#pragma once
#include <cstdint>

#include "engine/state.h"
#include "model/effect.h"

// What a decision hands out: each effect is written down and then applied, so that the decision sees at once what it
// has done. The only way from a decision to the state, and it goes by way of the log.
namespace workmill::engine {

class Effects {
 public:
  Effects(State& state, EffectSink& sink, Instant at) : state_(state), sink_(sink), at_(at) {}

  // `job` is where the effect's number is; kNone for effects that are not of one job.
  template <class E>
  void emit(E const& effect, JobIndex job = kNone<JobIndex>) {
    EffectSink::Written const written = sink_.write(Effect{effect});
    state_.see(effect, at_);
    state_.apply(effect, written, at_, job);
  }
  // Those that carry a spec: `spec` is what is in it, decoded.
  void emit(effect::JobEnqueued const& effect, JobSpecView const& spec) {
    EffectSink::Written const written = sink_.write(Effect{effect});
    state_.see(effect, at_);
    state_.apply(effect, spec, written, at_);
  }
  void emit(effect::JobSnapshot const& effect, JobSpecView const& spec, JobIndex job) {
    EffectSink::Written const written = sink_.write(Effect{effect});
    state_.see(effect, at_);
    state_.apply(effect, spec, written, at_, job);
  }
  // Of a volatile cached value: whoever watches the batch sees it, and nothing is written. The state has no part in it.
  template <class E>
  void show(E const& effect) {
    sink_.show(Effect{effect});
  }
  // See EffectSink.
  void landed(JobNumber flight, effect::CacheStored const& value, bool is_kept) {
    sink_.landed(flight, value, is_kept);
  }
  // A figure, not an effect: nothing is changed by a duplicate.
  void count_duplicate(JobIndex job) { state_.count_duplicate(job); }

 private:
  State& state_;
  EffectSink& sink_;
  Instant at_;
};

}  // namespace workmill::engine
