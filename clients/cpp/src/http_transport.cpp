#include "http_transport.h"

#include <algorithm>
#include <array>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>
#include <limits>
#include <optional>

#include "socket.h"
#include "stream_link.h"

namespace workmill::client::detail {
namespace {

namespace http = boost::beast::http;

constexpr std::size_t kReadBytes = 32 * 1024;
constexpr std::uint64_t kBodyBytesMax = std::uint64_t{256} << 20;  // Of an answer: a page of 1,000 jobs is far below.
constexpr std::uint32_t kHeadBytesMax = 64 * 1024;
constexpr Duration kCalledOffWait{5'000};  // So long has a server to end what is called off.

std::string compose(Request const& request, Address const& address) {
  std::string text;
  text.reserve(request.body.size() + 384);
  text.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\nHost: ");
  bool const is_v6 = address.host.find(':') != std::string::npos;
  text.append(is_v6 ? "[" + address.host + "]" : address.host).append(":").append(address.port).append("\r\n");
  if (!address.token.empty()) text.append("Authorization: Bearer ").append(address.token).append("\r\n");
  if (!request.idempotency_key.empty()) {
    text.append("Idempotency-Key: ").append(request.idempotency_key).append("\r\n");
  }
  if (!request.traceparent.empty()) text.append("traceparent: ").append(request.traceparent).append("\r\n");
  if (!request.tracestate.empty()) text.append("tracestate: ").append(request.tracestate).append("\r\n");
  if (request.method != "GET") {
    if (!request.content_type.empty())
      text.append("Content-Type: ").append(request.content_type).append("\r\n");
    else if (!request.body.empty())
      text.append("Content-Type: application/json\r\n");
    text.append("Content-Length: ").append(std::to_string(request.body.size())).append("\r\n");
  }
  text.append("\r\n").append(request.body);
  return text;
}

std::optional<std::uint32_t> parse_seconds(std::string_view text) {
  std::uint32_t seconds = 0;
  auto const parsed = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (parsed.ec == std::errc::result_out_of_range) return std::numeric_limits<std::uint32_t>::max();
  if (parsed.ec != std::errc{}) return std::nullopt;
  return seconds;
}

}  // namespace

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpPool& pool, std::shared_ptr<Socket> socket) : pool_(&pool), socket_(std::move(socket)) {}

  Socket& socket() { return *socket_; }
  std::shared_ptr<Socket> const& shared_socket() { return socket_; }
  Loop::Clock::time_point idle_since{};

  void run(Transport::Ticket ticket, std::string text) {
    ticket_ = ticket;
    out_ = std::move(text);
    is_writing_ = true;
    parser_ = std::make_unique<http::response_parser<http::string_body>>();
    parser_->body_limit(kBodyBytesMax);
    parser_->header_limit(kHeadBytesMax);
    parser_->eager(true);
    asio::async_write(*socket_, asio::buffer(out_),
                      [self = shared_from_this()](boost::system::error_code const& error, std::size_t) {
                        self->is_writing_ = false;
                        if (error) self->fail("sending: " + error.message(), error);
                      });
    read();
  }
  // The pool has no more use for it, and it tells it nothing any more.
  void leave() {
    pool_ = nullptr;
    socket_->close();
  }

 private:
  void read() {
    socket_->async_read_some(asio::buffer(in_),
                             [self = shared_from_this()](boost::system::error_code const& error, std::size_t bytes) {
                               if (self->pool_ == nullptr) return;
                               if (error) return self->on_read_error(error);
                               self->on_bytes({self->in_.data(), bytes});
                             });
  }

  void on_read_error(boost::system::error_code const& error) {
    boost::system::error_code ended;
    if (error == asio::error::eof && parser_->got_some()) parser_->put_eof(ended);
    if (!ended && parser_->is_done()) return answer(false);
    fail(error == asio::error::eof ? "the server closed the connection" : error.message(), error);
  }

  void on_bytes(std::string_view bytes) {
    // What the parser has not taken (a head that has not all come) is given to it again, with what comes next.
    std::string joined = std::exchange(left_, {});
    if (!joined.empty()) {
      joined.append(bytes);
      bytes = joined;
    }
    while (!bytes.empty() && !parser_->is_done()) {
      boost::system::error_code error;
      std::size_t const taken = parser_->put(asio::buffer(bytes), error);
      bytes.remove_prefix(taken);
      if (error == http::error::need_more || (!error && taken == 0)) break;
      if (error) {
        return end(std::unexpected(Error{.code = "protocol_error",
                                         .error_class = ErrorClass::fatal,
                                         .message = "what came back is no HTTP: " + error.message(),
                                         .may_have_happened = true}),
                   false);
      }
    }
    left_ = bytes;
    // A refusal may come before all of the request has gone: what is left of that must go, and nothing else.
    if (parser_->is_done()) return answer(parser_->get().keep_alive() && left_.empty() && !is_writing_);
    read();
  }

  void answer(bool reusable) {
    auto& message = parser_->get();
    Response response;
    response.status = static_cast<int>(message.result_int());
    if (auto const found = message.find(http::field::retry_after); found != message.end()) {
      if (auto const wait = parse_seconds(found->value())) response.retry_after = std::chrono::seconds{*wait};
    }
    if (auto const found = message.find(http::field::etag); found != message.end()) {
      response.etag = found->value();
      response.cache_status = message["Cache-Status"];
      response.content_type = message[http::field::content_type];
      response.age = parse_seconds(message[http::field::age]).value_or(0);
    }
    response.body = std::move(message.body());
    end(std::move(response), reusable);
  }

  void fail(std::string const& how, boost::system::error_code const& why) {
    end(std::unexpected(broken_connection(how, why)), false);
  }

  void end(Result<Response> result, bool reusable) {
    if (pool_ == nullptr || ticket_ == 0) return;
    left_.clear();
    pool_->on_answer(std::exchange(ticket_, 0), std::move(result), reusable);
  }

  HttpPool* pool_;
  std::shared_ptr<Socket> socket_;
  Transport::Ticket ticket_ = 0;
  bool is_writing_ = false;
  std::string out_;  // Asio's while it is written.
  std::array<char, kReadBytes> in_;
  std::string left_;
  std::unique_ptr<http::response_parser<http::string_body>> parser_;  // One for each answer.
};

HttpPool::HttpPool(Loop& loop, Result<Address> const& address, std::shared_ptr<TlsContext> const& tls,
                   ServerOptions const& options, Bounds bounds, Ticket first_ticket)
    : loop_(loop), address_(address), tls_(tls), options_(options), bounds_(bounds), next_ticket_(first_ticket) {}

HttpPool::~HttpPool() {
  *alive_ = false;
  for (ConnectionPtr const& connection : connections_) connection->leave();
  for (auto& [ticket, exchange] : exchanges_) loop_.cancel(exchange.timer);
}

// Unless it is aborted before, or the pool goes.
void HttpPool::later(Ticket ticket, Done done, Error error) {
  refused_.emplace(ticket, std::move(done));
  loop_.post([this, alive = alive_, ticket, error = std::move(error)]() mutable {
    if (!*alive) return;
    auto node = refused_.extract(ticket);
    if (!node.empty()) node.mapped()(std::unexpected(std::move(error)));
  });
}

Transport::Ticket HttpPool::send(Request request, Done done) {
  Ticket const ticket = std::exchange(next_ticket_, next_ticket_ + 2);
  if (!address_) {
    later(ticket, std::move(done), address_.error());
    return ticket;
  }
  ConnectionPtr const idle = take_idle();
  std::size_t const on_their_way = opening_ + (connections_.size() < bounds_.connections_max ? 1 : 0);
  if (!idle && waiting_count_ >= options_.waiting_max + on_their_way) {
    later(ticket, std::move(done),
          transport_error("pool_exhausted",
                          std::to_string(waiting_count_) + " calls wait for one of " +
                              std::to_string(bounds_.connections_max) + " connections",
                          false));
    return ticket;
  }
  Duration const timeout = request.timeout;
  auto& exchange = exchanges_.emplace(ticket, Exchange{std::move(request), std::move(done), 0, {}}).first->second;
  exchange.timer = loop_.after(timeout, [this, ticket] { on_timeout(ticket); });
  if (idle) {
    begin(ticket, idle);
  } else {
    waiting_.push_back(ticket);
    ++waiting_count_;
    if (waiting_count_ > opening_) open();
  }
  return ticket;
}

void HttpPool::abort(Ticket ticket) {
  if (refused_.erase(ticket) > 0) return;
  auto const found = exchanges_.find(ticket);
  if (found == exchanges_.end()) return;
  ConnectionPtr const connection = found->second.connection;
  loop_.cancel(found->second.timer);
  if (!connection) --waiting_count_;
  exchanges_.erase(found);
  // The server takes a broken connection as a word that nobody waits any more.
  if (connection) drop(connection);
  serve();
}

// A server takes back a poll of a client that has closed its sending side, and what it has answered before can still be
// read. TLS has no such half of an end; the connection below it has.
void HttpPool::call_off(Ticket ticket) {
  auto const found = exchanges_.find(ticket);
  if (found == exchanges_.end()) return;
  if (found->second.connection) {
    boost::system::error_code ignored;
    found->second.connection->socket().tcp().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    loop_.cancel(found->second.timer);
    found->second.timer = loop_.after(kCalledOffWait, [this, ticket] { on_timeout(ticket); });
    return;
  }
  Done done = std::move(found->second.done);
  abort(ticket);
  later(ticket, std::move(done), transport_error("call_cancelled", "called off", true));
}

HttpPool::ConnectionPtr HttpPool::take_idle() {
  auto const oldest = Loop::Clock::now() - options_.idle_max;
  while (!idle_.empty()) {
    ConnectionPtr connection = std::move(idle_.back());
    idle_.pop_back();
    if (connection->idle_since >= oldest && !connection->socket().is_stale()) return connection;
    drop(connection);
  }
  return nullptr;
}

void HttpPool::open() {
  if (connections_.size() >= bounds_.connections_max) return;
  auto const connection = std::make_shared<HttpConnection>(*this, std::make_shared<Socket>(loop_.context(), tls_));
  connections_.push_back(connection);
  ++opening_;
  // Whichever of the two comes first.
  struct Once {
    bool done = false;
    Loop::TimerId timer = 0;
  };
  auto const once = std::make_shared<Once>();
  auto const opened = [this, alive = alive_, connection, once](Result<> result) {
    if (!*alive || std::exchange(once->done, true)) return;
    loop_.cancel(once->timer);
    on_open(connection, std::move(result));
  };
  once->timer = loop_.after(options_.connect_timeout, [opened] {
    opened(std::unexpected(transport_error("no_server", "the connection was not made in time", false)));
  });
  Socket::connect(connection->shared_socket(), *address_, opened);
}

void HttpPool::on_open(ConnectionPtr const& connection, Result<> opened) {
  --opening_;
  if (opened) {
    connection->idle_since = Loop::Clock::now();
    idle_.push_back(connection);
    return serve();
  }
  drop(connection);
  while (!waiting_.empty()) {  // Told to the one that has waited longest: others may find a server yet.
    Ticket const ticket = waiting_.front();
    auto const found = exchanges_.find(ticket);
    waiting_.pop_front();
    if (found == exchanges_.end() || found->second.connection) continue;
    --waiting_count_;
    finish(ticket, std::unexpected(std::move(opened).error()));
    break;
  }
  serve();
}

// Gives connections to those that wait.
void HttpPool::serve() {
  while (waiting_count_ > 0) {
    while (!waiting_.empty()) {
      auto const found = exchanges_.find(waiting_.front());
      if (found != exchanges_.end() && !found->second.connection) break;
      waiting_.pop_front();
    }
    if (waiting_.empty()) return;
    ConnectionPtr const connection = take_idle();
    if (!connection) break;
    Ticket const ticket = waiting_.front();
    waiting_.pop_front();
    --waiting_count_;
    begin(ticket, connection);
  }
  while (opening_ < waiting_count_ && connections_.size() < bounds_.connections_max) open();
}

void HttpPool::begin(Ticket ticket, ConnectionPtr const& connection) {
  Exchange& exchange = exchanges_.at(ticket);
  exchange.connection = connection;
  connection->run(ticket, compose(exchange.request, *address_));
}

void HttpPool::on_answer(Ticket ticket, Result<Response> answer, bool reusable) {
  auto const found = exchanges_.find(ticket);
  if (found == exchanges_.end()) return;
  ConnectionPtr const connection = found->second.connection;
  if (reusable && idle_.size() < bounds_.idle_max) {
    connection->idle_since = Loop::Clock::now();
    idle_.push_back(connection);
    // The one that was used least recently, where it has been idle for too long: one at a time is enough.
    if (idle_.front()->idle_since < connection->idle_since - options_.idle_max) {
      drop(idle_.front());
      idle_.erase(idle_.begin());
    }
  } else {
    drop(connection);
  }
  finish(ticket, std::move(answer));
  serve();
}

void HttpPool::on_timeout(Ticket ticket) {
  auto const found = exchanges_.find(ticket);
  if (found == exchanges_.end()) return;
  found->second.timer = 0;
  ConnectionPtr const connection = found->second.connection;
  if (!connection) {
    --waiting_count_;
    finish(ticket, std::unexpected(transport_error("pool_exhausted", "no connection was free in time", false)));
  } else {
    drop(connection);
    finish(ticket, std::unexpected(transport_error("no_server", "no answer in time", true)));
  }
  serve();
}

void HttpPool::finish(Ticket ticket, Result<Response> answer) {
  auto node = exchanges_.extract(ticket);
  loop_.cancel(node.mapped().timer);
  node.mapped().done(std::move(answer));
}

void HttpPool::drop(ConnectionPtr const& connection) {
  connection->leave();
  connections_.remove(connection);
}

// ---- Both pools

namespace {

// Of those for waits. They may have been a thousand, and come seldom.
constexpr std::size_t kIdleWaitsMax = 64;

Result<Address> with_tls(Result<Address> address, std::shared_ptr<TlsContext>& out) {
  if (!address || !address->tls) return address;
  auto tls = TlsContext::make(*address);
  if (!tls) return std::unexpected(std::move(tls).error());
  out = *std::move(tls);
  return address;
}

HttpPool::Bounds call_bounds(ServerOptions const& options) {
  std::size_t const most = std::max(1U, options.connections_max);
  return {.connections_max = most, .idle_max = most};
}
HttpPool::Bounds wait_bounds(ServerOptions const& options) {
  return {.connections_max = std::max(1U, options.long_polls_max), .idle_max = kIdleWaitsMax};
}

}  // namespace

HttpTransport::HttpTransport(Loop& loop, Result<Address> address, ServerOptions options)
    : options_(std::move(options)),
      address_(with_tls(std::move(address), tls_)),
      calls_(loop, address_, tls_, options_, call_bounds(options_), 1),
      waits_(loop, address_, tls_, options_, wait_bounds(options_), 2) {}

Transport::Ticket HttpTransport::send(Request request, Done done) {
  HttpPool& pool = request.waits ? waits_ : calls_;
  return pool.send(std::move(request), std::move(done));
}

namespace {

class ServerBackend final : public Backend {
 public:
  explicit ServerBackend(ServerOptions const& options)
      : options_(bounded(options)), address_(resolve_address(options)) {}

  std::string address() const override { return address_ ? address_->host + ":" + address_->port : std::string{}; }
  std::unique_ptr<Transport> make_transport(Loop& loop) override {
    return std::make_unique<HttpTransport>(loop, address_, options_);
  }
  std::unique_ptr<WorkLink> make_stream(Loop& loop, Subscription subscription, LinkEvents& events) override {
    if (!address_) return nullptr;
    return make_stream_link(loop, *address_, options_, std::move(subscription), events);
  }

 private:
  ServerOptions const options_;
  Result<Address> const address_;
};

}  // namespace

std::shared_ptr<Backend> make_server_backend(ServerOptions const& options) {
  return std::make_shared<ServerBackend>(options);
}

}  // namespace workmill::client::detail
