#include <algorithm>
#include <utility>

#include "base/variant.h"
#include "sim/checkers/model_detail.h"

// What streams are sent in a turn, against what they have to be sent.
namespace workmill::sim {

bool Model::check_pushes() {
  for (auto const& [cookie, pushes] : *pushes_) {
    WM_SIM_HOLD(heard_.contains(cookie), "something was pushed to {}, which is no stream", cookie);
  }
  for (auto& [cookie, heard] : heard_) {
    Heading at;
    auto const pushes = pushes_->find(cookie);
    if (pushes != pushes_->end()) {
      for (Push const& push : pushes->second) {
        if (check_push(cookie, heard, at, push.reply)) continue;
        complaint_ += fmt::format(" (stream {})", cookie);
        return false;
      }
    }
    WM_SIM_HOLD(!heard.opened && !heard.refused, "stream {} was not answered", cookie);
    WM_SIM_HOLD(at.jobs == heard.jobs.size(), "stream {} was not sent job {:x}", cookie,
                raw(heard.jobs[at.jobs].number));
    WM_SIM_HOLD(heard.cancels.empty(), "stream {} did not hear that job {:x} is to be cancelled", cookie,
                heard.cancels.front());
    WM_SIM_HOLD(!heard.is_drained, "stream {} did not hear that it is drained", cookie);
    WM_SIM_HOLD(!heard.ended, "stream {} did not hear that it is over", cookie);
    ModelStream* const stream = attached_stream(cookie);
    if (stream == nullptr) continue;
    stream->window += at.bytes;
    for (; at.again < heard.again.size(); ++at.again) {
      ModelStream::Out const& out = heard.again[at.again];
      bool const is_out = std::find(stream->out.begin(), stream->out.end(), out) != stream->out.end();
      if (is_out) {
        stream->again.push_back(out);
      } else {
        ++figures_[Figure::stream_again_ended];
      }
    }
  }
  return true;
}

bool Model::check_push(shard::Cookie cookie, Heard& heard, Heading& at, Reply const& push) {
  WM_SIM_HOLD(!at.is_over, "something was pushed to a stream that is over");
  if (auto const* opened = std::get_if<StreamOpened>(&push)) {
    auto const wanted = std::exchange(heard.opened, std::nullopt);
    WM_SIM_HOLD(wanted.has_value(), "a stream was opened that should not have been");
    WM_SIM_HOLD(opened->token == wanted->token && opened->reconnect_within == wanted->reconnect_within &&
                    opened->lease == wanted->lease,
                "a stream was opened with other terms than were asked for");
    WM_SIM_HOLD(opened->resumed == wanted->resumed, "a stream was {}resumed", opened->resumed ? "" : "not ");
    return true;
  }
  WM_SIM_HOLD(!heard.opened, "a stream was sent something before it was opened");
  if (auto const* error = std::get_if<Error>(&push)) {
    auto const wanted = std::exchange(heard.refused, std::nullopt);
    at.is_over = true;
    return (wanted && error->code == *wanted) || complain("a stream was refused: {}", describe(*error));
  }
  if (auto const* sent = std::get_if<StreamJobs>(&push)) return check_jobs(heard, at, *sent);
  if (auto const* cancel = std::get_if<StreamCancel>(&push)) return check_cancel(heard, *cancel);
  if (holds<StreamDrained>(push)) {
    ModelStream const* const stream = attached_stream(cookie);
    WM_SIM_HOLD(stream == nullptr || stream->out.empty(), "a stream is drained, and job {:x} is out on it",
                stream->out.front().number);
    ++figures_[Figure::stream_drained];
    return std::exchange(heard.is_drained, false) || complain("a stream is drained that should not be");
  }
  if (auto const* ended = std::get_if<StreamEnded>(&push)) {
    auto const wanted = std::exchange(heard.ended, std::nullopt);
    at.is_over = true;
    return (wanted && ended->error.code == *wanted) || complain("a stream was ended: {}", describe(ended->error));
  }
  return complain("a stream was sent an answer");
}

// New leases in their order, and jobs that are sent again in theirs.
bool Model::check_jobs(Heard& heard, Heading& at, StreamJobs const& sent) {
  WM_SIM_HOLD(!sent.jobs.empty(), "a stream was sent no jobs");
  std::uint64_t least = 0;
  for (LeasedJob const& job : sent.jobs) {
    least += job.spec.size() + job.checkpoint.size();
    ModelStream::Out const out{.number = raw(job.number), .token = job.token};
    if (at.jobs < heard.jobs.size() && heard.jobs[at.jobs].number == job.number &&
        heard.jobs[at.jobs].token == job.token) {
      WM_SIM_STEP(compare_leased({std::move(heard.jobs[at.jobs])}, {job}));
      ++at.jobs;
      continue;
    }
    auto const begin = heard.again.begin() + static_cast<std::ptrdiff_t>(at.again);
    auto const place = std::find(begin, heard.again.end(), out);
    WM_SIM_HOLD(place != heard.again.end(), "a stream was sent job {:x}, which it should not have been", out.number);
    for (auto skipped = begin; skipped != place; ++skipped) {
      ModelJob const* const old = find(skipped->number);
      WM_SIM_HOLD(old == nullptr || old->state != JobState::leased || old->token != skipped->token,
                  "job {:x} was passed over when jobs were sent again", skipped->number);
      ++figures_[Figure::stream_again_ended];
    }
    at.again = static_cast<std::size_t>(place - heard.again.begin()) + 1;
    ModelJob const* const known = find(out.number);
    bool const is_as_sent = known != nullptr && known->state == JobState::leased && known->token == job.token &&
                            !reported_now_.contains(out.number) && !known->is_lost;
    if (!is_as_sent) continue;
    LeasedJob wanted{.number = known->number,
                     .token = known->token,
                     .lease_expires_at = known->due,
                     .attempt = known->attempt,
                     .max_attempts = known->max_attempts,
                     .spec = known->spec,
                     .checkpoint = known->checkpoint.data};
    WM_SIM_STEP(compare_leased({std::move(wanted)}, {job}));
  }
  WM_SIM_HOLD(sent.bytes >= least, "jobs of {} bytes count as {}", least, sent.bytes);
  at.bytes += sent.bytes;
  return true;
}

bool Model::check_cancel(Heard& heard, StreamCancel const& cancel) {
  for (StreamCancel::Job const& job : cancel.jobs) {
    auto const place = std::find(heard.cancels.begin(), heard.cancels.end(), raw(job.number));
    WM_SIM_HOLD(place != heard.cancels.end(), "a stream hears that job {:x} is to be cancelled", raw(job.number));
    heard.cancels.erase(place);
    WM_SIM_HOLD(jobs_.at(raw(job.number)).client_id == job.client_id, "job {:x} is to be cancelled under another id",
                raw(job.number));
    ++figures_[Figure::stream_cancel];
  }
  return true;
}

}  // namespace workmill::sim
