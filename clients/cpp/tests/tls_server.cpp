#include "tls_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "server_process.h"

namespace workmill::client::test {

Certificate make_certificate(std::filesystem::path const& folder, std::string const& name) {
  Certificate const made{.certificate = folder / (name + ".pem"), .key = folder / (name + "-key.pem")};
  std::string const command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=" + name +
      " -addext subjectAltName=IP:127.0.0.1 -keyout " + made.key + " -out " + made.certificate + " 2>/dev/null";
  if (std::system(command.c_str()) != 0) std::abort();
  return made;
}

struct TlsServer::Context {
  SSL_CTX* ssl = SSL_CTX_new(TLS_server_method());
};

TlsServer::TlsServer(Certificate const& own, std::string const& clients) : context_(std::make_unique<Context>()) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to who has gone.
  SSL_CTX* const ssl = context_->ssl;
  bool good = SSL_CTX_use_certificate_chain_file(ssl, own.certificate.c_str()) == 1 &&
              SSL_CTX_use_PrivateKey_file(ssl, own.key.c_str(), SSL_FILETYPE_PEM) == 1;
  if (!clients.empty()) {
    good = good && SSL_CTX_load_verify_file(ssl, clients.c_str()) == 1;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  if (!good) std::abort();
}
TlsServer::~TlsServer() { SSL_CTX_free(context_->ssl); }

struct TlsServer::Connection::State {
  SSL* ssl = nullptr;
  int socket = -1;
};

TlsServer::Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsServer::Connection::Connection(Connection&&) noexcept = default;
TlsServer::Connection::~Connection() {
  if (state_) SSL_free(state_->ssl);
}

std::optional<TlsServer::Connection> TlsServer::accept(int socket) {
  auto state = std::make_unique<Connection::State>();
  state->ssl = SSL_new(context_->ssl);
  state->socket = socket;
  SSL_set_fd(state->ssl, socket);
  bool const shaken = SSL_accept(state->ssl) == 1;
  Connection connection{std::move(state)};
  if (!shaken) {
    ::shutdown(socket, SHUT_WR);  // Behind the alert.
    return std::nullopt;
  }
  return connection;
}

std::string TlsServer::Connection::read_request() {
  std::string text;
  std::array<char, 4096> some{};
  while (!text.contains("\r\n\r\n")) {
    int const got = SSL_read(state_->ssl, some.data(), static_cast<int>(some.size()));
    if (got <= 0) return {};
    text.append(some.data(), static_cast<std::size_t>(got));
  }
  return text;
}

void TlsServer::Connection::send(std::string_view text) {
  SSL_write(state_->ssl, text.data(), static_cast<int>(text.size()));
}

void TlsServer::Connection::close() {
  SSL_shutdown(state_->ssl);
  ::shutdown(state_->socket, SHUT_WR);
  eventually([&] {
    tcp_info info{};
    socklen_t size = sizeof info;
    ::getsockopt(state_->socket, IPPROTO_TCP, TCP_INFO, &info, &size);
    return info.tcpi_state != TCP_FIN_WAIT1;
  });
}

}  // namespace workmill::client::test
