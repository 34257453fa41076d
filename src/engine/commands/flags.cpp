#include <string>
#include <string_view>

#include "base/mutation.h"
#include "engine/commands/decide.h"

// What callers do to flags.
namespace workmill::engine {
namespace {

Error no_such_flag(std::string_view key) {
  Error error{.code = ErrorCode::not_found, .message = "there is no flag "};
  error.message.append(key);
  return error;
}

FlagChange as_reply(FlagTable::Change const& change) {
  return {.version = change.version, .at = change.at, .by = change.by, .definition = change.definition};
}

}  // namespace

Reply decide(SetFlag const& command, State const& state, Context const& context, Effects& out) {
  FlagTable::Changes const* known = state.flags().find(command.key);
  std::uint64_t const version = known != nullptr ? known->back().version : 0;
  bool const is_there = known != nullptr && known->back().definition == command.definition;
  // Sent again, it changes nothing: so whoever got no answer may send it again, the version that he knew included.
  bool const is_first = known != nullptr && known->size() == 1;
  bool const is_repeat =
      is_there && command.version && (*command.version + 1 == version || (*command.version == 0 && is_first));
  if (command.version && *command.version != version && !is_repeat) {
    return Error{.code = ErrorCode::wrong_state,
                 .message = version == 0 ? "there is no such flag (any more)"
                                         : "the flag is of version " + std::to_string(version) + " now",
                 .field = "version"};
  }
  if (known == nullptr && state.flags().size() >= state.options().flags_max) {
    return Error{.code = ErrorCode::wrong_state,
                 .message = "there are " + std::to_string(state.flags().size()) + " flags, as many as may be"};
  }
  if (!is_there) {
    std::uint64_t const removed = WM_MUTATION(flag_versions_begin_again) ? 0 : state.flags().removed_version();
    out.emit(effect::FlagChanged{.key = command.key,
                                 .version = 1 + (known != nullptr ? version : removed),
                                 .at = context.now,
                                 .by = command.by,
                                 .definition = command.definition});
    known = state.flags().find(command.key);
  }
  return FlagReply{.key = command.key, .newest = as_reply(known->back())};
}

Reply decide(RemoveFlag const& command, State const& state, Context const& context, Effects& out) {
  if (state.flags().find(command.key) == nullptr) return no_such_flag(command.key);
  out.emit(effect::FlagRemoved{.key = command.key, .at = context.now, .by = command.by});
  // That says up to which version: the records of the flag go with their segments, from here on.
  out.emit(state.store());
  return DoneReply{};
}

Reply look(GetFlagHistory const& command, State const& state) {
  FlagTable::Changes const* const changes = state.flags().find(command.key);
  if (changes == nullptr) return no_such_flag(command.key);
  FlagHistoryReply reply{.key = command.key};
  for (auto change = changes->rbegin(); change != changes->rend(); ++change) {
    if (command.before != 0 && change->version >= command.before) continue;
    if (reply.changes.size() == command.limit) {
      reply.next = reply.changes.back().version;
      break;
    }
    reply.changes.push_back(as_reply(*change));
  }
  return reply;
}

}  // namespace workmill::engine
