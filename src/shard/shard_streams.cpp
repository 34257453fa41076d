#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/assert.h"
#include "base/mutation.h"
#include "shard/access.h"
#include "shard/shard_loop.h"

// What a shard does for its worker streams: who they are is in streams.h.
namespace workmill::shard {
namespace {

// A message holds jobs of so many bytes of the log at most, or one. Clients have limits of their own.
constexpr std::uint64_t kMessageBytes = 256 * 1024;
// What a job costs beside its spec, in a message.
constexpr std::uint64_t kJobBytes = 256;
constexpr std::size_t kAgainPerStep = 256;          // Jobs that are read back at a time, to be sent once more.
constexpr std::size_t kLeasesEndedPerTurn = 2'000;  // Of streams that did not come back.

std::uint64_t window_bytes_of(std::vector<LeasedJob> const& jobs) {
  std::uint64_t bytes = 0;
  for (LeasedJob const& job : jobs) bytes += job.spec.size() + job.checkpoint.size() + kJobBytes;
  return bytes;
}

}  // namespace

void ShardLoop::open_stream(Request&& request) {
  auto const refuse = [&](ErrorCode code, std::string message) {
    answer(request.port, request.cookie, Error{.code = code, .message = std::move(message)});
  };
  auto& open = std::get<OpenStream>(request.command);
  if (draining_) return refuse(ErrorCode::shutting_down, "the server is shutting down");
  Stream* old = open.resume ? streams_.find(*open.resume) : nullptr;
  if (old != nullptr && (old->owner != open.owner || old->lease().worker != open.lease.worker)) old = nullptr;
  bool const adds_one = old == nullptr || !old->is_attached;
  if (adds_one && streams_.is_full()) return refuse(ErrorCode::overloaded, "as many worker streams are open as may be");
  if (streams_.find(open.token) != nullptr) return refuse(ErrorCode::internal, "a resume token was drawn twice");

  Stream by;
  by.port = request.port;
  by.cookie = request.cookie;
  by.token = open.token;
  by.owner = std::move(open.owner);
  by.allowed = std::move(request.allowed.queues);
  by.credit = open.credit;
  open.lease.reports.clear();
  StreamOpened opened{.token = open.token,
                      .reconnect_within = options_.streams.reconnect_within,
                      .lease = open.lease.lease.value_or(kLeaseDefault),
                      .resumed = old != nullptr};
  by.request = std::move(open.lease);
  if (old == nullptr) {
    answer(request.port, request.cookie, opened);
    streams_.open(std::move(by));
  } else {
    if (old->is_attached) {
      answer(old->port, old->cookie,
             StreamEnded{.error = {.code = ErrorCode::stream_replaced,
                                   .message = "its worker has come back on another connection"}});
    }
    answer(request.port, request.cookie, opened);
    streams_.take_over(*old, std::move(by));
    old->again = take_over_jobs(*old, open);
    streams_.changed(*old);
  }
  streams_full_.store(streams_.is_full(), std::memory_order_relaxed);
}

// The jobs that its worker does not have: to be sent once more, the last first. One that the worker may not see any
// more is nobody's. Whoever comes back also hears what he may have missed.
std::vector<StreamOut> ShardLoop::take_over_jobs(Stream& stream, OpenStream const& open) {
  absl::flat_hash_set<JobNumber> held;
  for (JobRef const& job : open.held) {
    if (auto const number = engine_.find(job)) held.insert(*number);
  }
  std::vector<StreamOut> again;
  for (Streams::Out const& out : streams_.outs(stream)) {
    if (stream.allowed && !may_see(*stream.allowed, out.number, engine_)) {
      engine_.end_lease(out.number, out.token, context(), batch_);
      continue;
    }
    if (auto const view = engine_.view(out.number); view && view->cancel_requested) {
      streams_.add_cancel(stream, out);
    }
    if (!held.contains(out.number)) again.push_back(out);
  }
  if (WM_MUTATION(resend_forgets_a_job) && !again.empty()) again.pop_back();
  std::ranges::reverse(again);
  return again;
}

void ShardLoop::tell_stream(Port port, TellStream const& word) {
  Stream* const stream = streams_.find(port, word.stream);
  if (stream == nullptr) return;  // It has ended meanwhile.
  if (word.credit) stream->credit = *word.credit;
  if (word.drain) stream->drains = stream->owes_drained = true;
  if (word.taken_bytes > 0) streams_.give_back_window(*stream, word.taken_bytes);
  streams_.changed(*stream);
}

// Their workers had time to come back.
void ShardLoop::end_streams_overdue() {
  std::size_t left = kLeasesEndedPerTurn;
  streams_overdue_ = false;
  if (WM_MUTATION(dropped_stream_never_ends)) return;
  while (Stream* const stream = streams_.first_overdue(now_)) {
    while (auto const out = streams_.first_out(*stream)) {
      if (left-- == 0) {
        streams_overdue_ = true;
        return;
      }
      bool const ended = engine_.end_lease(out->number, out->token, context(), batch_);
      WM_ASSERT(ended);  // The table hears of every lease that ends.
    }
    streams_.remove(*stream);
  }
}

// Nothing comes behind this, so what was leased to them is with them. Leases go on in the next process.
void ShardLoop::end_streams_for_drain() {
  streams_overdue_ = false;
  while (Stream* const stream = streams_.any_attached()) {
    answer(stream->port, stream->cookie,
           StreamEnded{.error = {.code = ErrorCode::shutting_down, .message = "the server is shutting down"}});
    streams_.remove(*stream);
  }
  streams_.forget_work();
}

Result<bool> ShardLoop::serve_stream(std::string const& queue, std::uint64_t& share) {
  Stream* const stream = streams_.first_in_line(queue);
  if (stream == nullptr || draining_ || !engine_.has_ready(stream->lease())) return false;
  if (stream_jobs_left_ == 0 || !streams_.has_room()) {
    streams_.put_off(queue);
    return false;
  }
  // As many as each would get if all got the same: a large credit is no right to what others could begin at once.
  if (share == 0) {
    std::uint64_t const hungry = streams_.in_line(queue);
    share = (engine_.count_ready(stream->lease()) + hungry - 1) / hungry;
  }
  streams_.to_the_end(*stream);
  WM_TRY_VOID(give_jobs(*stream, share));
  return true;
}

// Those that can take more than before, and queues that were put off.
Result<> ShardLoop::serve_eager_streams() {
  if (draining_) return {};
  for (std::string const& queue : streams_.take_put_off()) {
    std::uint64_t share = 0;
    for (bool more = true; more;) {
      WM_TRY(more, serve_stream(queue, share));
    }
  }
  while (Stream* const stream = streams_.first_eager()) {
    if (stream_jobs_left_ == 0 || !streams_.has_room()) return {};
    streams_.end_eager(*stream);
    WM_TRY_VOID(give_again(*stream));
    if (!streams_.is_hungry(*stream) || !engine_.has_ready(stream->lease())) continue;
    WM_TRY_VOID(give_jobs(*stream, stream->free_credit()));
    // A turn's jobs, or the room for all, came to their end before it had enough.
    if (streams_.is_hungry(*stream) && engine_.has_ready(stream->lease())) streams_.changed(*stream);
  }
  return {};
}

Result<std::size_t> ShardLoop::give_jobs(Stream& stream, std::uint64_t most) {
  std::size_t given = 0;
  while (given < most && stream_jobs_left_ > 0 && streams_.is_hungry(stream) && streams_.has_room()) {
    Lease& request = stream.lease();
    std::uint64_t const free = WM_MUTATION(stream_ignores_credit) ? stream.credit : stream.free_credit();
    request.max = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({most - given, free, stream_jobs_left_, std::uint64_t{kJobsPerLeaseMax}}));
    request.bytes_max = std::min(kMessageBytes, options_.streams.window_bytes - stream.window_used);
    WM_TRY(Reply reply, lease(stream.request));
    auto* const leased = std::get_if<LeaseReply>(&reply);
    if (leased == nullptr || leased->jobs.empty()) break;
    given += leased->jobs.size();
    for (LeasedJob const& job : leased->jobs) streams_.add_out(stream, {.number = job.number, .token = job.token});
    push_jobs(stream, std::move(leased->jobs));
  }
  return given;
}

Result<> ShardLoop::give_again(Stream& stream) {
  while (!stream.again.empty() && stream_jobs_left_ > 0 && streams_.has_room() &&
         stream.window_used < options_.streams.window_bytes) {
    std::vector<LeasedJob> jobs;
    std::uint64_t bytes = 0;
    std::uint64_t const bytes_max = std::min(kMessageBytes, options_.streams.window_bytes - stream.window_used);
    while (!stream.again.empty() && jobs.size() < std::min(kAgainPerStep, stream_jobs_left_) && bytes < bytes_max) {
      StreamOut const out = stream.again.back();
      stream.again.pop_back();
      if (!streams_.is_out(stream, out)) continue;  // Its lease has ended meanwhile.
      auto job = engine_.leased_job(out.number);
      WM_ASSERT(job.has_value());
      bytes += job->spec_bytes + (job->checkpoint_at ? kMessageBytes : 0);
      jobs.push_back(*std::move(job));
    }
    WM_TRY_VOID(take_specs(jobs));
    if (!jobs.empty()) push_jobs(stream, std::move(jobs));
  }
  if (!stream.again.empty()) streams_.changed(stream);  // Later.
  return {};
}

// One message a turn, as long as it is not large.
void ShardLoop::push_jobs(Stream& stream, std::vector<LeasedJob> jobs) {
  std::uint64_t const bytes = window_bytes_of(jobs);
  stream_jobs_left_ -= std::min(stream_jobs_left_, jobs.size());
  streams_.use_window(stream, bytes);
  if (!pending_.empty()) {
    Held& last = pending_.back();
    auto* const sent = std::get_if<StreamJobs>(&last.answer.reply);
    bool const is_same = sent != nullptr && last.port == stream.port && last.answer.cookie == stream.cookie;
    if (is_same && sent->bytes + bytes <= kMessageBytes) {
      std::move(jobs.begin(), jobs.end(), std::back_inserter(sent->jobs));
      sent->bytes += bytes;
      return;
    }
  }
  answer(stream.port, stream.cookie, StreamJobs{.jobs = std::move(jobs), .bytes = bytes});
  if (traces_) pending_.back().worker = stream.lease().worker;
}

void ShardLoop::tell_streams() {
  while (auto word = streams_.next_word()) {
    if (!word->cancels.empty()) {
      StreamCancel cancel;
      for (JobNumber const number : word->cancels) {
        auto view = engine_.view(number);
        WM_ASSERT(view.has_value());
        cancel.jobs.push_back({.number = number, .client_id = std::move(view->client_id)});
      }
      answer(word->port, word->cookie, std::move(cancel));
    }
    if (word->drained) answer(word->port, word->cookie, StreamDrained{});
  }
}

}  // namespace workmill::shard
