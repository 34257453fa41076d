#include "net/tls.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <boost/asio/ssl/context.hpp>
#include <ctime>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace workmill::net {
namespace {

namespace ssl = boost::asio::ssl;

// Mozilla's "intermediate" of 2025, less the suites that want parameters of their own: forward secrecy and an AEAD for
// whoever speaks 1.2 still. What 1.3 has is all good.
constexpr char const* kCiphers12 =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr char const* kGroups = "X25519:P-256:P-384";
constexpr std::string_view kAlpn{"\x08http/1.1", 9};
constexpr long kTicketSeconds = 2 * 60 * 60;

auto bad(std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); }

// One that offers protocols wants one of them: with none of ours he is better off knowing.
int choose_protocol(SSL*, unsigned char const** out, unsigned char* out_bytes, unsigned char const* in,
                    unsigned in_bytes, void*) {
  auto const* const ours = reinterpret_cast<unsigned char const*>(kAlpn.data());
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_bytes, ours, kAlpn.size(), in, in_bytes) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Result<Instant> end_of(SSL_CTX* context) {
  X509 const* const certificate = SSL_CTX_get0_certificate(context);
  std::tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
    return bad("the certificate does not say when it ends");
  }
  return instant_from_ms(static_cast<std::int64_t>(timegm(&end)) * 1'000);
}

}  // namespace

class TlsIdentity::Context {
 public:
  static Result<std::shared_ptr<Context>> make(TlsFiles const& files) {
    struct stat about{};
    if (::stat(files.key.c_str(), &about) == 0 && (about.st_mode & (S_IRWXO)) != 0) {
      return bad(fmt::format("tls_key: everybody on this machine may use {}: chmod 600 it", files.key));
    }
    auto context = std::make_shared<Context>();
    ssl::context& made = context->context_;
    boost::system::error_code error;
    made.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                         ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | ssl::context::no_compression,
                     error);
    if (error) return bad("TLS: " + error.message());
    // A key under a password would make OpenSSL ask the terminal for it, which nobody may be sitting at.
    made.set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string{}; }, error);
    made.use_certificate_chain_file(files.certificate, error);
    if (error) return bad(fmt::format("tls_certificate: {} cannot be used: {}", files.certificate, error.message()));
    // Refuses one that is not the certificate's, too.
    made.use_private_key_file(files.key, ssl::context::pem, error);
    if (error) return bad(fmt::format("tls_key: {} cannot be used: {}", files.key, error.message()));

    SSL_CTX* const native = made.native_handle();
    bool const is_set =
        SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(native, kCiphers12) == 1 && SSL_CTX_set1_groups_list(native, kGroups) == 1 &&
        SSL_CTX_set_session_id_context(native, reinterpret_cast<unsigned char const*>("workmill"), 8) == 1;
    if (!is_set) return bad("this OpenSSL does not have what we ask of TLS");
    SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION);
    // What went out in part may have been moved by what was appended since; and an idle connection gives its buffers
    // back.
    SSL_CTX_set_mode(native,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(native, 1);  // A record costs one system call, not one for its head and one for the rest.
    // Tickets, under keys that die with this context; nothing is kept here for a session that may come back.
    SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(native, kTicketSeconds);
    SSL_CTX_set_num_tickets(native, 1);
    SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
    WM_TRY(context->valid_until_, end_of(native));
    return context;
  }

  SSL* new_session() { return SSL_new(context_.native_handle()); }
  Instant valid_until() const { return valid_until_; }
  bool has_chain_of(Context const& other) const {
    return std::ranges::equal(chain(), other.chain(),
                              [](X509 const* one, X509 const* two) { return X509_cmp(one, two) == 0; });
  }

 private:
  // Our certificate, and those behind it that lead to the root.
  std::vector<X509 const*> chain() const {
    std::vector<X509 const*> all{SSL_CTX_get0_certificate(context_.native_handle())};
    STACK_OF(X509)* behind = nullptr;
    SSL_CTX_get0_chain_certs(context_.native_handle(), &behind);
    for (int i = 0; i < sk_X509_num(behind); ++i) all.push_back(sk_X509_value(behind, i));  // None: -1.
    return all;
  }

  mutable ssl::context context_{ssl::context::tls_server};  // Its handle is never const, though it is only looked at.
  Instant valid_until_{};
};

TlsIdentity::~TlsIdentity() = default;

Result<TlsIdentity::Made> TlsIdentity::read(TlsFiles const& files) { return Context::make(files); }

void TlsIdentity::use(Made made) {
  context_.with([&](Made& current) { std::swap(current, made); });  // The old one goes without the lock held.
}

TlsIdentity::Made TlsIdentity::context() const {
  return context_.with([](Made const& current) { return current; });
}

Instant TlsIdentity::valid_until() const { return context()->valid_until(); }

Instant TlsIdentity::valid_until(Made const& made) { return made->valid_until(); }

bool TlsIdentity::shows(Made const& made) const { return context()->has_chain_of(*made); }

TlsSession::TlsSession(TlsIdentity const& identity, int socket) : ssl_(identity.context()->new_session()) {
  WM_ASSERT(ssl_ != nullptr);  // No memory, which ends the process elsewhere too. It holds on to its context by itself.
  WM_ASSERT(SSL_set_fd(ssl_, socket) == 1);
  SSL_set_accept_state(ssl_);
}

TlsSession::~TlsSession() {
  finish();
  SSL_free(ssl_);
}

TlsStatus TlsSession::handshake() {
  if (broken_) return TlsStatus::closed;
  ERR_clear_error();
  TlsStatus const status = status_of(SSL_do_handshake(ssl_));
  established_ = status == TlsStatus::done;
  return status;
}

TlsStatus TlsSession::read(std::span<char> room, std::size_t& count) {
  count = 0;
  while (count < room.size() && !broken_) {
    ERR_clear_error();
    std::size_t got = 0;
    TlsStatus const status = status_of(SSL_read_ex(ssl_, room.data() + count, room.size() - count, &got));
    if (status != TlsStatus::done) return status;
    count += got;
  }
  return broken_ ? TlsStatus::closed : TlsStatus::done;
}

TlsStatus TlsSession::write(std::string_view bytes, std::size_t& count) {
  count = 0;
  while (count < bytes.size()) {
    if (broken_) return TlsStatus::closed;
    ERR_clear_error();
    std::size_t wrote = 0;
    TlsStatus const status = status_of(SSL_write_ex(ssl_, bytes.data() + count, bytes.size() - count, &wrote));
    if (status != TlsStatus::done) return status;
    count += wrote;
  }
  return TlsStatus::done;
}

void TlsSession::finish() {
  if (broken_ || !established_) return;
  ERR_clear_error();
  static_cast<void>(SSL_shutdown(ssl_));  // What the socket does not take now, nobody waits for.
  ERR_clear_error();
}

TlsStatus TlsSession::status_of(int result) {
  if (result > 0) return TlsStatus::done;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ: return TlsStatus::wants_read;
    case SSL_ERROR_WANT_WRITE: return TlsStatus::wants_write;
    case SSL_ERROR_ZERO_RETURN: return TlsStatus::closed;
    default: break;
  }
  broken_ = true;  // Nothing more may be asked of it, not even a farewell.
  int const reason = ERR_GET_REASON(ERR_peek_error());
  ERR_clear_error();
  return !established_ && reason == SSL_R_HTTP_REQUEST ? TlsStatus::plain_http : TlsStatus::closed;
}

}  // namespace workmill::net
