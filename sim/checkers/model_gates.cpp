#include <algorithm>
#include <vector>

#include "sim/checkers/model_detail.h"

// Which jobs flags hold back, and what that does to lines: who stands first in one and may not go is passed over, and
// has his place again when he may. How many are held back the server counts as they get to the front, a bounded number
// at once; where there are more, the model knows only in the end (`is_settled`) how far it has come.
namespace workmill::sim {
namespace {

constexpr std::uint64_t kAsideAtOnce = 64;
constexpr std::uint64_t kAsideOnChange = 1'000;

constexpr std::size_t at(ModelQueue::Offer offer) { return static_cast<std::size_t>(offer); }

}  // namespace

// ---- Types.

TypeIndex Model::type_index(std::string const& type) {
  auto const [known, is_new] = types_.try_emplace(type, static_cast<TypeIndex>(types_.size()));
  if (is_new && is_gated(type)) closed_.insert(known->second);
  return known->second;
}

// One that is closed is enough to hold it back.
std::pair<std::size_t, std::size_t> Model::gates_of(std::string const& type) const {
  std::pair<std::size_t, std::size_t> gates;
  for (auto const& [key, known] : flags_) {
    if (std::ranges::find(known.flag.gates, type) == known.flag.gates.end()) continue;
    ++(lets_through(key, known.flag, type) ? gates.second : gates.first);
  }
  return gates;
}

// ---- Lines.

std::optional<std::uint64_t> Model::first_open(Line const& line) const {
  if (closed_.empty()) return line.jobs.empty() ? std::nullopt : std::optional{line.jobs.begin()->first};
  std::optional<std::uint64_t> first;
  for (auto const& [type, orders] : line.by_type) {
    if (!is_closed(type) && !orders.empty() && (!first || *orders.begin() < *first)) first = *orders.begin();
  }
  return first;
}

ModelJob const* Model::next_of(Line const& line) const {
  auto const first = first_open(line);
  return first ? find(line.jobs.at(*first)) : nullptr;
}

// Where the line is passed up to when so many at its front have stepped aside.
std::uint64_t Model::passed_from(Line const& line, std::uint64_t steps, std::uint64_t& taken) const {
  std::uint64_t passed = line.passed;
  for (auto job = line.jobs.upper_bound(passed); job != line.jobs.end() && taken < steps; ++job) {
    if (!is_closed(jobs_.at(job->second).type_index)) break;
    passed = job->first;
    ++taken;
  }
  return passed;
}

// Or aside: then whoever is next is looked at as it comes or goes.
bool Model::is_at_front(Line const& line, ModelJob const& job) {
  auto const front = line.jobs.upper_bound(line.passed);
  return job.order <= line.passed || (front != line.jobs.end() && front->first == job.order);
}

void Model::step_aside(Line& line) {
  if (closed_.empty()) return;
  std::uint64_t taken = 0;
  line.passed = passed_from(line, kAsideAtOnce, taken);
  auto const front = line.jobs.upper_bound(line.passed);
  if (taken < kAsideAtOnce || front == line.jobs.end() || !is_closed(jobs_.at(front->second).type_index)) return;
  line.is_unsettled = is_any_unsettled_ = true;
  ++figures_[Figure::gate_unsettled];
}

// Has it one to lease by now? If it had none, its turn comes after all others that have.
void Model::offer(ModelQueue& queue, std::size_t priority, Line& line) {
  auto const first = first_open(line);
  Offer now = first ? Offer::yes : Offer::no;
  if (first && line.is_unsettled && *first > line.passed) now = Offer::maybe;
  if (now == line.offer) return;
  --queue.offers[priority][at(line.offer)];
  ++queue.offers[priority][at(now)];
  if (line.offer == Offer::no) line.turn = moment_;
  if (now == Offer::maybe) line.is_turn_known = false;
  if (line.offer == Offer::no && now == Offer::yes) line.is_turn_known = true;
  line.offer = now;
}

void Model::join_line(ModelQueue& queue, ModelJob const& job) {
  auto const [entry, is_new] = queue.lines[job.priority].try_emplace(job.group);
  Line& line = entry->second;
  if (is_new) ++queue.offers[job.priority][at(Offer::no)];
  line.jobs.emplace(job.order, raw(job.number));
  line.by_type[job.type_index].insert(job.order);
  if (is_at_front(line, job)) step_aside(line);
  offer(queue, job.priority, line);
}

void Model::leave_line(ModelQueue& queue, ModelJob const& job) {
  auto const entry = queue.lines[job.priority].find(job.group);
  Line& line = entry->second;
  bool const was_at_front = is_at_front(line, job);
  line.jobs.erase(job.order);
  line.by_type[job.type_index].erase(job.order);
  if (line.jobs.empty()) {
    --queue.offers[job.priority][at(line.offer)];
    queue.lines[job.priority].erase(entry);
    return;
  }
  if (was_at_front) step_aside(line);
  offer(queue, job.priority, line);
}

// Of a job that kept its place and did not really leave.
void Model::restore_line(ModelQueue& queue, ModelJob const& job, Line const& before) {
  Line& line = queue.lines[job.priority][job.group];
  line.passed = before.passed;
  line.is_unsettled = before.is_unsettled;
  offer(queue, job.priority, line);
  line.turn = before.turn;
  line.is_turn_known = before.is_turn_known;
}

// ---- Gates.

// What the flags say by now.
void Model::set_gates() {
  std::set<TypeIndex> closed;
  for (auto const& [type, index] : types_) {
    auto const [shut, open] = gates_of(type);
    if (shut > 0) closed.insert(index);
    if (shut > 0 && open > 0) ++figures_[Figure::gate_of_two_flags];
  }
  if (closed == closed_) return;
  std::uint64_t const held_before = held_back();
  bool const opens = std::ranges::any_of(closed_, [&](TypeIndex type) { return !closed.contains(type); });
  bool const closes = std::ranges::any_of(closed, [&](TypeIndex type) { return !closed_.contains(type); });
  closed_ = std::move(closed);
  pass_all();
  if (closes) ++figures_[Figure::gate_closed];
  if (closes && held_back() > held_before) ++figures_[Figure::gate_closed_on_jobs];
  if (opens) ++figures_[Figure::gate_opened];
  bool const lets_go = opens && held_back() < held_before;
  if (lets_go) ++figures_[Figure::gate_opened_for_jobs];
  has_gate_opened_ = has_gate_opened_ || lets_go;
}

// A restart sorts all jobs into lines anew.
void Model::restart_lines() {
  for (auto& [name, queue] : queues_) {
    for (auto& lines : queue.lines) {
      for (auto& [group, line] : lines) {
        line.passed = 0;
        line.turn = moment_;  // Whose turn it was is not written down.
        line.is_turn_known = true;
      }
    }
  }
  pass_all();
  if (held_back() > 0) ++figures_[Figure::gated_over_restart];
}

// All lines at once, as far as there is time for.
void Model::pass_all() {
  std::vector<std::pair<Line*, std::uint64_t>> passes;
  std::uint64_t taken = 0;
  for_each_line(
      [&](ModelQueue&, std::size_t, Line& line) { passes.emplace_back(&line, passed_from(line, UINT64_MAX, taken)); });
  bool const is_at_once = taken <= kAsideOnChange;
  is_any_unsettled_ = false;
  for (auto const& [line, passed] : passes) {
    line->is_unsettled = !is_at_once && passed != line->passed;
    if (is_at_once) line->passed = passed;
    is_any_unsettled_ = is_any_unsettled_ || line->is_unsettled;
  }
  for_each_line([&](ModelQueue& queue, std::size_t priority, Line& line) { offer(queue, priority, line); });
}

// The server has come to the end of what it had to do.
void Model::settle_lines() {
  if (!is_any_unsettled_) return;
  is_any_unsettled_ = false;
  for_each_line([&](ModelQueue& queue, std::size_t priority, Line& line) {
    std::uint64_t taken = 0;
    line.passed = passed_from(line, UINT64_MAX, taken);
    line.is_unsettled = false;
    offer(queue, priority, line);
  });
}

// The ready jobs of closed types.
std::uint64_t Model::held_back(ModelQueue const& queue) const {
  std::uint64_t sum = 0;
  if (closed_.empty()) return sum;
  for (auto const& lines : queue.lines) {
    for (auto const& [group, line] : lines) {
      for (TypeIndex const type : closed_) {
        if (auto const orders = line.by_type.find(type); orders != line.by_type.end()) sum += orders->second.size();
      }
    }
  }
  return sum;
}

std::uint64_t Model::held_back() const {
  std::uint64_t sum = 0;
  for (auto const& [name, queue] : queues_) sum += held_back(queue);
  return sum;
}

// Those of them who stand aside, and not behind others.
std::uint64_t Model::held_aside(ModelQueue const& queue) const {
  std::uint64_t sum = 0;
  for (auto const& lines : queue.lines) {
    for (auto const& [group, line] : lines) {
      for (TypeIndex const type : closed_) {
        auto const orders = line.by_type.find(type);
        if (orders == line.by_type.end()) continue;
        sum +=
            static_cast<std::uint64_t>(std::distance(orders->second.begin(), orders->second.upper_bound(line.passed)));
      }
    }
  }
  return sum;
}

// Of the ready jobs of a queue, those that could give way to others: those that may be leased. Of how many that is so
// the server knows only when those before them have gone.
std::uint64_t Model::droppable(ModelQueue const& queue, Fits how) const {
  std::uint64_t const ready = queue.depth_in(JobState::ready);
  if (closed_.empty()) return ready;
  if (queue.lines_with(Offer::yes) == 0 && (how == Fits::yes || queue.lines_with(Offer::maybe) == 0)) return 0;
  return ready - (how == Fits::maybe ? held_aside(queue) : held_back(queue));
}

bool Model::compare_gates(engine::EngineStatus const& status) {
  WM_SIM_HOLD(status.flags == flags_.size(), "there are {} flags instead of {}", status.flags, flags_.size());
  return compare_held_back(status.held_back);
}

bool Model::compare_held_back(std::uint64_t got) {
  std::uint64_t const wanted = held_back();
  WM_SIM_HOLD(got == wanted, "{} jobs are held back by gates instead of {}", got, wanted);
  return true;
}

}  // namespace workmill::sim
