#pragma once
#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <unordered_map>

#include "transport.h"

// HTTP/1.1 over two bounded pools of connections: one for requests whose answer the server may hold back, and one for
// all others, which those are not in the way of. On one loop's thread. Internal.
namespace workmill::client::detail {

class TlsContext;
class HttpConnection;

// A connection serves one request at a time. Requests that find none free wait in line, up to a bound; a new connection
// is opened for each that waits, up to another. Before an idle connection is used it is looked at: one that the server
// has closed meanwhile, or that idled for too long, is not used.
class HttpPool {
 public:
  using Ticket = Transport::Ticket;
  using Done = Transport::Done;
  struct Bounds {
    std::size_t connections_max;
    std::size_t idle_max;  // Kept for the next request.
  };

  // `address`, `tls` and `options` outlive it. Its tickets are the first one and every second after that.
  HttpPool(Loop& loop, Result<Address> const& address, std::shared_ptr<TlsContext> const& tls,
           ServerOptions const& options, Bounds bounds, Ticket first_ticket);
  ~HttpPool();
  HttpPool(HttpPool const&) = delete;
  HttpPool& operator=(HttpPool const&) = delete;

  Ticket send(Request request, Done done);
  void abort(Ticket ticket);
  void call_off(Ticket ticket);

 private:
  friend class HttpConnection;
  using ConnectionPtr = std::shared_ptr<HttpConnection>;
  struct Exchange {
    Request request;
    Done done;
    Loop::TimerId timer = 0;
    ConnectionPtr connection;  // None: it waits for one.
  };

  void serve();
  void open();
  void on_open(ConnectionPtr const& connection, Result<> opened);
  void begin(Ticket ticket, ConnectionPtr const& connection);
  void on_answer(Ticket ticket, Result<Response> answer, bool reusable);
  void on_timeout(Ticket ticket);
  void finish(Ticket ticket, Result<Response> answer);
  void drop(ConnectionPtr const& connection);
  ConnectionPtr take_idle();
  void later(Ticket ticket, Done done, Error error);

  Loop& loop_;
  Result<Address> const& address_;
  std::shared_ptr<TlsContext> const& tls_;
  ServerOptions const& options_;
  Bounds const bounds_;
  std::unordered_map<Ticket, Exchange> exchanges_;
  std::unordered_map<Ticket, Done> refused_;  // They are told soon.
  std::deque<Ticket> waiting_;                // May name some that are gone.
  std::size_t waiting_count_ = 0;
  std::list<ConnectionPtr> connections_;  // All.
  std::vector<ConnectionPtr> idle_;       // The one that was used last at the end.
  std::size_t opening_ = 0;
  Ticket next_ticket_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

class HttpTransport final : public Transport {
 public:
  HttpTransport(Loop& loop, Result<Address> address, ServerOptions options);

  Ticket send(Request request, Done done) override;
  void abort(Ticket ticket) override { pool_of(ticket).abort(ticket); }
  void call_off(Ticket ticket) override { pool_of(ticket).call_off(ticket); }

 private:
  HttpPool& pool_of(Ticket ticket) { return ticket % 2 == 1 ? calls_ : waits_; }

  ServerOptions const options_;
  std::shared_ptr<TlsContext> tls_;
  Result<Address> const address_;  // Or what is wrong with it, or with whom to believe.
  HttpPool calls_;                 // Odd tickets.
  HttpPool waits_;                 // Even ones.
};

}  // namespace workmill::client::detail
