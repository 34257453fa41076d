#pragma once
#include <string>

// Which jobs are meant, in `jobs`, `retry` and `cancel`.
namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's.
class App;
}

namespace workmill::app {

struct JobFilterOptions {
  std::string state;
  std::string queue;
  std::string type;
  std::string tag;
  std::string group;
  std::string batch;

  bool is_empty() const {
    return state.empty() && queue.empty() && type.empty() && tag.empty() && group.empty() && batch.empty();
  }
  std::string query() const;  // "&state=dead&queue=q", percent-encoded.
  std::string json() const;   // {"state": "dead", "queue": "q"}, as POST /v1/jobs/bulk takes it.
};

// --state, --queue and so on.
void add_filter_options(CLI::App& command, JobFilterOptions& filter);

}  // namespace workmill::app
