#pragma once
#include "service/service.h"

namespace workmill::http {

// For tests of pure functions: knows the ids of a store with a known salt, and takes no commands.
class FixedService final : public service::Service {
 public:
  void set_sink(service::AnswerSink*) override {}
  Result<> submit(service::Cookie, Command, Instant, Allowed = {}) override {
    return fail(ErrorCode::internal, "nobody is here");
  }
  void abandon(service::Cookie) override {}
  JobIdCodec const& ids() const override { return ids_; }
  Instant now() const override { return instant_from_ms(0); }
  service::Hindrances hindrances() const override { return {}; }
  Duration uptime() const override { return Duration{0}; }

  std::string id_of(JobNumber number) const {
    auto const text = ids_.encode(number);
    return {text.data(), text.size()};
  }

 private:
  JobIdCodec ids_{42};
};

}  // namespace workmill::http
