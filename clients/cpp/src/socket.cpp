#include "socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <random>
#include <utility>

#include "text.h"

namespace workmill::client::detail {
namespace {

constexpr std::string_view kUrlDefault = "http://127.0.0.1:7330";
// Seconds of silence before the kernel asks whether the other side is there, and for an answer.
constexpr int kKeepIdleMin = 60;
constexpr int kKeepIdleMax = 119;
constexpr int kKeepAnswer = 40;

std::string environment(char const* name) {
  char const* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::unexpected<Error> bad_file(std::string field, std::string message) {
  auto error = fail(ErrorClass::user, "bad_configuration", std::move(message));
  error.error().field = std::move(field);
  return error;
}

// Who says whom to believe expects TLS: without it the token would go in clear.
std::unexpected<Error> goes_unheard(std::string const& field, Address const& address) {
  return bad_file(field,
                  field + " is for https addresses, and this is none: http://" + address.host + ":" + address.port);
}

Error no_tls(boost::system::error_code const& why) {
  auto error = transport_error("no_server", "TLS: " + why.message(), false);
  // A certificate that does not hold, or something that speaks another language: trying again mends nothing. A
  // connection that breaks meanwhile is of another category.
  if (why.category() == asio::error::get_ssl_category()) {
    error.code = "protocol_error";
    error.error_class = ErrorClass::fatal;
  }
  return error;
}

}  // namespace

Error broken_connection(std::string const& how, boost::system::error_code const& why) {
  auto error = transport_error("outcome_unknown", "the connection broke: " + how, true);
  // In the middle of it, as who wants a certificate of ours says so behind the handshake. A connection that ends
  // without a word is of another category.
  if (why.category() == asio::error::get_ssl_category()) {
    error.code = "protocol_error";
    error.error_class = ErrorClass::fatal;
  }
  return error;
}

Result<Address> resolve_address(ServerOptions const& options) {
  std::string url = options.url.empty() ? environment("WORKMILL_URL") : options.url;
  if (url.empty()) url = kUrlDefault;
  auto const bad = [&](std::string const& why) {
    return fail(ErrorClass::user, "bad_configuration", "the server's URL must be http://HOST:PORT or https://: " + why);
  };
  Address address;
  address.token = options.token.empty() ? environment("WORKMILL_TOKEN") : options.token;
  if (!is_printable_ascii(address.token)) {
    return fail(ErrorClass::user, "bad_configuration",
                "the token has a line break or another character in it that no token has");
  }
  address.ca_file = options.ca_file.empty() ? environment("WORKMILL_CA_FILE") : options.ca_file;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    address.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.find("://") != std::string_view::npos) {
    return bad("another scheme");
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find_first_of("/?#@ ") != std::string_view::npos || !is_printable_ascii(rest)) {
    return bad("it has a path, a user or spaces");
  }
  std::size_t colon = rest.rfind(':');
  if (rest.starts_with('[')) {
    std::size_t const bracket = rest.find(']');
    if (bracket == std::string_view::npos) return bad("a bracket is missing");
    address.host = rest.substr(1, bracket - 1);
    colon = rest.size() > bracket + 1 && rest[bracket + 1] == ':' ? bracket + 1 : std::string_view::npos;
  } else {
    address.host = rest.substr(0, colon);
  }
  address.port = colon != std::string_view::npos ? std::string{rest.substr(colon + 1)} : address.tls ? "443" : "80";
  bool const is_number = !address.port.empty() && address.port.size() <= 5 &&
                         address.port.find_first_not_of("0123456789") == std::string::npos;
  if (address.host.empty() || !is_number) return bad("host or port is missing");
  // Not of the environment's, which may be meant for other servers.
  if (!address.tls && !options.ca_file.empty()) return goes_unheard("ca_file", address);
  if (!address.tls && !options.cert_file.empty()) return goes_unheard("cert_file", address);
  if (!address.tls && !options.key_file.empty()) return goes_unheard("key_file", address);
  if (options.cert_file.empty() && !options.key_file.empty()) {
    return bad_file("key_file", "key_file is of a certificate, and there is no cert_file");
  }
  address.cert_file = options.cert_file;
  address.key_file = options.key_file.empty() ? options.cert_file : options.key_file;
  return address;
}

Error transport_error(std::string code, std::string message, bool may_have_happened) {
  return Error{.code = std::move(code), .message = std::move(message), .may_have_happened = may_have_happened};
}

Result<std::shared_ptr<TlsContext>> TlsContext::make(Address const& address) {
  auto tls = std::make_shared<TlsContext>();
  boost::system::error_code error;
  tls->context.set_verify_mode(asio::ssl::verify_peer, error);
  SSL_CTX_set_min_proto_version(tls->context.native_handle(), TLS1_2_VERSION);
  if (address.ca_file.empty())
    tls->context.set_default_verify_paths(error);
  else
    tls->context.load_verify_file(address.ca_file, error);
  if (error) return bad_file("ca_file", "ca_file (or WORKMILL_CA_FILE) cannot be read: " + error.message());
  if (address.cert_file.empty()) return tls;
  tls->context.use_certificate_chain_file(address.cert_file, error);
  if (error) return bad_file("cert_file", "cert_file is no certificate in PEM: " + error.message());
  // Else OpenSSL would ask for the password on the terminal.
  tls->context.set_password_callback([](std::size_t, asio::ssl::context::password_purpose) { return std::string{}; },
                                     error);
  tls->context.use_private_key_file(address.key_file, asio::ssl::context::pem, error);
  if (error) return bad_file("key_file", "there is no key in PEM that fits cert_file: " + error.message());
  return tls;
}

void Socket::connect(std::shared_ptr<Socket> const& socket, Address const& address, Connected done) {
  using Endpoints = asio::ip::tcp::resolver::results_type;
  // Held by the handlers: a move-only callback that several steps share.
  auto shared = std::make_shared<Connected>(std::move(done));
  auto const failed = [shared](std::string const& why) {
    (*shared)(std::unexpected(transport_error("no_server", why, false)));
  };
  auto const shake = [socket, shared] {
    socket->tls_->async_handshake(asio::ssl::stream_base::client,
                                  [socket, shared](boost::system::error_code const& error) {
                                    if (!error) return (*shared)({});
                                    (*shared)(std::unexpected(no_tls(error)));
                                  });
  };
  auto const host = address.host;
  auto const connected = [socket, shared, failed, shake, host](boost::system::error_code const& error, auto const&) {
    if (error) return failed(error.message());
    boost::system::error_code ignored;
    socket->tcp_.set_option(asio::ip::tcp::no_delay{true}, ignored);
    if (!socket->tls_) return (*shared)({});
    SSL* const ssl = socket->tls_->native_handle();
    boost::system::error_code is_name;
    static_cast<void>(asio::ip::make_address(host, is_name));
    // What SSL_set_tlsext_host_name() is, without its cast of old style. The name is copied.
    if (is_name)
      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, const_cast<char*>(host.c_str()));
    socket->tls_->set_verify_callback(asio::ssl::host_name_verification{host}, ignored);
    shake();
  };
  boost::system::error_code no_number;
  auto const number = asio::ip::make_address(address.host, no_number);
  if (!no_number) {
    auto const port = static_cast<std::uint16_t>(std::atoi(address.port.c_str()));
    asio::ip::tcp::endpoint const endpoint{number, port};
    socket->tcp_.async_connect(endpoint, [connected](boost::system::error_code const& error) { connected(error, 0); });
    return;
  }
  socket->resolver_ = std::make_unique<asio::ip::tcp::resolver>(socket->get_executor());
  socket->resolver_->async_resolve(
      address.host, address.port,
      [socket, connected, failed](boost::system::error_code const& error, Endpoints const& endpoints) {
        if (error) return failed(error.message());
        asio::async_connect(socket->tcp_, endpoints, connected);
      });
}

void Socket::close() {
  boost::system::error_code ignored;
  if (resolver_) resolver_->cancel();
  tcp_.close(ignored);
}

std::string Socket::own_name() const {
  boost::system::error_code error;
  auto const own = tcp_.local_endpoint(error);
  if (error) return {};
  auto const address = own.address();
  // Without its zone, which has another number at the other side.
  std::string const text =
      address.is_v6() ? "[" + asio::ip::address_v6{address.to_v6().to_bytes()}.to_string() + "]" : address.to_string();
  return text + ":" + std::to_string(own.port());
}

void Socket::keep_alive() {
  // An option that is not taken leaves the kernel with its own times, which are longer.
  auto const set = [&](int level, int option, int value) {
    static_cast<void>(::setsockopt(tcp_.native_handle(), level, option, &value, sizeof value));
  };
  // Each connection has its own second: a kernel that is to ask for thousands in one moment drops some of what it
  // sends.
  std::random_device chance;
  int const idle = std::uniform_int_distribution{kKeepIdleMin, kKeepIdleMax}(chance);
  set(IPPROTO_TCP, TCP_KEEPIDLE, idle);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);  // Of a kernel that does not know the next one.
  // Counted from when something came last, and in place of the count: the first question is asked at `idle`. Data that
  // is sent and not confirmed, while which the kernel does not ask, has as long.
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, (idle + kKeepAnswer) * 1'000);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

bool Socket::is_stale() {
  if (!tcp_.is_open()) return true;
  pollfd look{.fd = tcp_.native_handle(), .events = POLLIN | POLLRDHUP, .revents = 0};
  int const seen = ::poll(&look, 1, 0);
  if (seen <= 0) return seen < 0 && errno != EINTR;
  // TLS sends tickets of its own accord: what has come may be such a thing, or its word that it closes. An end behind
  // it is none of them.
  return !tls_ || (look.revents & ~POLLIN) != 0;
}

}  // namespace workmill::client::detail
