#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/guarded.h"
#include "base/time.h"

struct ssl_st;  // OpenSSL's SSL and SSL_CTX, whose headers are heavy.
struct ssl_ctx_st;

// TLS for the connections that we accept: who we are, and one connection's own state. Why so: docs/adr/0009.
namespace workmill::net {

struct TlsFiles {
  std::string certificate;  // PEM: ours, and behind it those that lead to the root.
  std::string key;          // PEM, not under a password.
};

// What the server shows to those who connect. One for all I/O threads; any thread may call anything.
class TlsIdentity {
 public:
  class Context;  // All that a new connection needs. Shared by those that are being made of it and the identity.
  using Made = std::shared_ptr<Context>;

  // bad_configuration, with the file, where one cannot be read, they do not belong together, or others may read the
  // key.
  static Result<Made> read(TlsFiles const& files);

  explicit TlsIdentity(Made made) : context_(std::move(made)) {}
  ~TlsIdentity();

  // For the connections from now on; those that there are keep what they have.
  void use(Made made);
  // When the certificate ends.
  Instant valid_until() const;
  Made context() const;

  // Of what read() has made: when its certificate ends, and whether that and those behind it are shown now.
  static Instant valid_until(Made const& made);
  bool shows(Made const& made) const;

 private:
  Guarded<std::shared_ptr<Context>> context_;  // Shared, so that nobody makes a session of it with the lock held.
};

enum class TlsStatus : std::uint8_t {
  done,
  wants_read,   // Nothing without more bytes from the peer.
  wants_write,  // Nothing until the socket takes more.
  closed,       // Ended in order, broken, or not to be agreed upon.
  plain_http,   // The peer sent the beginning of an HTTP request instead of a handshake.
};

// One connection's. Reads and writes the socket itself, never blocking; on one I/O thread.
class TlsSession {
 public:
  TlsSession(TlsIdentity const& identity, int socket);
  ~TlsSession();
  TlsSession(TlsSession const&) = delete;
  TlsSession& operator=(TlsSession const&) = delete;

  bool is_established() const { return established_; }
  TlsStatus handshake();
  // Fills `room` as far as it can; `count` says how far, whatever the answer: done where it is full, else what ended
  // it.
  TlsStatus read(std::span<char> room, std::size_t& count);
  // As much as the socket takes; after wants_write, the same bytes must come first the next time.
  TlsStatus write(std::string_view bytes, std::size_t& count);
  // Says that nothing more will come.
  void finish();

  // About what OpenSSL holds for a connection: an estimate, see docs/adr/0009.
  static constexpr std::size_t kMemoryBytes = 16 * 1024;

 private:
  TlsStatus status_of(int result);

  ssl_st* ssl_;
  bool established_ = false;
  bool broken_ = false;
};

}  // namespace workmill::net
