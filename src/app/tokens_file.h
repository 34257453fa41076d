#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/config.h"
#include "base/error.h"
#include "service/token_store.h"

// The tokens of a server, on disk. What stands in the file: service/tokens.h.
namespace workmill::app {

// Where they are: `tokens_file`, else "tokens" in the data folder.
std::string tokens_path(Config const& config);

struct TokensFile {
  bool is_there = false;
  std::vector<service::TokenRecord> records;
};

// bad_configuration where it is malformed, cannot be read, or others than its
// owner may write to it, as who can write there can let himself in.
Result<TokensFile> read_tokens_file(std::string const& path);

// `change` gets the tokens that there are and leaves those that there shall be. Mode 0600, whole or not at all, and one
// at a time. Old secrets whose time is over at `now` are left out of what is written.
Result<> change_tokens_file(std::string const& path, Instant now,
                            std::function<Result<>(std::vector<service::TokenRecord>&)> const& change);

// Where the server of this data folder writes down when its tokens were used last.
std::string token_uses_path(std::string const& data);
// Nothing where there is no such file, or it cannot be read: nobody knows then, and that is all.
std::optional<std::vector<service::TokenUse>> read_token_uses(std::string const& data);
Result<> write_token_uses(std::string const& data, std::span<service::TokenUse const> uses);

// At start: the store is off where there is no file, unless the configuration names one, which then must be there.
Result<> load_tokens(Config const& config, service::TokenStore& store);
// For a reload, what the store shall be set to; not there where it is off and stays so. An error where the file cannot
// be read, or has gone: then what was known must go on to hold.
Result<TokensFile> read_tokens_again(Config const& config, service::TokenStore const& store);

// What makes one list of tokens another, by their names: no secrets.
struct TokensChange {
  static constexpr std::size_t kNamesMax = 20;  // Of each kind are told; of further ones how many.

  std::size_t before = 0, after = 0;
  std::vector<std::string> added, removed;
  std::vector<std::string> changed;  // The same token, with another name, other scopes, limits or time.
  std::vector<std::string> rotated;  // The same token, with another secret.

  bool is_empty() const { return added.empty() && removed.empty() && changed.empty() && rotated.empty(); }
  // "+new -old ~other *rotated".
  std::string text() const;
};
// "a, b and 3 more".
std::string list_names(std::span<std::string const> names);
TokensChange compare_tokens(std::span<service::TokenPtr const> before, std::span<service::TokenRecord const> after);

}  // namespace workmill::app
