#include "sim/checkers/model_flags.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "sim/checkers/model_detail.h"

namespace workmill::sim {
namespace {

constexpr std::size_t kChangesKept = 100;
constexpr std::size_t kChangeBytesKept = 65'536;

bool is_same(flags::Value const& one, flags::Value const& other) {
  if (one.kind != other.kind) return false;
  switch (one.kind) {
    case flags::ValueKind::boolean:
    case flags::ValueKind::string: return one.text == other.text;
    case flags::ValueKind::number: return one.number == other.number;
    case flags::ValueKind::object: return false;
  }
  return false;
}

bool holds(flags::Rule const& rule, flags::Context const& context) {
  for (flags::Condition const& condition : rule.conditions) {
    flags::Value const* const known = context.find(condition.attribute);
    bool is_any = false;
    for (flags::Value const& value : condition.values) is_any = is_any || (known != nullptr && is_same(value, *known));
    if (!is_any) return false;
  }
  return true;
}

// The shares lie behind each other over the range of the hash, each as wide as its weight.
std::uint32_t side_of(flags::Rule const& rule, std::string_view key, std::string_view targeting_key) {
  __extension__ using Wide = unsigned __int128;
  std::string const hashed = std::string{key} + '\x1f' + std::string{targeting_key};
  Wide const hash = XXH3_64bits(hashed.data(), hashed.size());
  std::uint64_t whole = 0;
  for (flags::Share const& share : rule.shares) whole += share.weight;
  std::uint64_t until = 0;
  for (flags::Share const& share : rule.shares) {
    until += share.weight;
    if (hash * whole < Wide{until} << 64) return share.variant;
  }
  return UINT32_MAX;
}

ModelFlagChange as_change(FlagChange const& change) {
  return {.version = change.version, .at = change.at, .by = change.by, .definition = change.definition};
}

}  // namespace

FlagHistory as_history(FlagHistoryReply const& reply) {
  FlagHistory history;
  history.reserve(reply.changes.size());
  for (FlagChange const& change : reply.changes) history.push_back(as_change(change));
  return history;
}

std::size_t ModelFlag::kept() const {
  std::size_t count = 1;
  std::size_t bytes = changes.front().definition.size();
  while (count < changes.size() && count < kChangesKept) {
    bytes += changes[count].definition.size();
    if (bytes > kChangeBytesKept) break;
    ++count;
  }
  return count;
}

Verdict reckon(std::string_view key, flags::Flag const& flag, flags::Context const& context) {
  if (!flag.enabled) return {flag.default_variant, flags::Reason::disabled};
  if (flag.rules.empty()) return {flag.default_variant, flags::Reason::fixed};
  for (flags::Rule const& rule : flag.rules) {
    if (!holds(rule, context)) continue;
    if (rule.is_rollout) return {side_of(rule, key, context.targeting_key()), flags::Reason::split};
    return {rule.variant, flags::Reason::targeting_match};
  }
  return {flag.default_variant, flags::Reason::unknown};
}

bool lets_through(std::string_view key, flags::Flag const& flag, std::string_view type) {
  flags::Context context{type};
  context.add("type", flags::string_value(type));
  return flag.variants[reckon(key, flag, context).variant].value.text == "true";
}

// ---- Commands.

bool Model::run(shard::Cookie cookie, SetFlag const& command) {
  auto known = flags_.find(command.key);
  bool const is_there = known != flags_.end();
  std::uint64_t const version = is_there ? known->second.changes.front().version : 0;
  bool const is_same = is_there && known->second.changes.front().definition == command.definition;
  bool const is_first = is_there && known->second.changes.size() == 1;
  bool const is_repeat =
      is_same && command.version && (*command.version + 1 == version || (*command.version == 0 && is_first));
  if (command.version && *command.version != version && !is_repeat) {
    ++figures_[Figure::flag_changed_meanwhile];
    return expect_error(cookie, ErrorCode::wrong_state);
  }
  if (!is_there && flags_.size() >= options_.flags_max) {
    ++figures_[Figure::flags_full];
    return expect_error(cookie, ErrorCode::wrong_state);
  }
  if (is_repeat) ++figures_[Figure::flag_repeated];
  if (!is_same) {
    auto const* written = take<effect::FlagChanged>();
    if (written == nullptr) return false;
    WM_SIM_HOLD(written->key == command.key && written->by == command.by && written->at == now_ &&
                    written->definition == command.definition,
                "the change of flag {} is written down wrongly", command.key);
    std::uint64_t& highest = flag_versions_[command.key];
    WM_SIM_HOLD(is_there ? written->version == version + 1 : written->version > highest,
                "flag {} of version {} becomes version {}", command.key, version, written->version);
    auto decoded = flags::decode_flag(command.definition);
    WM_SIM_HOLD(decoded.has_value(), "a definition that the workload made cannot be read");
    ++figures_[!is_there ? (highest > 0 ? Figure::flag_made_again : Figure::flag_made)
               : decoded->enabled || !known->second.flag.enabled ? Figure::flag_changed
                                                                 : Figure::flag_killed];
    highest = std::max(highest, written->version);
    if (!is_there) known = flags_.try_emplace(command.key).first;
    known->second.changes.push_front(
        {.version = written->version, .at = now_, .by = command.by, .definition = command.definition});
    known->second.flag = *std::move(decoded);
    if (std::size_t const kept = known->second.kept(); kept < known->second.changes.size()) {
      ++figures_[kept == kChangesKept ? Figure::flag_history_of_a_hundred : Figure::flag_history_of_64_kib];
    }
    set_gates();
  }
  FlagReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  WM_SIM_HOLD(reply->key == command.key, "flag {} was set, and the answer is of {}", command.key, reply->key);
  return compare_change(command.key, known->second.changes.front(), as_change(reply->newest));
}

bool Model::run(shard::Cookie cookie, RemoveFlag const& command) {
  auto const known = flags_.find(command.key);
  if (known == flags_.end()) return expect_error(cookie, ErrorCode::not_found);
  auto const* written = take<effect::FlagRemoved>();
  if (written == nullptr) return false;
  WM_SIM_HOLD(written->key == command.key && written->by == command.by && written->at == now_,
              "the end of flag {} is written down wrongly", command.key);
  while (next<effect::StoreCreated>() != nullptr) ++at_;  // Which says up to which version its flags were.
  ++figures_[Figure::flag_removed];
  flags_.erase(known);
  set_gates();
  return expect_done(cookie);
}

bool Model::run(shard::Cookie cookie, GetFlagHistory const& command) {
  if (!flags_.contains(command.key)) return expect_error(cookie, ErrorCode::not_found);
  FlagHistoryReply const* reply = nullptr;
  WM_SIM_STEP(expect(cookie, reply));
  if (reply == nullptr) return true;
  ++figures_[Figure::flag_history_read];
  WM_SIM_HOLD(reply->key == command.key, "the history of {} is answered for that of {}", reply->key, command.key);
  ModelFlag const& flag = flags_.at(command.key);
  FlagHistory wanted{flag.changes.begin(), flag.changes.begin() + static_cast<std::ptrdiff_t>(flag.kept())};
  if (command.before != 0) {
    std::erase_if(wanted, [&](ModelFlagChange const& change) { return change.version >= command.before; });
  }
  bool const is_more = wanted.size() > command.limit;
  if (is_more) wanted.resize(command.limit);
  if (is_more) ++figures_[Figure::flag_history_in_pages];
  WM_SIM_HOLD(reply->next == (is_more ? wanted.back().version : 0), "the history of {} goes on before version {}",
              command.key, reply->next);
  FlagHistory const got = as_history(*reply);
  WM_SIM_HOLD(got.size() == wanted.size(), "a page of the history of {} has {} changes instead of {}", command.key,
              got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) WM_SIM_STEP(compare_change(command.key, wanted[i], got[i]));
  return true;
}

// ---- What is seen of them.

bool Model::compare_change(std::string const& key, ModelFlagChange const& wanted, ModelFlagChange const& got) {
  WM_SIM_HOLD(got.version == wanted.version, "flag {} is of version {} instead of {}", key, got.version,
              wanted.version);
  WM_SIM_HOLD(got.definition == wanted.definition, "version {} of flag {} is defined otherwise", wanted.version, key);
  WM_SIM_HOLD(got.at == wanted.at && got.by == wanted.by,
              "version {} of flag {} is of '{}' at {} instead of '{}' at {}", wanted.version, key, got.by,
              to_ms(got.at), wanted.by, to_ms(wanted.at));
  return true;
}

bool Model::compare_history(std::string const& key, FlagHistory const& changes) {
  auto const known = flags_.find(key);
  WM_SIM_HOLD(known != flags_.end(), "flag {} has a history, and is not there", key);
  std::size_t const kept = known->second.kept();
  WM_SIM_HOLD(changes.size() == kept, "the history of flag {} has {} changes instead of {}", key, changes.size(), kept);
  for (std::size_t i = 0; i < kept; ++i) WM_SIM_STEP(compare_change(key, known->second.changes[i], changes[i]));
  return true;
}

bool Model::compare_flags(flags::FlagSet const& set) {
  auto entry = set.entries().begin();
  for (auto const& [key, known] : flags_) {
    WM_SIM_HOLD(entry != set.entries().end() && (*entry)->key == key, "flag {} is missing", key);
    flags::FlagEntry const& found = **entry++;
    Bytes definition;
    flags::encode_flag(found.flag, definition);
    WM_SIM_STEP(compare_change(key, known.changes.front(),
                               {.version = found.version,
                                .at = found.updated_at,
                                .by = found.updated_by,
                                .definition = std::move(definition)}));
  }
  WM_SIM_HOLD(entry == set.entries().end(), "flag {} is there, and nobody made it", (*entry)->key);
  return true;
}

bool Model::saw(FlagsSeen const& seen) {
  WM_SIM_STEP(compare_flags(seen.set));
  for (flags::FlagEntryPtr const& entry : seen.set.entries()) {
    flags::Flag const& flag = flags_.at(entry->key).flag;
    flags::Evaluation const got = flags::evaluate(entry->key, entry->flag, seen.context);
    Verdict const wanted = reckon(entry->key, flag, seen.context);
    WM_SIM_HOLD(got.variant == wanted.variant && got.reason == wanted.reason,
                "flag {} is variant {} ({}) for '{}' instead of {} ({})", entry->key, got.variant,
                to_string(got.reason), seen.context.targeting_key(), wanted.variant, to_string(wanted.reason));
    ++figures_[Figure::flags_evaluated];
    if (got.reason == flags::Reason::disabled) ++figures_[Figure::flag_seen_disabled];
    if (got.reason == flags::Reason::split) ++figures_[Figure::flag_seen_split];
    if (got.reason == flags::Reason::targeting_match) ++figures_[Figure::flag_seen_targeted];
  }
  return true;
}

// One of the changes that are kept stands elsewhere from now on.
bool Model::take_flag_copy(effect::FlagChanged const& copy) {
  auto const known = flags_.find(std::string{copy.key});
  WM_SIM_HOLD(known != flags_.end(), "flag {} was copied ahead, and is not there", copy.key);
  auto const& changes = known->second.changes;
  auto const change = std::ranges::find(changes, copy.version, &ModelFlagChange::version);
  WM_SIM_HOLD(change != changes.end() && change->at == copy.at && change->by == copy.by &&
                  change->definition == copy.definition,
              "version {} of flag {} was copied ahead wrongly", copy.version, copy.key);
  ++figures_[change == changes.begin() ? Figure::flag_copied : Figure::flag_history_copied];
  return true;
}

}  // namespace workmill::sim
