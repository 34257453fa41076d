#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "model/allowed.h"

// What an access token is, how it is written down, and how one that is shown is held against that. Pure but for the
// system's random numbers when one is made. Values: any thread may own one. Fuzzed. Why so: docs/adr/0012.
//
// A token as its bearer has it is "wm_ID_SECRET": an id of 48 bits by which it is found, and 256 random bits, both in
// lower-case hex. The server keeps the id, a salt, and HMAC-SHA-256 of the secret under that salt: with 256 bits to
// guess, a slow hash would cost each caller time and an attacker nothing that he could save.
namespace workmill::service {

enum class Scope : std::uint8_t { enqueue, work, read, admin };
std::string_view to_string(Scope scope);

// Each stands for itself: admin does not include read.
class Scopes {
 public:
  constexpr Scopes() = default;
  constexpr Scopes(std::initializer_list<Scope> scopes) {
    for (Scope const scope : scopes) add(scope);
  }
  constexpr void add(Scope scope) { bits_ = static_cast<std::uint8_t>(bits_ | bit(scope)); }
  constexpr bool has(Scope scope) const { return (bits_ & bit(scope)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  bool operator==(Scopes const&) const = default;

 private:
  static constexpr unsigned bit(Scope scope) { return 1U << static_cast<unsigned>(scope); }
  std::uint8_t bits_ = 0;
};
// "enqueue,read", in the order of the enumeration. invalid_field for an unknown or an empty list.
std::string to_string(Scopes scopes);
Result<Scopes> parse_scopes(std::string_view text);

inline constexpr std::size_t kTokensMax = 10'000;  // In one file.
inline constexpr std::size_t kTokensFileBytesMax = std::size_t{8} << 20;
inline constexpr std::size_t kTokenIdBytes = 12;      // Hex digits.
inline constexpr std::size_t kTokenSecretBytes = 64;  // Hex digits.
inline constexpr std::size_t kTokenBytes = 3 + kTokenIdBytes + 1 + kTokenSecretBytes;

// What is kept of a secret.
struct SecretHash {
  std::array<std::uint8_t, 16> salt{};
  std::array<std::uint8_t, 32> hash{};
  bool operator==(SecretHash const&) const = default;
};
// The secret that a token had before it was rotated. Over at `until`, and with the token.
struct OldSecret {
  SecretHash kept;
  Instant until{};
};

// What is kept of a token. Nothing in here lets anybody in.
struct TokenRecord {
  std::string id;    // kTokenIdBytes; public: it may stand in logs.
  std::string name;  // As is_name() has it; one of its own in its file.
  Scopes scopes;
  Allowed allowed{};  // The queues and keys of the cache that it is for.
  Instant created_at{};
  std::optional<Instant> expires_at{};
  SecretHash secret{};
  std::optional<OldSecret> old{};
};

// A token in its two parts, lent from the text. Nothing where it has not exactly the form.
struct ShownToken {
  std::string_view id, secret;
};
std::optional<ShownToken> split_token(std::string_view text);

// Takes as long whatever the secret is.
bool holds(SecretHash const& kept, std::string_view secret);

// Fills in id and secret, and answers the token as its bearer gets it: this once, the caller wipes it (see wipe).
std::string make_token(TokenRecord& record);
// The same token with another secret. Where there is an `old_until`, the secret that it had holds until then as well;
// a still older one is over at once.
std::string rotate_token(TokenRecord& record, std::optional<Instant> old_until);

// A tokens file, a line each (docs/reference/configuration.md). bad_configuration, with the line, for what is
// malformed, comes twice, or is over a bound; never a part of what stood there. A file that has been cut is refused
// wherever that was, as its end mark is missing; only those of versions that wrote none may end with any line.
Result<std::vector<TokenRecord>> parse_tokens(std::string_view file);
std::string format_tokens(std::span<TokenRecord const> records);

// Overwrites a secret where it stands, so that the compiler cannot leave it out.
void wipe(std::string& secret);

}  // namespace workmill::service
