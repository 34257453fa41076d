#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "base/time.h"
#include "net/drain.h"
#include "net/input_buffer.h"
#include "net/io_loop.h"
#include "net/listener.h"
#include "net/send_crew.h"
#include "net/task_scope.h"
#include "protocols/http/calls/endpoints.h"
#include "protocols/http/limits.h"
#include "protocols/http/pages/bound_gauges.h"
#include "protocols/http/session.h"
#include "protocols/http/stream/stream_counters.h"
#include "protocols/http/stream/stream_session.h"
#include "service/service.h"
#include "service/token_store.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/stage_times.h"
#include "telemetry/thread_times.h"
#include "telemetry/tracer.h"

// The HTTP API on one I/O thread: takes connections, and hands the service's answers to those that wait for them.
//
// All calls on the loop's thread, or before it runs.
namespace workmill::http {

class HttpServer final : public service::AnswerSink {
 public:
  using Socket = net::Listener::Socket;

  // What is lent outlives the server. `chance` is for trace ids. `tracer` null: nothing is traced.
  HttpServer(net::IoLoop& loop, service::Service& service, service::TokenStore const& tokens, Clock const& clock,
             HttpLimits const& limits, telemetry::Logger& logger, telemetry::Metrics& metrics, Rng chance,
             telemetry::Tracer* tracer = nullptr);
  // Cuts off what is still connected.
  ~HttpServer() override;

  // Accepts on "127.0.0.1:7330" (see net::parse_address). Answers the port.
  Result<std::uint16_t> listen(std::string_view address);
  // The same from a socket that listens already: see net::Listener::adopt. May be called for several.
  Result<> listen_on(int descriptor);
  // With several I/O threads one server listens; what it accepts goes round all of them, itself included. `others` must
  // outlive this server's accepting.
  void share_with(std::vector<HttpServer*> others) { others_ = std::move(others); }
  // See Endpoints. On the loop's thread.
  void set_cors_origins(std::vector<std::string> origins) { endpoints_.set_cors_origins(std::move(origins)); }
  // From the next connection on they speak TLS. The identity outlives the server. Before listen().
  void use_tls(net::TlsIdentity const& identity) { shared_.tls = &identity; }
  // Who helps where very many answers are there at once. It outlives the server. Null: nobody.
  void set_crew(net::SendCrew* crew) { crew_ = crew; }
  // Serves a connection that somebody else has accepted.
  void adopt(Socket socket);

  // New limits, at once: those of the size of a request for connections that come from now on. On the loop's thread.
  void set_limits(HttpLimits const& limits);
  // Before it listens: to measure where the time of requests goes, and to show how busy the threads are (this server
  // samples them once a second). Both outlive the server.
  void set_stage_times(telemetry::StageTimes const& stages);
  void set_thread_times(telemetry::ThreadTimes& threads);
  // Who takes profiles of the process; it ends before this server. Without one there are none.
  void set_profiler(telemetry::CpuProfiler* profiler) { shared_.profiler = profiler; }

  void on_answers(std::span<service::Answer> answers) override;

  // No new connections: those that the kernel has accepted for us are still served or handed to the other servers. When
  // `on_stopped` is called all of them have been, so that a drain of each server, posted to its loop from there, comes
  // after the last connection that it gets. Before drain(), on every server that listens.
  void stop_accepting(std::move_only_function<void()> on_stopped);

  // No new connections and no further requests; what is under way is answered, for as long as `patience`, and then cut
  // off. The service is to be drained too, so that long polls end.
  void drain(Duration patience, std::move_only_function<void(net::Drained)> on_done);

  // What happens once a second: connections that take too long are ended. For tests that turn the clock themselves.
  void sweep();

  std::size_t connections() const { return scope_.size(); }

 private:
  struct Slot {
    Session* session = nullptr;
    StreamSession* stream = nullptr;  // Instead of it, once it was upgraded.
    std::uint32_t generation = 0;
  };

  boost::asio::awaitable<void> serve(CookieParts name, Welcome welcome, ClientKey client, Socket socket);
  boost::asio::awaitable<void> serve_stream(CookieParts name, net::Connection* connection, Caller* caller,
                                            std::string trace_id);
  struct SweepBounds {
    std::size_t looks = 0;  // At connections.
    std::size_t sent = 0;   // To so many of these,
    std::size_t ended = 0;  // and so many ended.
  };
  // The next of so many parts of a sweep, or as much of it as the bounds allow.
  void sweep_part(std::size_t parts, SweepBounds const& bounds);
  // More where the present sweep is behind its time.
  std::size_t ends_at_once() const;
  void look_at_all();
  boost::asio::awaitable<void> keep_time();
  boost::asio::awaitable<void> keep_held();
  void release_held(std::chrono::nanoseconds now);
  net::Listener::Events listener_events();
  void on_socket(Socket socket);
  void on_accept_pause(boost::system::error_code reason);
  Welcome welcome(ClientKey client);
  Slot* find_slot(CookieParts name);
  Session* find(CookieParts name);
  bool hand_over(CookieParts name, Reply const& reply);
  void give_back(service::Cookie cookie, Reply const& reply);
  void end_slice(bool with_crew, std::chrono::nanoseconds ready_at);
  void send_with_crew();
  void publish();
  void deliver_profile(service::Cookie cookie, Result<std::string> profile);

  static constexpr std::size_t kScratchBytes = 64 * 1024;

  net::IoLoop& loop_;
  service::Service& service_;
  HttpLimits limits_;
  telemetry::Logger& logger_;
  HttpCounters counters_;
  StreamCounters stream_counters_;
  JsonIn stream_json_;
  Endpoints endpoints_;
  service::Admission admission_;
  net::InputBuffer scratch_;
  Shared shared_;

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::unordered_map<ClientKey, std::uint32_t> by_client_;  // Connections.
  std::uint32_t turned_away_ = 0;                           // Connections that only get to hear so.
  std::vector<CookieParts> touched_;       // Connections that got something in the bunch being dealt out.
  std::vector<net::Connection*> to_send_;  // Of these; kept for its room.
  net::SendCrew* crew_ = nullptr;

  telemetry::Gauge& connections_gauge_;
  telemetry::Gauge& buffered_gauge_;
  telemetry::Gauge& under_way_gauge_;
  telemetry::Gauge& in_flight_gauge_;
  telemetry::Gauge& in_flight_limit_gauge_;
  telemetry::Gauge& delay_gauge_;
  telemetry::Gauge& held_gauge_;
  double in_flight_published_ = 0, in_flight_limit_published_ = 0, delay_published_ = 0, held_published_ = 0;
  double connections_published_ = 0, buffered_published_ = 0, under_way_published_ = 0;
  BoundGauges bound_gauges_;
  telemetry::ThreadTimes* thread_times_ = nullptr;

  std::vector<HttpServer*> others_;
  std::size_t next_other_ = 0;
  boost::asio::steady_timer second_timer_;
  std::chrono::nanoseconds sweep_began_{};
  std::size_t swept_ = 0;      // Slots that the present sweep has seen.
  std::size_t part_end_ = 0;   // Where its present part ends.
  std::size_t looks_ = 0;      // At connections in it.
  std::size_t looked_at_ = 0;  // In the one before.
  boost::asio::steady_timer held_timer_;
  std::size_t listening_ = 0;  // Of the listeners, since stop_accepting() has been called.
  std::move_only_function<void()> on_stopped_;
  // From here on in this order, as each still runs while it ends: nobody is told any more, nothing comes in, nothing is
  // swept, and then the connections end, before what they use.
  net::TaskScope scope_;
  net::TaskScope housekeeping_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  net::Drain drain_;
};

}  // namespace workmill::http
