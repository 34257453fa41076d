#pragma once

namespace CLI {
class App;
}

namespace workmill::app {

struct Context;

// `workmill serve`: the server itself.
void add_serve(CLI::App& app, Context& context);

}  // namespace workmill::app
