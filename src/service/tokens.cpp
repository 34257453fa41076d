#include "service/tokens.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <utility>

#include "base/assert.h"
#include "base/digits.h"
#include "model/ids.h"
#include "service/token_text.h"

namespace workmill::service {
namespace {

constexpr std::string_view kPrefix = "wm_";
// Tokens without prefixes of keys are written as they always were, so that an older server reads what it can keep to.
// It refuses a file with others: not to know of a limit would be to drop it.
constexpr std::string_view kVersion = "v1";
constexpr std::string_view kVersionWithPrefixes = "v2";
constexpr std::string_view kVersionWithOldSecret = "v3";
constexpr std::string_view kAllQueues = "*";
constexpr std::string_view kAllKeys = "*";  // No prefix: it would be encoded.
constexpr std::string_view kNoExpiry = "never";
// A file that begins so has an end mark, without which it is cut. To servers that know of none both are remarks.
constexpr std::string_view kMarked = "# Tokens of a Workmill server, up to the end mark below";
constexpr std::string_view kHeadRest =
    "; made by `workmill token`. There is no secret in here, but who\n"
    "# can write here can let himself in. A line: version id name scopes queues created expires salt hash; of version\n"
    "# v2 with the prefixes of its keys of the cache, percent-encoded, behind the queues; of version v3 with those (* "
    "for\n"
    "# all) and, at its end, with salt and hash of the secret before and the time until which that holds.\n";
constexpr std::string_view kEnd = "# end: ";
constexpr std::array kScopes{Scope::enqueue, Scope::work, Scope::read, Scope::admin};

std::array<std::uint8_t, 32> hash_of(std::span<std::uint8_t const> salt, std::string_view secret) {
  std::array<std::uint8_t, 32> hash{};
  unsigned size = 0;
  auto const* const made =
      HMAC(EVP_sha256(), salt.data(), static_cast<int>(salt.size()),
           reinterpret_cast<unsigned char const*>(secret.data()), secret.size(), hash.data(), &size);
  WM_ASSERT(made != nullptr && size == hash.size());
  return hash;
}

void fill_randomly(std::span<std::uint8_t> bytes) {
  WM_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
}

Result<AllowedQueues> parse_queues(std::string_view text) {
  if (text == kAllQueues) return AllowedQueues{};
  std::vector<std::string> names;
  while (!text.empty()) {
    std::string_view const name = take_until(text, ',');
    if (!is_name(name)) return fail(ErrorCode::bad_configuration, "a queue's name is none");
    if (names.size() == kQueueSetMax) return fail(ErrorCode::bad_configuration, "more queues than a token may have");
    names.emplace_back(name);
  }
  if (names.empty()) return fail(ErrorCode::bad_configuration, "no queues");
  return std::make_shared<QueueSet const>(std::move(names));
}

bool is_plain(char c) {
  bool const is_alphanumeric = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return is_alphanumeric || std::string_view{"._:/-"}.contains(c);
}

std::string encode_prefix(std::string_view prefix) {
  std::string text;
  for (char const c : prefix) {
    if (is_plain(c)) {
      text.push_back(c);
      continue;
    }
    text.append("%00");
    put_hex_byte(&text[text.size() - 2], static_cast<std::uint8_t>(c));
  }
  return text;
}

// Exactly what encode_prefix() makes.
std::optional<std::string> decode_prefix(std::string_view text) {
  std::string prefix;
  while (!text.empty()) {
    std::array<std::uint8_t, 1> byte{static_cast<std::uint8_t>(text.front())};
    bool const is_encoded = text.front() == '%';
    if (is_encoded && !from_hex(text.substr(1, 2), byte)) return std::nullopt;
    if (is_plain(static_cast<char>(byte[0])) == is_encoded) return std::nullopt;
    prefix.push_back(static_cast<char>(byte[0]));
    text.remove_prefix(is_encoded ? 3 : 1);
  }
  return prefix;
}

Result<AllowedKeys> parse_prefixes(std::string_view text) {
  std::vector<std::string> prefixes;
  while (!text.empty()) {
    auto prefix = decode_prefix(take_until(text, ','));
    if (!prefix || !is_cache_key(*prefix)) return fail(ErrorCode::bad_configuration, "a prefix of keys is none");
    if (prefixes.size() == kCachePrefixesMax) {
      return fail(ErrorCode::bad_configuration, "more prefixes of keys than a token may have");
    }
    prefixes.push_back(*std::move(prefix));
  }
  if (prefixes.empty()) return fail(ErrorCode::bad_configuration, "no prefixes of keys");
  return std::make_shared<CacheKeySet const>(std::move(prefixes));
}

std::string end_mark(std::size_t tokens) { return fmt::format("{}{} tokens", kEnd, tokens); }

bool read_secret(std::string_view salt, std::string_view hash, SecretHash& out) {
  return from_hex(salt, out.salt) && from_hex(hash, out.hash);
}

Result<TokenRecord> parse_record(std::string_view line) {
  auto const bad = [](std::string message) { return fail(ErrorCode::bad_configuration, std::move(message)); };
  std::string_view rest = line;
  std::string_view const version = take_until(rest, ' ');
  bool const has_old = version == kVersionWithOldSecret;
  bool const has_prefixes = has_old || version == kVersionWithPrefixes;
  if (!has_prefixes && version != kVersion) return bad("a version that is not known here");
  std::array<std::string_view, 5> head;
  for (std::string_view& field : std::span{head}.first(has_prefixes ? 5 : 4)) field = take_until(rest, ' ');
  std::array<std::string_view, 7> fields;
  auto const tail = std::span{fields}.first(has_old ? 7 : 4);
  for (std::string_view& field : tail) field = take_until(rest, ' ');
  if (!rest.empty() || tail.back().empty()) return bad("too few fields, or too many");
  auto const& [id, name, scopes, queues, prefixes] = head;
  auto const& [created, expires, salt, hash, old_salt, old_hash, old_until] = fields;
  TokenRecord record;
  if (id.size() != kTokenIdBytes || !is_lower_hex(id)) return bad("the id is none");
  if (!is_name(name)) return bad("the name is none");
  record.id = id;
  record.name = name;
  auto const parsed_scopes = parse_scopes(scopes);
  if (!parsed_scopes) return bad("the scopes are none");
  record.scopes = *parsed_scopes;
  WM_TRY(record.allowed.queues, parse_queues(queues));
  if (has_prefixes && !(has_old && prefixes == kAllKeys)) {
    WM_TRY(record.allowed.keys, parse_prefixes(prefixes));
  }
  auto const created_at = parse_rfc3339(created);
  if (!created_at) return bad("the time when it was made is none");
  record.created_at = *created_at;
  if (expires != kNoExpiry) {
    auto const expires_at = parse_rfc3339(expires);
    if (!expires_at) return bad("the time when it ends is none");
    record.expires_at = *expires_at;
  }
  if (!read_secret(salt, hash, record.secret)) return bad("salt or hash are none");
  if (!has_old) return record;
  auto const until = parse_rfc3339(old_until);
  OldSecret& old = record.old.emplace();
  if (!until || !read_secret(old_salt, old_hash, old.kept)) return bad("the secret before, or its end, are none");
  old.until = *until;
  return record;
}

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::enqueue: return "enqueue";
    case Scope::work: return "work";
    case Scope::read: return "read";
    case Scope::admin: return "admin";
  }
  return "";
}

std::string to_string(Scopes scopes) {
  std::string text;
  for (Scope const scope : kScopes) {
    if (!scopes.has(scope)) continue;
    if (!text.empty()) text.push_back(',');
    text.append(to_string(scope));
  }
  return text;
}

Result<Scopes> parse_scopes(std::string_view text) {
  Scopes scopes;
  while (!text.empty()) {
    std::string_view const word = take_until(text, ',');
    auto const* const found =
        std::find_if(kScopes.begin(), kScopes.end(), [&](Scope scope) { return to_string(scope) == word; });
    if (found == kScopes.end()) {
      return fail_field(ErrorCode::invalid_field, "scope", "must be of enqueue, work, read and admin");
    }
    scopes.add(*found);
  }
  if (scopes.empty()) return fail_field(ErrorCode::invalid_field, "scope", "must be of enqueue, work, read and admin");
  return scopes;
}

std::optional<ShownToken> split_token(std::string_view text) {
  if (text.size() != kTokenBytes || !text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  ShownToken const shown{.id = text.substr(0, kTokenIdBytes), .secret = text.substr(kTokenIdBytes + 1)};
  if (text[kTokenIdBytes] != '_' || !is_lower_hex(shown.id) || !is_lower_hex(shown.secret)) return std::nullopt;
  return shown;
}

bool holds(SecretHash const& kept, std::string_view secret) {
  auto const hash = hash_of(kept.salt, secret);
  return CRYPTO_memcmp(hash.data(), kept.hash.data(), hash.size()) == 0;
}

std::string make_token(TokenRecord& record) {
  std::array<std::uint8_t, kTokenIdBytes / 2> id{};
  fill_randomly(id);
  record.id = to_hex(id);
  return rotate_token(record, std::nullopt);
}

std::string rotate_token(TokenRecord& record, std::optional<Instant> old_until) {
  record.old.reset();
  if (old_until) record.old = OldSecret{.kept = record.secret, .until = *old_until};
  std::array<std::uint8_t, kTokenSecretBytes / 2> secret{};
  fill_randomly(secret);
  fill_randomly(record.secret.salt);
  std::string token;
  token.reserve(kTokenBytes);  // It does not move, so no copy of it stays behind.
  token.append(kPrefix).append(record.id).append("_");
  std::string text = to_hex(secret);
  token.append(text);
  record.secret.hash = hash_of(record.secret.salt, text);
  wipe(text);
  OPENSSL_cleanse(secret.data(), secret.size());
  return token;
}

Result<std::vector<TokenRecord>> parse_tokens(std::string_view file) {
  auto const bad = [](std::size_t line, std::string_view message) {
    return fail(ErrorCode::bad_configuration, fmt::format("line {}: {}", line, message));
  };
  if (file.size() > kTokensFileBytesMax) return bad(1, "the file is larger than a tokens file may be");
  if (file.empty()) return bad(1, "the file is empty; one without tokens has a line that begins with #");
  bool const is_marked = file.starts_with(kMarked) || kMarked.starts_with(file);
  std::vector<TokenRecord> records;
  std::set<std::string, std::less<>> known;  // Ids and names; an id may be another's name, so with a mark.
  std::size_t number = 0;
  bool has_ended = false;
  while (!file.empty()) {
    ++number;
    std::string_view const line = take_until(file, '\n');
    if (line.empty()) continue;
    if (has_ended) return bad(number, "something stands behind the end mark");
    if (line.starts_with(kEnd)) {
      has_ended = line == end_mark(records.size());
      if (!has_ended) {
        return bad(number, fmt::format("{} tokens stand above the end mark, which says otherwise", records.size()));
      }
    }
    if (line.starts_with('#')) continue;
    if (records.size() == kTokensMax) return bad(number, "more tokens than a file may have");
    auto record = parse_record(line);
    if (!record) return bad(number, record.error().message);
    if (!known.insert("i " + record->id).second) return bad(number, "an id that another token has");
    if (!known.insert("n " + record->name).second) return bad(number, "a name that another token has");
    records.push_back(*std::move(record));
  }
  if (is_marked && !has_ended) return bad(number, "the end mark is missing: the file has been cut");
  return records;
}

std::string format_tokens(std::span<TokenRecord const> records) {
  std::string file = std::string{kMarked}.append(kHeadRest);
  for (TokenRecord const& record : records) {
    auto const& [allowed_queues, keys] = record.allowed;
    std::string places{kAllQueues};
    if (allowed_queues) places = fmt::format("{}", fmt::join(allowed_queues->names(), ","));
    char separator = ' ';
    for (std::string const& prefix : keys ? keys->prefixes() : std::span<std::string const>{}) {
      places.append(1, std::exchange(separator, ',')).append(encode_prefix(prefix));
    }
    std::string_view version = keys ? kVersionWithPrefixes : kVersion;
    std::string before;
    if (auto const& old = record.old) {
      version = kVersionWithOldSecret;
      if (!keys) places.append(" ").append(kAllKeys);
      before = fmt::format(" {} {} {}", to_hex(old->kept.salt), to_hex(old->kept.hash), format_rfc3339(old->until));
    }
    file.append(fmt::format("{} {} {} {} {} {} {} {} {}{}\n", version, record.id, record.name, to_string(record.scopes),
                            places, format_rfc3339(record.created_at),
                            record.expires_at ? format_rfc3339(*record.expires_at) : std::string{kNoExpiry},
                            to_hex(record.secret.salt), to_hex(record.secret.hash), before));
  }
  return file.append(end_mark(records.size())).append("\n");
}

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

}  // namespace workmill::service
