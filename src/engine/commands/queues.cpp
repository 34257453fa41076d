#include <utility>

#include "engine/commands/decide.h"

// What callers do to queues, and see of them.
namespace workmill::engine {

Error no_such_queue(std::string_view name) {
  Error error{.code = ErrorCode::not_found, .message = "there is no queue "};
  error.message.append(name);
  return error;
}

Error queue_full(std::string_view name) {
  Error error{.code = ErrorCode::queue_full, .message = "the queue "};
  error.message.append(name).append(" has reached its max_depth");
  return error;
}

Reply look(GetQueue const& command, State const& state) {
  QueueIndex const queue = state.find_queue(command.name);
  if (queue == kNone<QueueIndex>) return no_such_queue(command.name);
  return QueueReply{.queue = state.queue_view(state.queue(queue))};
}

Reply look(ListQueues const& command, State const& state) {
  QueuesReply reply;
  state.queues().walk(command.after, [&](QueueIndex index) {
    if (reply.queues.size() == command.limit) {
      reply.next = reply.queues.back().name;
      return false;
    }
    reply.queues.push_back(state.queue_view(state.queue(index)));
    return true;
  });
  return reply;
}

Reply decide(PatchQueue const& command, State const& state, Context const&, Effects& out) {
  QueueIndex const known = state.find_queue(command.name);
  QueueSettings const before = known == kNone<QueueIndex> ? QueueSettings{} : state.queue(known).settings;
  QueueSettings after = before;
  if (command.paused) after.paused = *command.paused;
  if (command.max_depth) after.max_depth = *command.max_depth;
  if (command.when_full) after.when_full = *command.when_full;
  if (known == kNone<QueueIndex> || after != before) {
    out.emit(effect::QueueChanged{.name = command.name, .settings = after});
  }
  return QueueReply{.queue = state.queue_view(state.queue(state.find_queue(command.name)))};
}

}  // namespace workmill::engine
