#pragma once
#include "app/commands/context.h"
#include "base/time.h"

namespace workmill::app {

// `doctor URL`: asks the server of `context` twice, `watched` apart, and says what limits it. Answers the exit code.
int run_live_doctor(Duration watched, Context const& context);

}  // namespace workmill::app
