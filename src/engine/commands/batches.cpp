#include "engine/commands/decide.h"

// What callers do to batches, and see of them.
namespace workmill::engine {

Error no_such_batch() {
  return {.code = ErrorCode::batch_not_found, .message = "there is no such batch, or no longer"};
}

Reply decide(MakeBatch const&, State const&, Context const&, Effects&) {
  return Error{.code = ErrorCode::batches_full, .message = "there are no batches yet"};
}
Reply decide(CloseBatch const&, State const&, Context const&, Effects&) { return no_such_batch(); }
Reply decide(ForgetBatch const&, State const&, Context const&, Effects&) { return no_such_batch(); }
Reply look(GetBatch const&, State const&) { return no_such_batch(); }

}  // namespace workmill::engine
