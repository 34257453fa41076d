#pragma once
#include <cstddef>
#include <deque>
#include <list>
#include <memory>
#include <unordered_map>

#include "transport.h"

// HTTP/1.1 over a bounded pool of connections. On one loop's thread. Internal.
//
// A connection serves one request at a time. Requests that find none free wait in line, up to a bound; a new connection
// is opened for each that waits, up to another. Before an idle connection is used it is looked at: one that the server
// has closed meanwhile, or that idled for too long, is not used.
namespace workmill::client::detail {

class TlsContext;
class HttpConnection;

class HttpTransport final : public Transport {
 public:
  HttpTransport(Loop& loop, Result<Address> address, ServerOptions options);
  ~HttpTransport() override;

  Ticket send(Request request, Done done) override;
  void abort(Ticket ticket) override;
  void call_off(Ticket ticket) override;

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
  void later(Done done, Error error);

  Loop& loop_;
  Result<Address> address_;
  ServerOptions const options_;
  std::shared_ptr<TlsContext> tls_;
  std::unordered_map<Ticket, Exchange> exchanges_;
  std::deque<Ticket> waiting_;  // May name some that are gone.
  std::size_t waiting_count_ = 0;
  std::list<ConnectionPtr> connections_;  // All.
  std::vector<ConnectionPtr> idle_;       // The one that was used last at the end.
  std::size_t opening_ = 0;
  Ticket next_ticket_ = 1;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace workmill::client::detail
