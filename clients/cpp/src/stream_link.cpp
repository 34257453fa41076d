#include "stream_link.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/beast/core/bind_handler.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <deque>
#include <iterator>
#include <random>

#include "core.h"
#include "socket.h"
#include "wire.h"

namespace workmill::client::detail {

namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;

// What Beast asks of a stream of ours, found by its argument: the end of the socket below.
template <class Handler>
void async_teardown(beast::role_type, Socket& socket, Handler&& handler) {
  socket.close();
  asio::post(socket.get_executor(), beast::bind_front_handler(std::forward<Handler>(handler), beast::error_code{}));
}
inline void teardown(beast::role_type, Socket& socket, beast::error_code& error) {
  socket.close();
  error = {};
}

inline void beast_close_socket(Socket& socket) { socket.close(); }

namespace {

constexpr std::size_t kMessageBytesMax = std::size_t{256} << 20;
constexpr std::size_t kWriteBufferBytes = 128 * 1024;  // Frames are masked through it, a piece at a time.

class StreamLink;

// One connection. Kept alive by what Asio does on it; it tells the link nothing any more once that has left it.
struct StreamConnection {
  StreamConnection(StreamLink& link_of_it, asio::io_context& context, std::shared_ptr<TlsContext> tls)
      : link(&link_of_it), stream(context, std::move(tls)) {}

  StreamLink* link;
  websocket::stream<Socket, false> stream;  // Without permessage-deflate.
  websocket::response_type response;
  beast::flat_buffer in;
  std::string out;
};
using ConnectionPtr = std::shared_ptr<StreamConnection>;

class StreamLink final : public WorkLink {
 public:
  StreamLink(Loop& loop, Address const& address, ServerOptions const& options, Subscription subscription,
             LinkEvents& events, StreamPatience patience)
      : loop_(loop),
        address_(address),
        connect_timeout_(options.connect_timeout),
        subscription_(std::move(subscription)),
        events_(events),
        patience_(patience),
        chance_(std::random_device{}()) {}

  ~StreamLink() override {
    leave();
    loop_.cancel(pause_);
  }

  void start() override {
    if (address_.tls) {
      auto tls = TlsContext::make(address_);
      if (!tls) return refuse(std::move(tls).error(), false);
      tls_ = *std::move(tls);
    }
    connect();
  }

  void send(ReportBatchPtr batch) override {
    waiting_.push_back(std::move(batch));
    pump();
  }
  void set_credit(unsigned credit) override {
    subscription_.credit = credit;
    credit_due_ = true;
    pump();
  }
  void on_room() override { pump(); }
  // First no more jobs; and when nothing of ours is under way any more, the end of the stream.
  void drain() override {
    draining_ = true;
    credit_due_ = true;
    pump();
  }
  bool has_unanswered() const override { return !waiting_.empty() || !unanswered_.empty(); }

 private:
  unsigned credit() const { return draining_ ? 0 : subscription_.credit; }

  // For the message that is read next. What changes it comes with one: jobs, answers to their reports.
  void set_patience() {
    using websocket::stream_base;
    stream_base::timeout timeout{
        .handshake_timeout = connect_timeout_, .idle_timeout = patience_.busy, .keep_alive_pings = true};
    bool const is_idle = is_up_ && !draining_ && !has_unanswered() && events_.held_count() == 0;
    if (is_idle) timeout.idle_timeout = patience_.idle;
    if (is_idle && is_direct_) timeout.idle_timeout = stream_base::none();
    connection_->stream.set_option(timeout);
  }

  void connect() {
    last_error_.reset();  // What was said on another connection explains nothing of this one.
    connection_ = std::make_shared<StreamConnection>(*this, loop_.context(), tls_);
    auto& stream = connection_->stream;
    set_patience();
    stream.read_message_max(kMessageBytesMax);
    stream.write_buffer_bytes(kWriteBufferBytes);
    stream.auto_fragment(false);
    stream.text(true);
    stream.set_option(websocket::stream_base::decorator([token = address_.token](websocket::request_type& request) {
      if (!token.empty()) request.set(beast::http::field::authorization, "Bearer " + token);
    }));
    connect_timer_ = loop_.after(connect_timeout_, [this] {
      connect_timer_ = 0;
      down(transport_error("no_server", "the connection was not made in time", false));
    });
    std::shared_ptr<Socket> const socket{connection_, &stream.next_layer()};
    Socket::connect(socket, address_, [self = connection_](Result<> connected) {
      if (self->link == nullptr) return;
      self->link->on_connect(std::move(connected));
    });
  }

  void on_connect(Result<> connected) {
    loop_.cancel(std::exchange(connect_timer_, 0));
    if (!connected) return down(std::move(connected).error());
    bool const is_v6 = address_.host.find(':') != std::string::npos;
    std::string const host = (is_v6 ? "[" + address_.host + "]" : address_.host) + ":" + address_.port;
    connection_->stream.async_handshake(connection_->response, host, "/v1/worker",
                                        [self = connection_](beast::error_code const& error) {
                                          if (self->link != nullptr) self->link->on_handshake(error);
                                        });
  }

  void on_handshake(beast::error_code const& error) {
    if (error == websocket::error::upgrade_declined) return on_declined();
    if (error) return down(transport_error("no_server", "no stream: " + error.message(), false));
    subscribe();
    read();
  }

  void on_declined() {
    auto const& answer = connection_->response;
    Response response{.status = static_cast<int>(answer.result_int()), .body = answer.body()};
    if (auto const after = answer.find(beast::http::field::retry_after); after != answer.end()) {
      std::string const text{after->value()};
      response.retry_after = std::chrono::seconds{std::atoi(text.c_str())};
    }
    Error error = read_problem(response);
    // Only a Workmill says `user`. Others may stand between, and answer 404 or 403 while they have no server to ask.
    bool const is_final =
        error.error_class == ErrorClass::user && (!was_up_ || response.status == 401 || response.status == 403);
    if (!is_final) return down(error);
    bool const has_none = response.status == 404 || response.status == 405 ||
                          response.status == 426;  // The last: what is between has taken the upgrade off.
    refuse(std::move(error), has_none);
  }

  void subscribe() {
    std::string text = "{\"subscribe\":{\"queues\":";
    write_queues(subscription_.queues, text);
    text.append(",\"credit\":").append(std::to_string(credit()));
    if (std::string const own = connection_->stream.next_layer().own_name(); !own.empty()) {
      text.append(",\"from\":\"").append(own).append("\"");
    }
    text.append(",\"lease\":\"").append(format_duration(subscription_.lease)).append("\",\"worker\":");
    write_json_string(subscription_.worker, text);
    if (!resume_.empty()) {
      text.append(",\"resume\":");
      write_json_string(resume_, text);
      text.append(",\"held\":");
      Codec<std::vector<std::string>>::write(held(), text);
    }
    text.append("}}");
    credit_due_ = false;
    write(std::move(text));
  }

  // All that is out with us: what runs, and what has ended and is not known to be reported.
  std::vector<std::string> held() {
    std::vector<std::string> ids = events_.held();
    for (ReportBatchPtr const& batch : waiting_) {
      for (std::size_t i = 0; i < batch->count; ++i) {
        if (ReportHead const head = read_head(batch->report(i)); head.is_end) ids.emplace_back(head.id);
      }
    }
    return ids;
  }

  void read() {
    set_patience();
    connection_->stream.async_read(connection_->in, [self = connection_](beast::error_code const& error, std::size_t) {
      if (self->link == nullptr) return;
      self->link->on_read(error, self);
    });
  }

  void on_read(beast::error_code const& error, ConnectionPtr const& connection) {
    // Who has sent too much may see the connection break in place of its orderly end.
    if (error == websocket::error::closed || (error && last_error_)) return on_closed();
    if (error) return down(transport_error("outcome_unknown", "the stream broke: " + error.message(), true));
    static_cast<void>(connection->in.prepare(FrameReader::padding()));  // So that the reader may look beyond the end.
    auto const data = connection->in.data();
    std::string_view const text{static_cast<char const*>(data.data()), data.size()};
    if (auto const frame = reader_.read(text, frame_); !frame) return down(frame.error());
    on_message();
    connection->in.consume(connection->in.size());
    if (connection->link != nullptr) read();
  }

  void on_message() {
    if (frame_.error) last_error_ = std::move(frame_.error);
    if (frame_.subscribed) {
      resume_ = frame_.subscribed->resume;
      is_up_ = true;
      is_direct_ = frame_.subscribed->direct;
      if (is_direct_) connection_->stream.next_layer().keep_alive();
      failures_ = 0;
      events_.on_up(frame_.subscribed->resumed, std::exchange(was_up_, true));
    }
    if (frame_.has_answers) {
      if (unanswered_.empty() || unanswered_.front()->count != frame_.answers) {
        return down(Error{.code = "protocol_error", .message = "the server has answered reports that were not sent"});
      }
      ReportBatchPtr const batch = std::move(unanswered_.front());
      unanswered_.pop_front();
      events_.on_answers(*batch, frame_);
    }
    if (!frame_.jobs.empty() || !frame_.cancel.empty()) events_.on_frame(frame_);
    if (frame_.drained) {
      drained_ = true;
      events_.on_drained();
    }
    pump();
  }

  void on_closed() {
    auto const reason = connection_->stream.reason();
    if (drained_) return leave();
    if (!last_error_ && reason.code == websocket::close_code::too_big) {
      last_error_ = Error{.code = "payload_too_large",
                          .error_class = ErrorClass::user,
                          .message = "the server closed the stream: a message was too large"};
    }
    if (is_up_ && !unanswered_.empty() && last_error_ && is_about_reports(*last_error_)) {
      return suspect(*std::exchange(last_error_, std::nullopt));
    }
    if (last_error_ && last_error_->error_class == ErrorClass::user && last_error_->code != "stream_replaced") {
      return refuse(std::exchange(last_error_, std::nullopt).value_or(Error{}), false);
    }
    Error error =
        transport_error("outcome_unknown", "the server closed the stream, code " + std::to_string(reason.code), true);
    down(std::exchange(last_error_, std::nullopt).value_or(std::move(error)));
  }

  // One of the reports that were not answered is at fault, and the whole message was refused with it, and the stream.
  void suspect(Error const& error) {
    ReportBatchPtr refused;
    if (unanswered_.size() == 1) {
      auto parts = split(std::move(unanswered_.front()));
      unanswered_.clear();
      if (parts.size() == 1)
        refused = std::move(parts.front());
      else
        std::move(parts.begin(), parts.end(), std::back_inserter(unanswered_));
    }
    for (ReportBatchPtr const& batch : unanswered_) batch->is_suspect = true;
    down(error);
    if (refused) events_.on_report_refused(*refused, error);
  }

  void write(std::string text) {
    writing_ = true;
    connection_->out = std::move(text);
    connection_->stream.async_write(asio::buffer(connection_->out),
                                    [self = connection_](beast::error_code const& error, std::size_t) {
                                      if (self->link == nullptr) return;
                                      self->link->on_written(error);
                                    });
  }

  void on_written(beast::error_code const& error) {
    if (error && last_error_) return on_closed();  // As on_read() has it: the server has said why it closed.
    if (error) return down(transport_error("outcome_unknown", "the stream broke: " + error.message(), true));
    writing_ = false;
    pump();
  }

  // The next message, if there is one to send.
  void pump() {
    if (!is_up_ || writing_) return;
    if (credit_due_) {
      credit_due_ = false;
      return write("{\"credit\":" + std::to_string(credit()) + "}");
    }
    if (may_report()) {
      ReportBatchPtr batch = take_batch();
      std::string text;
      text.reserve(batch->text.size() + 16);
      text.append("{\"reports\":[").append(batch->text).append("]}");
      unanswered_.push_back(std::move(batch));
      return write(std::move(text));
    }
    if (draining_ && !drain_sent_ && unanswered_.empty() && events_.held_count() == 0) {
      drain_sent_ = true;
      return write("{\"drain\":true}");
    }
  }

  // A suspect has the stream for itself: what is refused then is this one.
  bool may_report() const {
    if (waiting_.empty()) return false;
    return unanswered_.empty() || (!waiting_.front()->is_suspect && !unanswered_.back()->is_suspect);
  }

  // The first that waits, together with those behind it as far as they fit.
  ReportBatchPtr take_batch() {
    ReportBatchPtr batch = std::move(waiting_.front());
    waiting_.pop_front();
    if (batch->is_suspect) return batch;
    while (!waiting_.empty() && !waiting_.front()->is_suspect &&
           batch->count + waiting_.front()->count <= ReportBatch::kReportsMax &&
           batch->text.size() + waiting_.front()->text.size() <= ReportBatch::kBytesMax) {
      ReportBatch& next = *waiting_.front();
      batch->text.push_back(',');
      for (std::size_t const start : next.starts) batch->starts.push_back(batch->text.size() + start);
      batch->text.append(next.text);
      for (ReportWaiter& waiter : next.waiters) {
        batch->waiters.push_back({.index = batch->count + waiter.index, .done = std::move(waiter.done)});
      }
      batch->count += next.count;
      batch->sent_before = batch->sent_before || next.sent_before;
      waiting_.pop_front();
    }
    return batch;
  }

  void leave() {
    loop_.cancel(std::exchange(connect_timer_, 0));
    if (connection_) {
      connection_->link = nullptr;
      connection_->stream.next_layer().close();
      connection_.reset();
    }
    is_up_ = false;
    is_direct_ = false;
    writing_ = false;
    drain_sent_ = false;
  }

  void refuse(Error error, bool is_stream) {
    leave();
    events_.on_refused(std::move(error), is_stream);
  }

  // Again, with what was not answered first.
  void down(Error const& error) {
    if (drained_) return leave();
    leave();
    while (!unanswered_.empty()) {
      unanswered_.back()->sent_before = true;
      waiting_.push_front(std::move(unanswered_.back()));
      unanswered_.pop_back();
    }
    events_.on_trouble(describe(error));
    ++failures_;
    Duration const pause = std::max(backoff(kAwayPolicy, failures_, chance_), error.retry_after.value_or(Duration{0}));
    pause_ = loop_.after(pause, [this] {
      pause_ = 0;
      connect();
    });
  }

  Loop& loop_;
  Address const address_;
  Duration const connect_timeout_;
  Subscription subscription_;
  LinkEvents& events_;
  StreamPatience const patience_;
  std::minstd_rand chance_;
  std::shared_ptr<TlsContext> tls_;
  FrameReader reader_;
  Frame frame_;
  ConnectionPtr connection_;
  std::string resume_;
  std::deque<ReportBatchPtr> waiting_;     // To be sent. Bounded by the worker, whose reports they are.
  std::deque<ReportBatchPtr> unanswered_;  // Sent on this connection.
  std::optional<Error> last_error_;        // What the server said before it closed.
  Loop::TimerId connect_timer_ = 0;
  Loop::TimerId pause_ = 0;
  unsigned failures_ = 0;
  bool is_up_ = false;      // Subscribed.
  bool is_direct_ = false;  // Nobody is between, says the server.
  bool was_up_ = false;
  bool writing_ = false;
  bool credit_due_ = false;
  bool draining_ = false;
  bool drain_sent_ = false;
  bool drained_ = false;
};

}  // namespace

std::unique_ptr<WorkLink> make_stream_link(Loop& loop, Address const& address, ServerOptions const& options,
                                           Subscription subscription, LinkEvents& events, StreamPatience patience) {
  return std::make_unique<StreamLink>(loop, address, options, std::move(subscription), events, patience);
}

}  // namespace workmill::client::detail
