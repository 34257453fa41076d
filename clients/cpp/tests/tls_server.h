#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

// The server's side of TLS for a FakeServer's connections: one that misbehaves, or that asks who comes.
namespace workmill::client::test {

// PEM files.
struct Certificate {
  std::string certificate{};  // For 127.0.0.1, and vouches for itself.
  std::string key{};
};
Certificate make_certificate(std::filesystem::path const& folder, std::string const& name);

// Any thread.
class TlsServer {
 public:
  // `clients`: who comes must show a certificate that this file vouches for. Empty: nobody is asked.
  explicit TlsServer(Certificate const& own, std::string const& clients = {});
  ~TlsServer();
  TlsServer(TlsServer const&) = delete;
  TlsServer& operator=(TlsServer const&) = delete;

  class Connection {
   public:
    ~Connection();
    Connection(Connection&&) noexcept;
    // The head of one, which must have no body; empty where the other side has closed.
    std::string read_request();
    void send(std::string_view text);
    // In order (close_notify); until the other side's system knows of it.
    void close();

   private:
    friend class TlsServer;
    struct State;
    explicit Connection(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };
  // Nothing where the hands could not be shaken. `socket` outlives it.
  std::optional<Connection> accept(int socket);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace workmill::client::test
