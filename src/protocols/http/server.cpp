#include "protocols/http/server.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "base/assert.h"
#include "base/variant.h"

namespace workmill::http {
namespace {

constexpr std::chrono::nanoseconds kSweepEvery = std::chrono::seconds{1};
// Where there are many connections each second's sweep is done in parts, so that nobody's request waits for all of it:
// when hundreds of slow clients run out of time together, each takes some 20 us to tell and to close. In as many parts
// as the sweep before had to look at so many: idle worker streams need no look, and are not worth a part.
constexpr std::size_t kLooksAPart = 128;
constexpr std::size_t kSweepPartsMax = 50;
// So many looks, or so many that were sent something, or one that is at its end, end a part, and the rest of it follows
// a little later: a send takes some 6 us, and an end 25, which a request that comes just then has to wait for.
constexpr std::size_t kLooksAtOnce = 256;
constexpr std::size_t kSentAtOnce = 32;
constexpr std::size_t kEndedAtOnce = 1;
// A sweep that is not through after its second is behind, and ends one more at once for each of these that it is late:
// so ten thousand whose time is over together are gone within some two seconds, and the rest is looked at.
constexpr std::chrono::nanoseconds kLate = std::chrono::milliseconds{100};
constexpr std::chrono::nanoseconds kSweepRest = std::chrono::milliseconds{1};
// So many answers are made and then sent, and so on: what is made is still in the processor's cache when it is sent,
// and the first of ten thousand need not wait for the last. More than connections commonly ask at a time, as the
// answers of one connection leave in one send.
constexpr std::size_t kAnswersASlice = 64;
// So many at a time, where there is a crew to send them: some milliseconds of work for one thread, beside which it is
// nothing to wake the others.
constexpr std::size_t kAnswersForCrew = 512;
// What we ask on our own behalf: jobs given back. Nobody waits for the answer.
constexpr CookieParts kNobody{.slot = CookieParts::kSlots - 1, .generation = 0, .sequence = 0};

}  // namespace

HttpServer::HttpServer(net::IoLoop& loop, service::Service& service, service::TokenStore const& tokens,
                       Clock const& clock, HttpLimits const& limits, telemetry::Logger& logger,
                       telemetry::Metrics& metrics, Rng chance, telemetry::Tracer* tracer)
    : loop_(loop),
      service_(service),
      limits_(limits),
      logger_(logger),
      counters_(metrics),
      stream_counters_(metrics),
      stream_json_(service),
      endpoints_(service, tokens, clock, counters_, metrics, logger, chance, tracer),
      admission_(limits.admission, clock.monotonic()),
      shared_{.loop = loop,
              .service = service,
              .admission = admission_,
              .endpoints = endpoints_,
              .limits = limits_,
              .counters = counters_,
              .clock = clock,
              .stages = nullptr,
              .profiler = nullptr,
              .deliver_profile = [this](service::Cookie cookie,
                                        Result<std::string> profile) { deliver_profile(cookie, std::move(profile)); },
              .streams = stream_counters_,
              .logger = logger,
              .stream_json = stream_json_,
              .scratch = scratch_.prepare(kScratchBytes)},
      connections_gauge_(metrics.gauge("workmill_http_connections", "Open HTTP connections.")),
      buffered_gauge_(metrics.gauge("workmill_http_buffered_bytes", "Memory held for requests and responses.")),
      under_way_gauge_(metrics.gauge("workmill_http_requests_under_way", "Requests read and not answered yet.")),
      in_flight_gauge_(
          metrics.gauge("workmill_http_in_flight", "Requests let in and not answered, but for long polls.")),
      in_flight_limit_gauge_(metrics.gauge("workmill_http_in_flight_limit",
                                           "Above which requests are refused: as measured, by the admission.")),
      delay_gauge_(metrics.gauge(
          "workmill_http_delay_seconds",
          "What the admission goes by: from bytes to answer, typical of a turn. Summed over I/O threads.")),
      held_gauge_(metrics.gauge("workmill_http_refusals_held", "Refusals held back for the time being.")),
      bound_gauges_(metrics),
      second_timer_(loop.context()),
      held_timer_(loop.context()),
      scope_(loop.context()),
      housekeeping_(loop.context()),
      drain_(loop, scope_) {
  WM_ASSERT(limits_.connections_max + kTurnedAwayMax < CookieParts::kSlots);
  service_.set_sink(this);
  endpoints_.set_admission(admission_);
  shared_.on_held = [this] { held_timer_.cancel(); };
  sweep();
  housekeeping_.spawn(keep_time());
  housekeeping_.spawn(keep_held());
}

HttpServer::~HttpServer() = default;

Result<std::uint16_t> HttpServer::listen(std::string_view text) {
  WM_TRY(auto const address, net::parse_address(text));
  WM_TRY(auto listener, net::Listener::open(loop_, address, listener_events()));
  auto const port = listener->address().port;
  listeners_.push_back(std::move(listener));
  return port;
}

Result<> HttpServer::listen_on(int descriptor) {
  WM_TRY(auto listener, net::Listener::adopt(loop_, descriptor, listener_events()));
  listeners_.push_back(std::move(listener));
  return {};
}

net::Listener::Events HttpServer::listener_events() {
  return {.on_socket = [this](Socket socket) { on_socket(std::move(socket)); },
          .on_pause = [this](boost::system::error_code reason) { on_accept_pause(reason); }};
}

void HttpServer::on_accept_pause(boost::system::error_code reason) {
  counters_.accept_pauses.add();
  logger_.warn("accepts no connections for a moment", {{"error", reason.message()}});
}

void HttpServer::on_socket(Socket socket) {
  if (static_cast<std::uint64_t>(socket.native_handle()) >= limits_.connections_from) {
    counters_.accepted.add();
    counters_.turned_away.add();
    return;
  }
  if (others_.empty()) return adopt(std::move(socket));
  next_other_ = (next_other_ + 1) % (others_.size() + 1);
  if (next_other_ == others_.size()) return adopt(std::move(socket));
  HttpServer* const other = others_[next_other_];
  boost::system::error_code error;
  auto const protocol = socket.local_endpoint(error).protocol();
  if (error) return;
  auto const handle = socket.release(error);
  if (error) return;
  other->loop_.post([other, protocol, handle] {
    boost::system::error_code failed;
    Socket theirs{other->loop_.context()};
    theirs.assign(protocol, handle, failed);
    if (failed) {
      ::close(handle);  // Still ours: the client learns at once that nobody will answer.
    } else {
      other->adopt(std::move(theirs));
    }
  });
}

void HttpServer::adopt(Socket socket) {
  counters_.accepted.add();
  if (shared_.tls != nullptr && shared_.handshakes >= limits_.handshakes_max) return counters_.refused_handshakes.add();
  boost::system::error_code gone;
  auto const client = net::client_key_of(socket.remote_endpoint(gone).address());
  Welcome const how = welcome(client);
  if (how != Welcome::served && turned_away_ >= kTurnedAwayMax) return;
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
    shared_.look_at.push_back(0);
  }
  std::uint32_t const slot = free_slots_.back();
  CookieParts const name{.slot = slot, .generation = slots_[slot].generation, .sequence = 0};
  auto task = serve(name, how, client, std::move(socket));
  if (!scope_.spawn(std::move(task))) return;
  free_slots_.pop_back();
  by_client_[client] += 1;
  if (how != Welcome::served) turned_away_ += 1;
}

Welcome HttpServer::welcome(ClientKey client) {
  if (scope_.size() - turned_away_ >= limits_.connections_max) {
    counters_.turned_away.add();
    return Welcome::turned_away;
  }
  auto const found = by_client_.find(client);
  if (found != by_client_.end() && found->second >= limits_.connections_per_address_max) {
    counters_.turned_away_address.add();
    return Welcome::turned_away_address;
  }
  return Welcome::served;
}

boost::asio::awaitable<void> HttpServer::serve(CookieParts name, Welcome welcome, ClientKey client, Socket socket) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  net::Connection connection{shared_.loop.poller(), std::move(socket), shared_.tls};
  Caller caller{connection.client(), connection.peer()};
  std::optional<std::string> upgraded;  // Its trace id.
  {
    Session session{shared_, name, welcome, connection, caller};
    slots_[name.slot].session = &session;
    co_await session.run();
    slots_[name.slot].session = nullptr;
    if (session.is_upgraded()) upgraded = session.take_trace_id();
  }
  if (upgraded) {
    auto stream = serve_stream(name, &connection, &caller, *std::move(upgraded));
    co_await std::move(stream);
  }
  Slot& slot = slots_[name.slot];
  if (auto const count = by_client_.find(client); --count->second == 0) by_client_.erase(count);
  if (welcome != Welcome::served) turned_away_ -= 1;
  slot.generation = (slot.generation + 1) % (1 << CookieParts::kGenerationBits);
  free_slots_.push_back(name.slot);
}

boost::asio::awaitable<void> HttpServer::serve_stream(CookieParts name, net::Connection* connection, Caller* caller,
                                                      std::string trace_id) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  StreamSession stream{shared_, name, *connection, *caller, std::move(trace_id)};
  slots_[name.slot].stream = &stream;
  co_await stream.run();
  slots_[name.slot].stream = nullptr;
}

HttpServer::Slot* HttpServer::find_slot(CookieParts name) {
  if (name.slot >= slots_.size()) return nullptr;
  Slot& slot = slots_[name.slot];
  return slot.generation == name.generation ? &slot : nullptr;
}

Session* HttpServer::find(CookieParts name) {
  Slot const* const slot = find_slot(name);
  return slot == nullptr ? nullptr : slot->session;
}

// False where nobody waits for it any more.
bool HttpServer::hand_over(CookieParts name, Reply const& reply) {
  Slot const* const slot = find_slot(name);
  if (slot == nullptr) return false;
  if (Session* const session = slot->session) {
    if (!session->take_answer(name.sequence, reply)) return false;
    if (session->touch()) touched_.push_back(name);
    return true;
  }
  if (StreamSession* const stream = slot->stream) {
    if (!stream->take_answer(name.sequence, reply)) return false;
    if (stream->touch()) touched_.push_back(name);
    return true;
  }
  return false;
}

void HttpServer::set_limits(HttpLimits const& limits) {
  WM_ASSERT(limits.connections_max + kTurnedAwayMax < CookieParts::kSlots);
  limits_ = limits;
  admission_.set_options(limits.admission);
  look_at_all();
  publish();
}

void HttpServer::set_stage_times(telemetry::StageTimes const& stages) {
  shared_.stages = &stages;
  endpoints_.set_stage_times(stages);
}

void HttpServer::set_thread_times(telemetry::ThreadTimes& threads) {
  thread_times_ = &threads;
  threads.sample(shared_.clock.monotonic());  // So that there is something to show from the first request on.
  endpoints_.set_thread_times(threads);
}

void HttpServer::on_answers(std::span<service::Answer> answers) {
  shared_.now = shared_.clock.monotonic();
  std::size_t count = 0;
  for (service::Answer const& answer : answers) count += 1 + answer.also.size();
  bool const with_crew = crew_ != nullptr && count >= kAnswersForCrew;
  std::size_t const slice = with_crew ? kAnswersForCrew : kAnswersASlice;
  // As of the oldest answer of the bunch: they nearly always come from one turn.
  auto const ready_at = answers.empty() ? shared_.now : answers.front().ready_at;
  std::size_t dealt = 0;
  auto const deal = [&](service::Cookie cookie, Reply const& reply) {
    if (!hand_over(CookieParts::unpack(cookie), reply)) give_back(cookie, reply);
    if (++dealt % slice == 0) end_slice(with_crew, ready_at);
  };
  for (service::Answer const& answer : answers) {
    deal(answer.cookie, answer.reply);
    for (service::Cookie const other : answer.also) deal(other, answer.reply);
  }
  end_slice(with_crew, ready_at);
  // To the end of sending them, which is as much work as what came before: without it a server that does nothing but
  // serve would seem to have pauses.
  auto const sent_at = shared_.clock.monotonic();
  auto const delay = std::exchange(shared_.bunch_delay, {});
  admission_.end_bunch(delay == delay.zero() ? delay : delay + (sent_at - shared_.now), sent_at);
  if (!shared_.held.empty()) release_held(sent_at);
}

void HttpServer::end_slice(bool with_crew, std::chrono::nanoseconds ready_at) {
  if (with_crew) send_with_crew();
  for (CookieParts const name : touched_) {
    std::uint32_t size = 0;
    if (Session* const session = find(name)) {
      size = session->take_bunch_size();
      session->end_bunch();
    } else if (StreamSession* const stream = slots_[name.slot].stream) {
      size = stream->take_bunch_size();
      stream->end_bunch();
    }
    if (shared_.stages == nullptr) continue;
    (*shared_.stages)[telemetry::Stage::reply].observe(shared_.clock.monotonic() - ready_at, size);
  }
  touched_.clear();
}

// What the touched sessions have, which is each of them once. How that went, they find out when they flush.
void HttpServer::send_with_crew() {
  to_send_.clear();
  for (CookieParts const name : touched_) {
    Session* const session = find(name);
    if (net::Connection* const connection = session != nullptr ? session->to_send() : nullptr) {
      to_send_.push_back(connection);
    }
  }
  crew_->send_ahead(to_send_);
}

// As many refusals as have been earned by serving, and those that were held long enough.
void HttpServer::release_held(std::chrono::nanoseconds now) {
  while (!shared_.held.empty()) {
    service::Cookie const cookie = shared_.held.front().cookie;
    CookieParts const name = CookieParts::unpack(cookie);
    Session* const session = find(name);
    if (session != nullptr) {
      bool const due = shared_.draining || now >= shared_.held.front().due;
      if (!due && !admission_.take_refusal()) return;
      shared_.held.pop_front();
      session->release_held(name.sequence);
      session->end_bunch();  // May hold back the connection's next.
    } else {
      shared_.held.pop_front();
    }
  }
}

// From the profiler's thread.
void HttpServer::deliver_profile(service::Cookie cookie, Result<std::string> profile) {
  loop_.post([this, name = CookieParts::unpack(cookie), profile = std::move(profile)] {
    Session* const session = find(name);
    if (session != nullptr && session->take_profile(name.sequence, profile)) session->end_bunch();
  });
}

// A client that went while its lease was being decided would hold its jobs until they run out.
void HttpServer::give_back(service::Cookie cookie, Reply const& reply) {
  // Whoever opened it has most likely said so, but where that got lost its stream would swallow jobs for ever.
  if (holds<StreamOpened>(reply)) return service_.abandon(cookie);
  auto const* const leased = std::get_if<LeaseReply>(&reply);
  if (leased == nullptr || leased->jobs.empty()) return;
  ReportBatch batch;
  for (LeasedJob const& job : leased->jobs) {
    batch.reports.push_back({.job = {.number = job.number, .text = {}}, .lease = job.token, .outcome = Released{}});
  }
  counters_.released.add(batch.reports.size());
  // Where even this is not taken, the leases run out by themselves.
  if (auto const taken = service_.submit(kNobody.pack(), std::move(batch), service::kNever); !taken) {
    logger_.warn("leases of a client that has gone run out instead of ending at once",
                 {{"jobs", leased->jobs.size()}, {"error", describe(taken.error())}});
  }
}

void HttpServer::stop_accepting(std::move_only_function<void()> on_stopped) {
  listening_ = listeners_.size();
  if (listening_ == 0) return on_stopped();
  // The last of them tells, whichever it is.
  on_stopped_ = std::move(on_stopped);
  for (auto& listener : listeners_) {
    listener->stop([this] {
      if (--listening_ == 0) std::exchange(on_stopped_, nullptr)();
    });
  }
}

void HttpServer::drain(Duration patience, std::move_only_function<void(net::Drained)> on_done) {
  shared_.draining = true;
  for (auto& listener : listeners_) listener->close();
  for (Slot const& slot : slots_) {
    if (slot.session != nullptr) slot.session->drain();
    if (slot.stream != nullptr) slot.stream->drain();
  }
  release_held(shared_.clock.monotonic());
  drain_.begin(patience, std::move(on_done));
}

void HttpServer::sweep() {
  swept_ = part_end_ = looks_ = 0;
  sweep_part(1, {.looks = slots_.size(), .sent = slots_.size(), .ended = slots_.size()});
}

std::size_t HttpServer::ends_at_once() const {
  if (swept_ == 0) return kEndedAtOnce;
  auto const late = shared_.clock.monotonic() - sweep_began_ - kSweepEvery;
  return kEndedAtOnce + static_cast<std::size_t>(std::max(late, std::chrono::nanoseconds{0}) / kLate);
}

// Nobody's next look holds any more.
void HttpServer::look_at_all() { std::ranges::fill(shared_.look_at, 0U); }

void HttpServer::sweep_part(std::size_t parts, SweepBounds const& bounds) {
  auto const seconds = std::chrono::floor<std::chrono::seconds>(shared_.clock.monotonic()).count();
  shared_.second = static_cast<std::uint32_t>(seconds);
  if (swept_ == 0 && endpoints_.have_tokens_changed()) look_at_all();
  if (swept_ == 0) sweep_began_ = shared_.clock.monotonic();
  if (swept_ >= part_end_) part_end_ = std::min(slots_.size(), swept_ + (slots_.size() + parts - 1) / parts);
  SweepBounds done;
  for (; swept_ < part_end_; ++swept_) {
    if (shared_.second < shared_.look_at[swept_]) continue;
    Session* const session = slots_[swept_].session;
    StreamSession* const stream = slots_[swept_].stream;
    if (session == nullptr && stream == nullptr) continue;
    if (done.looks == bounds.looks || done.sent == bounds.sent || done.ended == bounds.ended) return;
    ++looks_;
    ++done.looks;
    switch (session != nullptr ? session->sweep() : stream->sweep()) {
      case Swept::looked: break;
      case Swept::sent: ++done.sent; break;
      case Swept::ended: ++done.ended; break;
    }
  }
  if (swept_ < slots_.size()) return;
  looked_at_ = std::exchange(looks_, 0);
  swept_ = part_end_ = 0;
  if (thread_times_ != nullptr) thread_times_->sample(shared_.clock.monotonic());
  shared_.spare_outputs.clear();  // They serve one burst of answers, and count as nobody's memory.
  publish();
}

// Differences, as the gauges are shared by the servers of all I/O threads.
void HttpServer::publish() {
  auto const publish = [](telemetry::Gauge& gauge, double& published, std::uint64_t now) {
    auto const value = static_cast<double>(now);
    gauge.add(value - std::exchange(published, value));
  };
  publish(connections_gauge_, connections_published_, scope_.size());
  publish(buffered_gauge_, buffered_published_, shared_.bytes_in_flight());
  publish(under_way_gauge_, under_way_published_, shared_.under_way);
  publish(in_flight_gauge_, in_flight_published_, admission_.in_flight());
  publish(in_flight_limit_gauge_, in_flight_limit_published_, admission_.limit());
  publish(held_gauge_, held_published_, shared_.held.size());
  double const delay = std::chrono::duration<double>(admission_.delay()).count();
  delay_gauge_.add(delay - std::exchange(delay_published_, delay));
  std::uint32_t most = 0;
  for (auto const& [client, count] : by_client_) most = std::max(most, count);
  std::vector<Fullness> bounds{
      {.name = "http_connections", .used = scope_.size() - turned_away_, .limit = limits_.connections_max},
      {.name = "http_handshakes", .used = shared_.handshakes, .limit = limits_.handshakes_max},
      {.name = "http_in_flight", .used = admission_.in_flight(), .limit = admission_.limit()},
      {.name = "http_connections_of_one_address", .used = most, .limit = limits_.connections_per_address_max},
      {.name = "http_buffered_bytes", .used = shared_.bytes_in_flight(), .limit = limits_.buffered_bytes_max},
  };
  // At most its limit, which is above what is there where one answer is larger, or the limit was lowered.
  auto const add_peak = [&](std::string name, telemetry::RecentPeak& peak, std::uint64_t limit) {
    bounds.push_back({.name = std::move(name), .used = std::min(peak.read(shared_.second), limit), .limit = limit});
  };
  add_peak("http_header_bytes", shared_.peaks.header_bytes, limits_.header_bytes_max);
  add_peak("http_body_bytes", shared_.peaks.body_bytes, limits_.body_bytes_max);
  add_peak("http_pipelined", shared_.peaks.pipelined, limits_.pipelined_max);
  add_peak("http_output_bytes", shared_.peaks.output_bytes, kOutputBytesMax);
  bound_gauges_.publish(bounds);
  // The log has gauges of its own.
  telemetry::LogFigures const log = shared_.logger.figures();
  bounds.push_back({.name = "log_lines", .used = log.queued, .limit = log.queue_lines_max});
  endpoints_.set_front_end(std::move(bounds));
}

// While refusals are held back, and no answers go out that would look at them.
boost::asio::awaitable<void> HttpServer::keep_held() {
  constexpr auto kHeldEvery = std::chrono::milliseconds{10};
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto const cancellation = co_await boost::asio::this_coro::cancellation_state;
  for (;;) {
    if (shared_.held.empty()) {
      held_timer_.expires_at(boost::asio::steady_timer::time_point::max());
    } else {
      held_timer_.expires_after(kHeldEvery);
    }
    auto const [woken] = co_await held_timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (cancellation.cancelled() != boost::asio::cancellation_type::none) co_return;
    if (woken) continue;
    auto const now = shared_.clock.monotonic();
    admission_.end_bunch({}, now);
    release_held(now);
  }
}

boost::asio::awaitable<void> HttpServer::keep_time() {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto const cancellation = co_await boost::asio::this_coro::cancellation_state;
  for (;;) {
    std::size_t const parts = std::clamp<std::size_t>(looked_at_ / kLooksAPart, 1, kSweepPartsMax);
    second_timer_.expires_after(swept_ < part_end_ ? kSweepRest : std::chrono::nanoseconds{kSweepEvery / parts});
    auto const [error] = co_await second_timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    // It may have run out just before it was cancelled.
    if (error || cancellation.cancelled() != boost::asio::cancellation_type::none) co_return;
    sweep_part(parts, {.looks = kLooksAtOnce, .sent = kSentAtOnce, .ended = ends_at_once()});
  }
}

}  // namespace workmill::http
