#include "app/load/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "app/load/producers.h"
#include "app/load/server_cpu.h"
#include "app/load/tally.h"
#include "app/load/workers.h"
#include "base/assert.h"

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kProgressEvery = std::chrono::milliseconds{100};
constexpr nanoseconds kSilenceMax = std::chrono::seconds{60};  // So long without an answer, and the load has failed.
// At a pace: answers are looked at in any case, for so long at least, though the next job is due.
constexpr nanoseconds kLookMin = std::chrono::microseconds{20};
constexpr std::size_t kJobsPerFill = 1'000;  // In one request, where jobs are only put there to be worked off.
constexpr std::size_t kJobsPerLook = 10;     // Of a mixed load: one of so many is looked at.

// Looks at one job of so many that are taken, over a connection of its own: as many as that gets done.
class Reader {
 public:
  static Result<std::unique_ptr<Reader>> connect(LoadOptions const& options, Tally& tally) {
    std::unique_ptr<Reader> made{new Reader{options, tally}};
    WM_TRY(made->peer_, tally.loop.connect<HttpPeer>());
    made->peer_->set_on_answer([self = made.get()](HttpPeer& peer, PeerAnswer const& answer) {
      if (self->tally_.was_refused(peer, answer) || answer.status == 404) return;  // Emptied meanwhile.
      self->tally_.expect(200, answer);
    });
    return made;
  }
  void on_taken(std::size_t count, std::string_view id) {
    due_ += count;
    if (due_ < kJobsPerLook || peer_->is_waiting()) return;
    due_ = 0;
    peer_->send(get_request(tally_.loop.address().authority, options_.server.token, fmt::format("/v1/jobs/{}", id)));
  }

 private:
  Reader(LoadOptions const& options, Tally& tally) : options_(options), tally_(tally) {}

  LoadOptions const& options_;
  Tally& tally_;
  HttpPeer* peer_ = nullptr;
  std::size_t due_ = 0;
};

// One load, from its connections to its figures.
class Run {
 public:
  Run(Load load, LoadOptions const& options, PeerLoop& loop, OnLoadProgress const& on_progress)
      : load_(load), options_(options), loop_(loop), on_progress_(on_progress), tally_(loop), cpu_(options.server) {
    tally_.jobs_max = options.jobs > 0 ? options.jobs : UINT64_MAX;
  }

  Result<LoadResult> go() {
    if (load_ == Load::drain) WM_TRY_VOID(fill());
    WM_TRY_VOID(connect());
    auto const cpu_before = cpu_.now();
    began_at_ = loop_.now();
    tally_.answered_at = began_at_;
    if (workers_) workers_->start();
    if (producers_) producers_->start();
    while (!is_over()) WM_TRY_VOID(turn());
    mark_end(cpu_before);
    while (!is_quiet()) WM_TRY_VOID(turn());
    return std::move(result_);
  }

 private:
  bool is_mixed() const { return load_ == Load::mixed; }

  Result<> connect() {
    using Times = Workers::Times;
    if (load_ != Load::enqueue) {
      Times const times = load_ == Load::drain ? Times::calls : Times::starts;
      if (options_.transport == Transport::http) {
        WM_TRY(workers_, HttpWorkers::connect(options_, is_mixed(), times, tally_));
      } else {
        WM_TRY(workers_, StreamWorkers::connect(options_, is_mixed(), times, tally_));
      }
    }
    if (load_ != Load::drain) {
      auto const times = load_ == Load::enqueue ? Producers::Times::calls : Producers::Times::nothing;
      WM_TRY(producers_, Producers::connect(options_, is_mixed(), times, tally_));
    }
    if (is_mixed()) {
      WM_TRY(reader_, Reader::connect(options_, tally_));
      workers_->set_on_taken([this](std::size_t count, std::string_view id) { reader_->on_taken(count, id); });
    }
    return {};
  }

  // What drain finds there. Not timed.
  Result<> fill() {
    LoadOptions filling = options_;
    filling.producers = 2;
    filling.batch = kJobsPerFill;
    filling.rate = 0;
    WM_TRY(filled_, Producers::connect(filling, false, Producers::Times::nothing, tally_));
    tally_.answered_at = loop_.now();
    filled_->start();
    while (tally_.acknowledged < options_.jobs) WM_TRY_VOID(turn());
    return {};
  }

  Result<> turn() {
    if (producers_) producers_->offer();
    auto const now = loop_.now();
    auto deadline = now + kProgressEvery;
    if (producers_) deadline = std::min(deadline, std::max(producers_->next_due(), now + kLookMin));
    if (options_.run_for.count() > 0 && !is_marked_) deadline = std::min(deadline, std::max(end_at(), now + kLookMin));
    WM_TRY([[maybe_unused]] bool const stopped, loop_.run_until(deadline));
    if (tally_.failed) return std::unexpected(*tally_.failed);
    auto const after = loop_.now();
    if (after - shown_at_ >= kProgressEvery) {
      shown_at_ = after;
      show();
    }
    if (after - tally_.answered_at > kSilenceMax) {
      return fail(ErrorCode::outcome_unknown, "the server does not answer any more");
    }
    return {};
  }

  void show() {
    std::uint64_t const done = load_ == Load::enqueue || workers_ == nullptr ? tally_.acknowledged : tally_.done;
    if (options_.jobs > 0) return on_progress_(done, options_.jobs);
    on_progress_(done, std::nullopt);
  }

  nanoseconds end_at() const { return began_at_ + options_.run_for; }

  // Is what is timed over? For workers over HTTP when all jobs have come: what they report last may be answered only
  // when others have waited in vain.
  bool is_over() {
    if (options_.run_for.count() > 0 && loop_.now() >= end_at()) {
      if (producers_) producers_->stop();
      return true;
    }
    if (!tally_.is_sending_over) return false;
    if (load_ == Load::enqueue) return tally_.acknowledged == tally_.offered;
    if (options_.transport == Transport::http && load_ != Load::drain) return tally_.to_take() == 0;
    return tally_.done == tally_.offered;
  }

  bool is_quiet() const {
    return load_ == Load::enqueue ? tally_.acknowledged == tally_.offered : tally_.done == tally_.offered;
  }

  void mark_end(std::optional<nanoseconds> cpu_before) {
    is_marked_ = true;
    result_.elapsed = loop_.now() - began_at_;
    bool const is_by_time = !tally_.is_sending_over || options_.run_for.count() > 0;
    std::uint64_t const through = load_ == Load::enqueue ? tally_.acknowledged : tally_.done;
    result_.jobs = is_by_time ? through : tally_.offered;
    result_.latency = tally_.latency;
    auto const cpu_after = cpu_.now();
    if (!cpu_before || !cpu_after || result_.jobs == 0) return;
    std::chrono::duration<double, std::micro> const used = *cpu_after - *cpu_before;
    result_.server_cpu_us = used.count() / static_cast<double>(result_.jobs);
    result_.cpu_source = cpu_.source();
  }

  Load load_;
  LoadOptions const& options_;
  PeerLoop& loop_;
  OnLoadProgress const& on_progress_;
  Tally tally_;
  ServerCpu cpu_;
  std::unique_ptr<Producers> producers_;
  std::unique_ptr<Producers> filled_;  // Who put the jobs of drain there. Its connections live as long as the loop.
  std::unique_ptr<Workers> workers_;
  std::unique_ptr<Reader> reader_;
  nanoseconds began_at_{};
  nanoseconds shown_at_{};
  bool is_marked_ = false;
  LoadResult result_;
};

}  // namespace

std::string_view to_string(Load load) {
  switch (load) {
    case Load::enqueue: return "enqueue";
    case Load::drain: return "drain";
    case Load::end_to_end: return "end-to-end";
    case Load::mixed: return "mixed";
    case Load::latency: return "latency";
  }
  return "";
}

std::string_view to_string(Transport transport) { return transport == Transport::http ? "http" : "stream"; }

double LoadResult::per_second() const {
  auto const seconds = std::chrono::duration<double>(elapsed).count();
  return seconds > 0 ? static_cast<double>(jobs) / seconds : 0;
}

Result<LoadResult> run_load(Load load, LoadOptions const& options, Clock const& clock,
                            OnLoadProgress const& on_progress) {
  WM_ASSERT(options.batch > 0 && (options.jobs > 0 || options.run_for.count() > 0));
  WM_ASSERT(load != Load::drain || options.jobs > 0);
  WM_ASSERT((options.producers > 0 || load == Load::drain) && (options.workers > 0 || load == Load::enqueue));
  WM_TRY(auto const loop, PeerLoop::open(options.server.url, clock));
  return Run{load, options, *loop, on_progress}.go();
}

}  // namespace workmill::app
