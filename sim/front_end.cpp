#include "sim/front_end.h"

#include <utility>

#include "base/variant.h"

namespace workmill::sim {

FrontEnd::FrontEnd(shard::ShardLoop& loop, Clock const& clock, Figures& figures)
    : loop_(loop), figures_(figures), service_(loop, clock) {
  service_.set_sink(this);
}

Result<> FrontEnd::submit(shard::Cookie cookie, Command command, Instant give_up_at) {
  is_submitting_ = true;
  bool const opens = holds<OpenStream>(command);
  auto const* const compute = std::get_if<ComputeCached>(&command);
  // And not answered.
  bool const is_told = holds<TellStream>(command) || (compute != nullptr && compute->quiet);
  auto taken = service_.submit(cookie, std::move(command), give_up_at);
  is_submitting_ = false;
  if (taken && !is_told) (opens ? streams_ : asked_).emplace(cookie, false);
  return taken;
}

void FrontEnd::hang_up(shard::Cookie cookie) {
  auto asked = asked_.find(cookie);
  if (asked == asked_.end()) {
    asked = streams_.find(cookie);
    if (asked == streams_.end()) return;
  }
  if (std::exchange(asked->second, true)) return;
  service_.abandon(cookie);
}

Result<shard::Turn> FrontEnd::turn() {
  WM_TRY(Duration const sleep, service_.turn());
  shard::Turn const& turn = service_.newest_turn();
  bool const has_more = turn.more || loop_.has_requests();
  if (sleep < Duration{0} || sleep > std::chrono::seconds{1} || (has_more && sleep != Duration{0})) {
    complain("the service lets its thread sleep although there is work");
  }
  check_readiness();
  return turn;
}

void FrontEnd::drain() {
  is_draining_ = true;
  service_.drain();
  check_readiness();
}

void FrontEnd::check_readiness() {
  auto const readiness = service_.readiness();
  auto wanted = service::Readiness::ready;
  if (is_draining_) {
    wanted = service::Readiness::draining;
    ++figures_[Figure::unready_as_draining];
  } else if (loop_.disk_low()) {
    wanted = service::Readiness::disk_full;
    ++figures_[Figure::unready_as_disk_low];
  }
  if (readiness != wanted) complain("the service says that it is ready for something else than it is");
}

void FrontEnd::check_drained() {
  for (auto const& [cookie, has_gone] : asked_) {
    if (!has_gone) return complain("a drained server owes somebody an answer");
  }
}

std::string FrontEnd::id(JobNumber number) const {
  std::string text;
  service_.append_id(number, {}, text);
  return text;
}

void FrontEnd::on_answers(std::span<service::Answer> answers) {
  if (is_submitting_) complain("an answer came from inside a submit");
  for (service::Answer& answer : answers) {
    for (service::Cookie const other : std::exchange(answer.also, {})) {
      take({.cookie = other, .reply = answer.reply, .turn = answer.turn, .ready_at = answer.ready_at});
    }
    take(std::move(answer));
  }
}

void FrontEnd::take(service::Answer answer) {
  if (auto const stream = streams_.find(answer.cookie); stream != streams_.end()) {
    bool const is_over = holds<StreamEnded>(answer.reply) || holds<Error>(answer.reply);
    answers_.push_back({.answer = std::move(answer), .has_gone = stream->second, .is_push = true});
    if (is_over) streams_.erase(stream);
    return;
  }
  auto const asked = asked_.find(answer.cookie);
  if (asked == asked_.end()) return complain("an answer came twice, or to nobody");
  answers_.push_back({.answer = std::move(answer), .has_gone = asked->second});
  asked_.erase(asked);
}

}  // namespace workmill::sim
