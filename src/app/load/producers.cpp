#include "app/load/producers.h"

#include <algorithm>
#include <memory>
#include <string_view>

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

// What jobs of a mixed load have beside what all have, in turn. None has a low priority: where workers are slower than
// producers it would only wait for the end.
constexpr std::string_view kMixed[] = {"", R"(,"priority":9)",  "", "", R"(,"group":"g")",
                                       "", R"(,"delay":"5ms")", "", "", R"(,"group":"h","tags":["bench"])"};

}  // namespace

Producers::Producers(LoadOptions const& options, Times times, Tally& tally)
    : tally_(tally), times_(times), batch_(options.batch) {
  if (options.rate > 0) {
    gap_ = nanoseconds{static_cast<nanoseconds::rep>(1e9 / options.rate * static_cast<double>(batch_))};
  }
}

Result<std::unique_ptr<Producers>> Producers::connect(LoadOptions const& options, bool is_mixed, Times times,
                                                      Tally& tally) {
  std::unique_ptr<Producers> made{new Producers{options, times, tally}};
  auto const& host = tally.loop.address().authority;
  auto const add = [&](std::string_view more) {
    made->jobs_.emplace_back(host, options.server.token, options.queue, options.payload_bytes, options.batch, more);
  };
  if (!is_mixed) add("");
  for (std::string_view const more : kMixed) {
    if (is_mixed) add(more);
  }
  made->rest_ = std::make_unique<JobTemplate>(host, options.server.token, options.queue, options.payload_bytes, 1, "");
  for (std::size_t i = 0; i < options.producers; ++i) {
    WM_TRY(HttpPeer* const peer, tally.loop.connect<HttpPeer>());
    if (i == 0) made->first_index_ = peer->index();
    peer->set_on_answer([self = made.get()](HttpPeer& one, PeerAnswer const& answer) { self->on_answer(one, answer); });
    made->peers_.push_back(peer);
  }
  made->under_way_.resize(options.producers);
  return made;
}

void Producers::start() {
  if (is_paced()) {
    idle_.assign(peers_.begin(), peers_.end());
    next_ = tally_.loop.now() + gap_;
    return;
  }
  for (HttpPeer* const peer : peers_) {
    if (may_send()) send(*peer, tally_.loop.now());
  }
}

void Producers::offer() {
  while (is_paced() && may_send() && !idle_.empty()) {
    auto const now = tally_.loop.now();
    if (next_ > now) return;
    HttpPeer& peer = *idle_.front();
    idle_.pop_front();
    // Who had to wait for a connection counts from when it was due; that we woke up late is no fault of the server.
    bool const had_to_wait = now - next_ > gap_;
    send(peer, had_to_wait ? next_ : now);
    next_ += gap_;
  }
  if (!may_send()) next_ = nanoseconds::max();
}

void Producers::send(HttpPeer& peer, nanoseconds due) {
  bool const is_whole = tally_.jobs_max - tally_.offered >= batch_;
  JobTemplate& job = is_whole ? jobs_[turn_++ % jobs_.size()] : *rest_;
  std::size_t const count = is_whole ? batch_ : 1;
  under_way_[peer.index() - first_index_] = count;
  tally_.offered += count;
  if (tally_.offered == tally_.jobs_max) tally_.is_sending_over = true;
  peer.send(job.request(due));
}

void Producers::on_answer(HttpPeer& peer, PeerAnswer const& answer) {
  if (tally_.was_refused(peer, answer) || !tally_.expect(201, answer)) return;
  if (times_ == Times::calls) tally_.add_latency(peer.sent_at());
  tally_.acknowledged += under_way_[peer.index() - first_index_];
  if (is_paced()) {
    idle_.push_back(&peer);
    if (next_ <= tally_.loop.now()) tally_.loop.stop();  // Somebody waits for a connection: the next turn offers it.
  } else if (may_send()) {
    send(peer, tally_.loop.now());
  }
  if (tally_.is_sending_over && tally_.acknowledged == tally_.offered) tally_.loop.stop();
}

}  // namespace workmill::app
