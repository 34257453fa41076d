#include <algorithm>
#include <utility>

#include "sim/checkers/model_detail.h"

// Worker streams (docs/reference/stream.md), from the contract: who has how many jobs, who gets which, and when leases
// of those who do not come back end. What a stream is sent is looked at in model_pushes.cpp.
namespace workmill::sim {

// ---- Who there is.

ModelStream* Model::attached_stream(shard::Cookie cookie) {
  for (auto& [id, stream] : streams_) {
    if (!stream.is_away && stream.cookie == cookie) return &stream;
  }
  return nullptr;
}

// The workload sees to it that there is one at most.
ModelStream* Model::attached_stream(std::string const& worker) {
  for (auto& [id, stream] : streams_) {
    if (!stream.is_away && stream.request.worker == worker) return &stream;
  }
  return nullptr;
}

std::size_t Model::streams_attached() const {
  return static_cast<std::size_t>(
      std::count_if(streams_.begin(), streams_.end(), [](auto const& entry) { return !entry.second.is_away; }));
}

std::optional<JobNumber> Model::job_on_stream() const {
  for (auto const& [id, stream] : streams_) {
    if (!stream.out.empty()) return JobNumber{stream.out.front().number};
  }
  return std::nullopt;
}

std::uint64_t Model::window_of_all() const {
  std::uint64_t sum = 0;
  for (auto const& [id, stream] : streams_) sum += stream.window;
  return sum;
}

// That of a worker that has not come back in time, whose leases therefore end.
ModelStream* Model::overdue_stream_of(ModelJob const& job) {
  auto const on = out_on_.find(raw(job.number));
  if (on == out_on_.end() || is_draining_) return nullptr;
  ModelStream& stream = streams_.at(on->second);
  return stream.is_away && stream.deadline <= now_ ? &stream : nullptr;
}

// A lease has ended, however it did.
void Model::end_out(std::uint64_t number) {
  auto const on = out_on_.find(number);
  if (on == out_on_.end()) return;
  std::erase_if(streams_.at(on->second).out, [&](ModelStream::Out const& out) { return out.number == number; });
  out_on_.erase(on);
}

// Whoever has it on a stream is to hear that; one that is away hears it when it comes back.
void Model::note_cancel(std::uint64_t number) {
  auto const on = out_on_.find(number);
  if (on == out_on_.end()) return;
  ModelStream& stream = streams_.at(on->second);
  if (!stream.is_away) stream.cancels.push_back(number);
}

// It is no stream's connection any more. What was to be sent there in this turn may have been.
void Model::leave_stream(ModelStream& stream) {
  if (!stream.is_away) heard_[stream.cookie].again = std::exchange(stream.again, {});
  stream.again.clear();
  stream.cancels.clear();
  stream.window = 0;
}

bool Model::drop_stream(shard::Cookie cookie, Instant at) {
  ModelStream* const stream = attached_stream(cookie);
  if (stream == nullptr) return false;
  if (stream->out.empty()) {
    std::erase_if(streams_, [&](auto const& entry) { return &entry.second == stream; });
    return true;
  }
  ++figures_[Figure::stream_dropped];
  if (stream->pushed_until > at) ++figures_[Figure::stream_dropped_before_jobs];
  if (stream->reported_until > at) ++figures_[Figure::stream_dropped_while_reporting];
  stream->again.clear();
  stream->cancels.clear();
  stream->window = 0;
  stream->is_away = true;
  stream->deadline = at + options_.reconnect_within;
  if (streams_.size() - streams_attached() <= options_.streams_max) return true;
  ModelStream* first = nullptr;
  for (auto& [id, other] : streams_) {
    if (!other.is_away || other.deadline <= at) continue;
    if (first == nullptr || other.deadline < first->deadline) first = &other;
  }
  if (first == nullptr) return true;
  ++figures_[Figure::stream_away_too_many];
  first->deadline = at;
  return true;
}

// ---- Commands.

bool Model::run(shard::Cookie cookie, OpenStream const& command) {
  if (is_draining_) {
    ++figures_[Figure::stream_refused];
    heard_[cookie].refused = ErrorCode::shutting_down;
    return true;
  }
  ModelStream* old = nullptr;
  for (auto& [id, stream] : streams_) {
    if (command.resume && stream.token == *command.resume) old = &stream;
  }
  if (command.resume && old == nullptr) {
    bool const is_of_earlier_life = tokens_before_.contains(*command.resume);
    ++figures_[is_of_earlier_life ? Figure::stream_resumed_after_restart : Figure::stream_resume_unknown];
  }
  if (old != nullptr && (old->owner != command.owner || old->request.worker != command.lease.worker)) {
    ++figures_[Figure::stream_resume_foreign];
    old = nullptr;
  }
  if ((old == nullptr || old->is_away) && streams_attached() >= options_.streams_max) {
    ++figures_[Figure::stream_refused];
    heard_[cookie].refused = ErrorCode::overloaded;
    return true;
  }
  tokens_.insert(command.token);
  heard_[cookie].opened = StreamOpened{.token = command.token,
                                       .reconnect_within = options_.reconnect_within,
                                       .lease = command.lease.lease.value_or(std::chrono::seconds{60}),
                                       .resumed = old != nullptr};
  if (old == nullptr) old = &streams_[++last_stream_];
  take_over(*old, cookie, command);
  return true;
}

// A new one has nothing out, and nobody to be told.
void Model::take_over(ModelStream& stream, shard::Cookie cookie, OpenStream const& command) {
  bool const is_new = stream.cookie == 0;
  if (!is_new) {
    ++figures_[Figure::stream_resumed];
    if (stream.out.empty()) ++figures_[Figure::stream_resumed_with_nothing_out];
    if (stream.is_away && stream.deadline <= now_) ++figures_[Figure::stream_resumed_at_deadline];
    leave_stream(stream);
  }
  if (!is_new && !stream.is_away) {
    ++figures_[Figure::stream_replaced];
    if (stream.pushed_until > now_) ++figures_[Figure::stream_replaced_while_unflushed];
    heard_[stream.cookie].ended = ErrorCode::stream_replaced;
  }
  stream.cookie = cookie;
  stream.token = command.token;
  stream.owner = command.owner;
  stream.request = command.lease;
  stream.request.reports.clear();
  stream.credit = command.credit;
  stream.drains = stream.owes_drained = stream.is_away = false;
  for (ModelStream::Out const& out : stream.out) {
    if (jobs_.at(out.number).cancel_requested) {
      ++figures_[Figure::stream_cancel_on_resume];
      stream.cancels.push_back(out.number);
    }
    bool const is_held = std::any_of(command.held.begin(), command.held.end(), [&](JobRef const& ref) {
      ModelJob const* const held = find(ref);
      return held != nullptr && raw(held->number) == out.number;
    });
    ++figures_[is_held ? Figure::stream_held : Figure::stream_sent_again];
    if (!is_held) stream.again.push_back(out);
  }
}

bool Model::run(shard::Cookie cookie, TellStream const& command) {
  WM_SIM_HOLD(cookie == command.stream, "a word is said to another stream than it is sent on");
  ModelStream* const stream = attached_stream(cookie);
  if (stream == nullptr) return true;
  if (command.credit) {
    if (*command.credit < stream->out.size()) ++figures_[Figure::stream_credit_below_out];
    stream->credit = *command.credit;
  }
  if (command.drain) {
    if (!stream->out.empty()) ++figures_[Figure::stream_drained_later];
    stream->drains = stream->owes_drained = true;
  }
  stream->window -= std::min(stream->window, command.taken_bytes);
  return true;
}

// ---- What comes of it.

// Is this lease of a stream's worker one that the stream gets by now, on its present terms? Later in the turn it may be
// taken over, or get more as its window has room again, and neither leaves a record.
bool Model::can_be_of(ModelStream const& stream, effect::JobLeased const& granted) const {
  ModelJob const* const job = find(raw(granted.number));
  if (job == nullptr || stream.drains) return false;
  bool const is_asked_for = std::any_of(stream.request.queues.begin(), stream.request.queues.end(),
                                        [&](QueueChoice const& choice) { return choice.name == job->queue; });
  if (!is_asked_for || granted.deadline != now_ + stream.request.lease.value_or(job->lease)) return false;
  if (pushes_ == nullptr) return true;
  bool is_sent = false;  // Nobody is sent one that turns out to be damaged.
  for (auto const& [cookie, pushes] : *pushes_) {
    for (Push const& push : pushes) {
      auto const* const sent = std::get_if<StreamJobs>(&push.reply);
      if (sent == nullptr) continue;
      bool const is_there = std::any_of(sent->jobs.begin(), sent->jobs.end(),
                                        [&](LeasedJob const& leased) { return leased.token == granted.token; });
      if (is_there && cookie == stream.cookie) return push.answers_before <= replies_taken_;
      is_sent = is_sent || is_there;
    }
  }
  return !is_sent;
}

// A lease of this stream's worker is next in the log.
bool Model::serve_stream(ModelStream& stream) {
  WM_SIM_HOLD(!is_draining_, "a stream gets jobs while the server drains");
  WM_SIM_HOLD(!stream.drains, "a stream that drains gets jobs");
  WM_SIM_HOLD(stream.free_credit() > 0, "a stream has {} jobs out, a credit of {}, and gets more", stream.out.size(),
              stream.credit);
  Lease request = stream.request;
  request.max = stream.free_credit();
  std::vector<LeasedJob> leased;
  std::size_t const before = at_;
  WM_SIM_STEP(lease_jobs(request, leased, &stream));
  WM_SIM_HOLD(at_ > before, "a stream got a job on other terms than it asked for");
  Heard& heard = heard_[stream.cookie];
  auto const id = std::find_if(streams_.begin(), streams_.end(), [&](auto const& entry) {
                    return &entry.second == &stream;
                  })->first;
  for (LeasedJob& job : leased) {
    ++figures_[Figure::stream_lease];
    stream.out.push_back({.number = raw(job.number), .token = job.token});
    out_on_[raw(job.number)] = id;
    heard.jobs.push_back(std::move(job));
  }
  if (!leased.empty()) stream.pushed_until = answered_at_;
  return true;
}

// A job that is to be sent again is read again, and may turn out to be damaged.
bool Model::take_damaged_again(bool& is_any) {
  auto const is_again = [&](JobNumber number) {
    auto const on = out_on_.find(raw(number));
    if (on == out_on_.end()) return false;
    auto const& again = streams_.at(on->second).again;
    return std::any_of(again.begin(), again.end(), [&](auto const& out) { return out.number == raw(number); });
  };
  ModelJob* without_checkpoint = nullptr;
  if (auto const* dropped = next<effect::CheckpointMade>();
      dropped != nullptr && dropped->data.empty() && is_again(dropped->number)) {
    without_checkpoint = find(JobRef{.number = dropped->number, .text = {}});
    WM_SIM_STEP(drop_checkpoint(*without_checkpoint));
  }
  auto const* const failed = next<effect::JobFailed>();
  bool const is_damage =
      failed != nullptr && failed->code == to_string(ErrorCode::payload_damaged) && is_again(failed->number);
  WM_SIM_HOLD(without_checkpoint == nullptr || (is_damage && failed->number == without_checkpoint->number),
              "job {:x} lost its checkpoint and goes on", raw(without_checkpoint->number));
  if (!is_damage) return true;
  is_any = true;
  ++figures_[Figure::stream_again_damaged];
  return end_damaged(*find(JobRef{.number = failed->number, .text = {}}), *failed, without_checkpoint != nullptr);
}

// Their time to come back is over, or the server's.
bool Model::end_streams() {
  for (auto entry = streams_.begin(); entry != streams_.end();) {
    ModelStream& stream = entry->second;
    bool const is_overdue = stream.is_away && stream.deadline <= now_ && !is_draining_;
    WM_SIM_HOLD(!is_overdue || stream.out.empty(), "a worker did not come back, and its lease on job {:x} goes on",
                stream.out.front().number);
    bool const is_stopped = !stream.is_away && is_draining_;
    if (is_stopped) {
      ++figures_[Figure::stream_ended_by_drain];
      leave_stream(stream);
      heard_[stream.cookie].ended = ErrorCode::shutting_down;
      for (ModelStream::Out const& out : stream.out) out_on_.erase(out.number);  // Their leases go on.
    }
    entry = is_overdue || is_stopped ? streams_.erase(entry) : std::next(entry);
  }
  return true;
}

// At the end of a turn.
bool Model::check_streams() {
  for (auto& [id, stream] : streams_) {
    if (stream.is_away) continue;
    Heard& heard = heard_[stream.cookie];
    heard.again = std::exchange(stream.again, {});
    for (std::uint64_t const number : std::exchange(stream.cancels, {})) {
      auto const on = out_on_.find(number);
      if (on != out_on_.end() && on->second == id) heard.cancels.push_back(number);
    }
    if (stream.owes_drained && stream.out.empty()) {
      heard.is_drained = true;
      stream.owes_drained = false;
    }
  }
  if (pushes_ == nullptr) return true;
  WM_SIM_STEP(check_pushes());
  bool const is_full = window_of_all() >= options_.stream_window_all;
  for (auto& [id, stream] : streams_) {
    if (stream.is_away) continue;
    bool const is_own_full = stream.window >= options_.stream_window;
    if (!stream.again.empty()) {
      WM_SIM_HOLD(is_full || is_own_full, "job {:x} was not sent again", stream.again.front().number);
      ++figures_[Figure::stream_again_waits_for_window];
    }
    if (stream.drains || stream.free_credit() == 0 || !is_leasable(stream.request)) continue;
    WM_SIM_HOLD(is_full || is_own_full, "a stream has credit for {} more, and there are jobs for it",
                stream.free_credit());
    ++figures_[is_own_full ? Figure::stream_window_full : Figure::stream_window_full_for_all];
  }
  return true;
}

}  // namespace workmill::sim
