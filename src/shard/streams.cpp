#include "shard/streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/assert.h"

namespace workmill::shard {
namespace {
constexpr std::size_t kFreeNodesKept = 4'096;  // Beyond these the places of jobs that were out are given back.
}  // namespace

Stream& Streams::open(Stream stream) {
  stream.id = StreamId{next_id_++};
  bool const alone = by_asker_.emplace(std::pair{stream.port, stream.cookie}, stream.id).second;
  bool const unheard_of = by_token_.emplace(stream.token, stream.id).second;
  WM_ASSERT(alone && unheard_of);
  StreamId const id = stream.id;
  Stream& made = by_id_.emplace(id, std::move(stream)).first->second;
  changed(made);
  return made;
}

Stream* Streams::find(StreamId id) {
  auto const found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

Stream* Streams::find(Port port, Cookie cookie) {
  auto const found = by_asker_.find({port, cookie});
  return found == by_asker_.end() ? nullptr : find(found->second);
}

Stream* Streams::find(ResumeToken const& token) {
  auto const found = by_token_.find(token);
  return found == by_token_.end() ? nullptr : find(found->second);
}

Stream* Streams::any_attached() { return by_asker_.empty() ? nullptr : find(by_asker_.begin()->second); }

void Streams::leave_asker(Stream& stream) {
  leave_lines(stream);
  if (stream.is_attached) {
    by_asker_.erase({stream.port, stream.cookie});
  } else {
    by_deadline_.erase({stream.deadline, stream.id});
  }
  stream.is_attached = false;
  stream.deadline = kNever;
  stream.again.clear();
  stream.cancels.clear();
  window_used_ -= std::exchange(stream.window_used, 0);  // What was on its way is on no way any more.
}

void Streams::take_over(Stream& stream, Stream by) {
  leave_asker(stream);
  by_token_.erase(stream.token);
  stream.port = by.port;
  stream.cookie = by.cookie;
  stream.token = by.token;
  stream.owner = std::move(by.owner);
  stream.allowed = std::move(by.allowed);
  stream.request = std::move(by.request);
  stream.credit = by.credit;
  stream.drains = stream.owes_drained = false;
  stream.is_attached = true;
  bool const alone = by_asker_.emplace(std::pair{stream.port, stream.cookie}, stream.id).second;
  bool const unheard_of = by_token_.emplace(stream.token, stream.id).second;
  WM_ASSERT(alone && unheard_of);
  changed(stream);
}

void Streams::drop(Stream& stream, Instant now) {
  if (stream.out == 0) return remove(stream);
  leave_asker(stream);
  stream.deadline = now + options_.reconnect_within;
  by_deadline_.emplace(stream.deadline, stream.id);
  if (away() <= options_.streams_max) return;
  // Those before it are over already, and to be ended: there may be many, where all go at once.
  auto const first = by_deadline_.upper_bound({now, StreamId{std::numeric_limits<std::uint64_t>::max()}});
  if (first == by_deadline_.end()) return;
  StreamId const id = first->second;
  by_deadline_.erase(first);
  find(id)->deadline = now;
  by_deadline_.emplace(now, id);
}

void Streams::remove(Stream& stream) {
  while (stream.first_out != Stream::kNoOut) end_out(nodes_[stream.first_out].job.number);
  leave_asker(stream);
  by_token_.erase(stream.token);
  by_id_.erase(stream.id);  // The lists of those to be looked at and told find nobody.
}

std::optional<Instant> Streams::next_deadline() const {
  if (by_deadline_.empty()) return std::nullopt;
  return by_deadline_.begin()->first;
}

Stream* Streams::first_overdue(Instant now) {
  if (by_deadline_.empty() || by_deadline_.begin()->first > now) return nullptr;
  return find(by_deadline_.begin()->second);
}

std::optional<Streams::Out> Streams::first_out(Stream const& stream) const {
  if (stream.first_out == Stream::kNoOut) return std::nullopt;
  return nodes_[stream.first_out].job;
}

std::vector<Streams::Out> Streams::outs(Stream const& stream) const {
  std::vector<Out> all;
  all.reserve(stream.out);
  for (std::uint32_t at = stream.first_out; at != Stream::kNoOut; at = nodes_[at].behind) all.push_back(nodes_[at].job);
  return all;
}

bool Streams::is_out(Stream const& stream, Out const& job) const {
  auto const found = by_job_.find(job.number);
  if (found == by_job_.end()) return false;
  Node const& node = nodes_[found->second];
  return node.stream == stream.id && node.job.token == job.token;
}

// ---- Jobs out.

void Streams::add_out(Stream& stream, Out const& job) {
  std::uint32_t at = 0;
  if (free_nodes_.empty()) {
    at = static_cast<std::uint32_t>(nodes_.size());
    nodes_.emplace_back();
  } else {
    at = free_nodes_.back();
    free_nodes_.pop_back();
  }
  nodes_[at] = {.job = job, .stream = stream.id, .before = stream.last_out, .behind = Stream::kNoOut};
  (stream.last_out == Stream::kNoOut ? stream.first_out : nodes_[stream.last_out].behind) = at;
  stream.last_out = at;
  bool const alone = by_job_.emplace(job.number, at).second;
  WM_ASSERT(alone);  // A job has one lease.
  stream.out += 1;
  if (!is_hungry(stream)) leave_lines(stream);
}

void Streams::unlink(Stream& stream, std::uint32_t at) {
  Node const& node = nodes_[at];
  (node.before == Stream::kNoOut ? stream.first_out : nodes_[node.before].behind) = node.behind;
  (node.behind == Stream::kNoOut ? stream.last_out : nodes_[node.behind].before) = node.before;
  stream.out -= 1;
  if (by_job_.empty()) {  // Then no node is in use, and memory that a rush took can go.
    if (nodes_.size() > kFreeNodesKept) {
      nodes_ = {};
      free_nodes_ = {};
      return;
    }
  }
  free_nodes_.push_back(at);
}

void Streams::end_out(JobNumber job) {
  auto const found = by_job_.find(job);
  if (found == by_job_.end()) return;
  std::uint32_t const at = found->second;
  by_job_.erase(found);
  Stream& stream = *find(nodes_[at].stream);
  unlink(stream, at);
  changed(stream);
}

void Streams::wrote(Effect const& effect) {
  if (by_job_.empty()) return;
  if (auto const* completed = std::get_if<effect::JobCompleted>(&effect)) {
    end_out(completed->number);
  } else if (auto const* failed = std::get_if<effect::JobFailed>(&effect)) {
    end_out(failed->number);
  } else if (auto const* released = std::get_if<effect::JobReleased>(&effect)) {
    end_out(released->number);
  } else if (auto const* cancel = std::get_if<effect::CancelRequested>(&effect)) {
    auto const found = by_job_.find(cancel->number);
    if (found == by_job_.end()) return;
    Node const& node = nodes_[found->second];
    add_cancel(*find(node.stream), node.job);
  }
}

// ---- Windows and lines.

void Streams::use_window(Stream& stream, std::uint64_t bytes) {
  stream.window_used += bytes;
  window_used_ += bytes;
  if (!is_hungry(stream)) leave_lines(stream);
}

void Streams::give_back_window(Stream& stream, std::uint64_t bytes) {
  std::uint64_t const given = std::min(bytes, stream.window_used);
  stream.window_used -= given;
  window_used_ -= given;
  changed(stream);
}

bool Streams::is_hungry(Stream const& stream) const {
  return stream.is_attached && !stream.drains && stream.free_credit() > 0 && stream.window_used < options_.window_bytes;
}

void Streams::changed(Stream& stream) {
  if (!stream.is_attached) return;
  if (is_hungry(stream)) {
    enter_lines(stream);
    be_eager(stream);
  } else {
    leave_lines(stream);
    if (!stream.again.empty() && stream.window_used < options_.window_bytes) be_eager(stream);
  }
  if (stream.owes_drained && stream.out == 0) tell(stream);
}

void Streams::enter_lines(Stream& stream) {
  if (std::exchange(stream.in_line, true)) return;
  stream.place = next_place_++;
  for (QueueChoice const& queue : stream.lease().queues) lines_[queue.name].emplace(stream.place, stream.id);
}

void Streams::leave_lines(Stream& stream) {
  if (!std::exchange(stream.in_line, false)) return;
  for (QueueChoice const& queue : stream.lease().queues) {
    auto const line = lines_.find(queue.name);
    if (line == lines_.end()) continue;  // A queue that it named twice.
    line->second.erase({stream.place, stream.id});
    if (line->second.empty()) lines_.erase(line);
  }
}

Stream* Streams::first_in_line(std::string const& queue) {
  auto const line = lines_.find(queue);
  return line == lines_.end() ? nullptr : find(line->second.begin()->second);
}

std::size_t Streams::in_line(std::string const& queue) const {
  auto const line = lines_.find(queue);
  return line == lines_.end() ? 0 : line->second.size();
}

void Streams::to_the_end(Stream& stream) {
  if (!stream.in_line) return;
  leave_lines(stream);
  enter_lines(stream);
}

void Streams::be_eager(Stream& stream) {
  if (!std::exchange(stream.is_eager, true)) eager_.push_back(stream.id);
}

Stream* Streams::first_eager() {
  while (!eager_.empty()) {
    if (Stream* const stream = find(eager_.front())) return stream;
    eager_.pop_front();
  }
  return nullptr;
}

void Streams::forget_work() {
  put_off_.clear();
  while (Stream* const stream = first_eager()) end_eager(*stream);
}

void Streams::end_eager(Stream& stream) {
  WM_ASSERT(!eager_.empty() && eager_.front() == stream.id);
  eager_.pop_front();
  stream.is_eager = false;
}

// ---- Words.

void Streams::tell(Stream& stream) {
  if (!std::exchange(stream.is_told, true)) told_.push_back(stream.id);
}

void Streams::add_cancel(Stream& stream, Out const& job) {
  if (!stream.is_attached) return;  // Whoever takes it over hears of it.
  stream.cancels.push_back(job);
  tell(stream);
}

std::optional<Streams::Word> Streams::next_word() {
  while (!told_.empty()) {
    Stream* const stream = find(told_.front());
    told_.pop_front();
    if (stream == nullptr) continue;
    stream->is_told = false;
    if (!stream->is_attached) continue;
    Word word{.port = stream->port, .cookie = stream->cookie};
    for (Out const& job : std::exchange(stream->cancels, {})) {
      if (is_out(*stream, job)) word.cancels.push_back(job.number);  // Else it is over already.
    }
    word.drained = stream->owes_drained && stream->out == 0;
    if (word.drained) stream->owes_drained = false;
    if (word.drained || !word.cancels.empty()) return word;
  }
  return std::nullopt;
}

std::string Streams::check_invariants() const {
  std::size_t out = 0, in_lines = 0;
  std::uint64_t window = 0;
  for (auto const& [id, stream] : by_id_) {
    out += stream.out;
    window += stream.window_used;
    if (outs(stream).size() != stream.out) return "a stream's jobs are not as many as it counts";
    if (stream.in_line != is_hungry(stream)) return "a stream stands in line and wants nothing, or wants and does not";
    if (stream.in_line) in_lines += stream.lease().queues.size();
    auto const asker = by_asker_.find({stream.port, stream.cookie});
    if (stream.is_attached != (asker != by_asker_.end() && asker->second == id)) return "a stream is not where it came";
    if (!stream.is_attached && !by_deadline_.contains({stream.deadline, id})) return "a stream is waited for for ever";
    if (!stream.is_attached && stream.out == 0 && stream.deadline == kNever) return "a stream without jobs is kept";
    auto const token = by_token_.find(stream.token);
    if (token == by_token_.end() || token->second != id) return "a stream is not found by its token";
  }
  std::size_t stand = 0;
  for (auto const& [queue, line] : lines_) stand += line.size();
  if (out != by_job_.size()) return "jobs are out on no stream";
  if (window != window_used_) return "the windows do not add up";
  if (stand != in_lines) return "lines hold streams that are in none";
  if (by_asker_.size() + by_deadline_.size() != by_id_.size()) return "a stream is neither here nor away";
  if (by_token_.size() != by_id_.size()) return "a token is left over";
  return {};
}

}  // namespace workmill::shard
