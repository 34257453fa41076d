#pragma once

// Every command but `serve`. Each function adds one to the command line; `context` outlives the parse and the run.
namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's.
class App;
}

namespace workmill::app {

struct Context;

void add_enqueue(CLI::App& app, Context& context);
void add_work(CLI::App& app, Context& context);
void add_jobs(CLI::App& app, Context& context);
void add_job(CLI::App& app, Context& context);
void add_queues(CLI::App& app, Context& context);
void add_batch(CLI::App& app, Context& context);
void add_flags(CLI::App& app, Context& context);
void add_retry(CLI::App& app, Context& context);
void add_cancel(CLI::App& app, Context& context);
void add_pause(CLI::App& app, Context& context);
void add_resume(CLI::App& app, Context& context);
void add_cache(CLI::App& app, Context& context);
void add_ping(CLI::App& app, Context& context);
void add_top(CLI::App& app, Context& context);
void add_token(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_backup(CLI::App& app, Context& context);
void add_restore(CLI::App& app, Context& context);

}  // namespace workmill::app
