#include "app/tokens_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "log/file/small_file.h"

namespace workmill::app {
namespace {

constexpr mode_t kMode = 0600;

Error about(Error error, std::string const& path) {
  error.code = ErrorCode::bad_configuration;  // Whatever it is, it is the operator's to mend.
  error.message = fmt::format("the tokens file {}: {}", path, error.message);
  return error;
}

}  // namespace

std::string tokens_path(Config const& config) {
  return config.tokens_file.empty() ? config.data + "/tokens" : config.tokens_file;
}

Result<TokensFile> read_tokens_file(std::string const& path) {
  auto file = log::read_small_file(path, service::kTokensFileBytesMax);
  if (!file) return std::unexpected(about(std::move(file).error(), path));
  if (!*file) return TokensFile{};
  if (((*file)->mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the tokens file {}: others than its owner may write to it, and so let themselves in: "
                            "chmod 600 it",
                            path));
  }
  auto records = service::parse_tokens((*file)->bytes);
  if (!records) return std::unexpected(about(std::move(records).error(), path));
  return TokensFile{.is_there = true, .records = *std::move(records)};
}

Result<> change_tokens_file(std::string const& path, Instant now,
                            std::function<Result<>(std::vector<service::TokenRecord>&)> const& change) {
  return log::change_small_file(path, kMode, service::kTokensFileBytesMax,
                                [&](std::optional<std::string> const& before) -> Result<std::string> {
                                  std::vector<service::TokenRecord> records;
                                  if (before) {
                                    auto read = service::parse_tokens(*before);
                                    if (!read) return std::unexpected(about(std::move(read).error(), path));
                                    records = *std::move(read);
                                  }
                                  WM_TRY_VOID(change(records));
                                  for (service::TokenRecord& record : records) {
                                    if (record.old && record.old->until <= now) record.old.reset();
                                  }
                                  return service::format_tokens(records);
                                });
}

std::string token_uses_path(std::string const& data) { return data + "/tokens-used"; }

std::optional<std::vector<service::TokenUse>> read_token_uses(std::string const& data) {
  auto const file = log::read_small_file(token_uses_path(data), service::kTokensFileBytesMax);
  if (!file || !*file) return std::nullopt;
  return service::parse_token_uses((*file)->bytes);
}

Result<> write_token_uses(std::string const& data, std::span<service::TokenUse const> uses) {
  return log::replace_small_file(token_uses_path(data), kMode, service::format_token_uses(uses));
}

Result<> load_tokens(Config const& config, service::TokenStore& store) {
  WM_TRY(auto file, read_tokens_file(tokens_path(config)));
  if (!file.is_there && !config.tokens_file.empty()) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("there is no tokens file {}: `workmill token new` makes it", config.tokens_file));
  }
  if (file.is_there) {
    auto const uses = read_token_uses(config.data);
    store.set(std::move(file.records), uses.value_or(std::vector<service::TokenUse>{}));
  }
  return {};
}

Result<TokensFile> read_tokens_again(Config const& config, service::TokenStore const& store) {
  std::string const path = tokens_path(config);
  WM_TRY(auto file, read_tokens_file(path));
  if (!file.is_there && store.is_on()) {
    return fail(ErrorCode::bad_configuration,
                fmt::format("the tokens file {} has gone: the tokens that were known go on to hold", path));
  }
  return file;
}

std::string list_names(std::span<std::string const> names) {
  std::size_t const told = std::min(names.size(), TokensChange::kNamesMax);
  std::string text = fmt::format("{}", fmt::join(names.first(told), ", "));
  if (told < names.size()) text += fmt::format(" and {} more", names.size() - told);
  return text;
}

std::string TokensChange::text() const {
  std::string text;
  for (auto const& [sign, names] :
       {std::pair{'+', &added}, std::pair{'-', &removed}, std::pair{'~', &changed}, std::pair{'*', &rotated}}) {
    std::size_t const told = std::min(names->size(), kNamesMax);
    for (std::string const& name : std::span{*names}.first(told)) {
      text.append(text.empty() ? "" : " ").append(1, sign).append(name);
    }
    if (told < names->size()) text += fmt::format(" {}{} more", sign, names->size() - told);
  }
  return text;
}

namespace {

// All that there is to a token but its secrets, as it is written down.
std::string without_secrets(service::TokenRecord record) {
  record.secret = {};
  record.old.reset();
  return service::format_tokens({&record, 1});
}

}  // namespace

TokensChange compare_tokens(std::span<service::TokenPtr const> before, std::span<service::TokenRecord const> after) {
  TokensChange change{
      .before = before.size(), .after = after.size(), .added = {}, .removed = {}, .changed = {}, .rotated = {}};
  std::map<std::string_view, service::TokenRecord const*> left;  // By id: those of before that are not met yet.
  for (service::TokenPtr const& token : before) left.emplace(token->record.id, &token->record);
  for (service::TokenRecord const& record : after) {
    auto const found = left.find(record.id);
    if (found == left.end()) {
      change.added.push_back(record.name);
      continue;
    }
    if (without_secrets(*found->second) != without_secrets(record)) change.changed.push_back(record.name);
    if (found->second->secret != record.secret) change.rotated.push_back(record.name);
    left.erase(found);
  }
  for (auto const& [id, record] : left) change.removed.push_back(record->name);
  for (auto* const names : {&change.added, &change.removed, &change.changed, &change.rotated}) {
    std::ranges::sort(*names);
  }
  return change;
}

}  // namespace workmill::app
