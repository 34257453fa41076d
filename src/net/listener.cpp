#include "net/listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <charconv>
#include <utility>

namespace workmill::net {
namespace {

constexpr int kRestMax = 8'192;                          // More than a kernel keeps in the queue by default.
constexpr auto kPause = std::chrono::milliseconds{100};  // After running out of descriptors: others close some.

// What will not pass by itself at once, as against a client that hung up before we got to it.
bool is_exhaustion(boost::system::error_code error) {
  namespace errc = boost::system::errc;
  return error == errc::too_many_files_open || error == errc::too_many_files_open_in_system ||
         error == errc::no_buffer_space || error == errc::not_enough_memory;
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  auto const refuse = [&] {
    return fail(ErrorCode::bad_configuration,
                fmt::format("'{}' is no address to listen on; write it as 127.0.0.1:7330 or [::1]:7330", text));
  };
  std::size_t const colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse();
  std::string_view host = text.substr(0, colon);
  std::string_view const digits = text.substr(colon + 1);
  Address address;
  auto const [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return refuse();

  bool const bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host == "localhost") {
    address.host = boost::asio::ip::address_v4::loopback();
  } else if (host.empty() || host == "*") {
    address.host = boost::asio::ip::address_v4::any();
  } else {
    boost::system::error_code malformed;
    address.host = boost::asio::ip::make_address(std::string{host}, malformed);
    if (malformed || address.host.is_v6() != bracketed) return refuse();
  }
  return address;
}

std::string format_address(Address const& address) {
  auto const form = address.host.is_v6() ? "[{}]:{}" : "{}:{}";
  return fmt::format(fmt::runtime(form), address.host.to_string(), address.port);
}

Result<std::unique_ptr<Listener>> Listener::open(IoLoop& loop, Address const& address, Events events) {
  boost::asio::ip::tcp::endpoint const endpoint{address.host, address.port};
  boost::asio::ip::tcp::acceptor acceptor{loop.context()};
  boost::system::error_code error;
  acceptor.open(endpoint.protocol(), error);
  // A restart must not wait until the kernel has forgotten the old connections. A second server on the port is refused
  // all the same, which SO_REUSEPORT would not do.
  if (!error) acceptor.set_option(boost::asio::socket_base::reuse_address{true}, error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  if (error) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("cannot listen on {}: {}", format_address(address), error.message()));
  }
  return std::unique_ptr<Listener>{new Listener{loop, std::move(acceptor), Queue::ends_with_us, std::move(events)}};
}

Result<std::unique_ptr<Listener>> Listener::adopt(IoLoop& loop, int descriptor, Events events) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  bool const has_address = ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  auto const protocol = address.ss_family == AF_INET6 ? boost::asio::ip::tcp::v6() : boost::asio::ip::tcp::v4();
  boost::asio::ip::tcp::acceptor acceptor{loop.context()};
  boost::system::error_code error;
  acceptor.assign(protocol, descriptor, error);
  if (error || !has_address) {
    if (error) ::close(descriptor);
    return fail(ErrorCode::bad_configuration,
                fmt::format("cannot accept from the inherited descriptor {}: {}", descriptor, error.message()));
  }
  return std::unique_ptr<Listener>{new Listener{loop, std::move(acceptor), Queue::outlives_us, std::move(events)}};
}

Listener::Listener(IoLoop& loop, boost::asio::ip::tcp::acceptor acceptor, Queue queue, Events events)
    : acceptor_(std::move(acceptor)), queue_(queue), events_(std::move(events)), scope_(loop.context()) {
  scope_.spawn(accept_all());
}

Listener::~Listener() { on_stopped_ = nullptr; }

Address Listener::address() const {
  boost::system::error_code ignored;
  auto const endpoint = acceptor_.local_endpoint(ignored);
  return {endpoint.address(), endpoint.port()};
}

void Listener::stop(std::move_only_function<void()> on_stopped) {
  on_stopped_ = std::move(on_stopped);
  scope_.refuse();
  if (queue_ == Queue::ends_with_us) accept_the_rest();
  close();
  // An accept that was over just now has its connection under way to accept_all().
  scope_.when_empty([this] {
    if (on_stopped_) std::exchange(on_stopped_, nullptr)();
  });
}

// Their clients have been told by the kernel that they are connected, and would be reset.
void Listener::accept_the_rest() {
  boost::system::error_code error;
  acceptor_.non_blocking(true, error);
  for (int i = 0; i < kRestMax && !error; ++i) {
    Socket socket{acceptor_.get_executor()};
    acceptor_.accept(socket, error);
    if (!error) events_.on_socket(std::move(socket));
    if (error == boost::asio::error::connection_aborted) error = {};  // That one has gone; the next may be there.
  }
}

void Listener::close() {
  scope_.refuse();
  scope_.cancel();
  boost::system::error_code ignored;
  acceptor_.close(ignored);
}

boost::asio::awaitable<void> Listener::accept_all() {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto const cancellation = co_await boost::asio::this_coro::cancellation_state;
  boost::asio::steady_timer pause{acceptor_.get_executor()};
  while (acceptor_.is_open() && cancellation.cancelled() == boost::asio::cancellation_type::none) {
    auto [error, socket] = co_await acceptor_.async_accept(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (error == boost::asio::error::operation_aborted) co_return;
    if (!error) {
      events_.on_socket(std::move(socket));
    } else if (is_exhaustion(error)) {
      events_.on_pause(error);
      pause.expires_after(kPause);
      auto const [cancelled] = co_await pause.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
      if (cancelled) co_return;
    }
  }
}

}  // namespace workmill::net
