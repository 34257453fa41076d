#pragma once

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's.
class App;
}

namespace workmill::app {

struct Context;

// `workmill serve`: the server itself.
void add_serve(CLI::App& app, Context& context);

}  // namespace workmill::app
