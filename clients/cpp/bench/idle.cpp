// Workers of the C++ client that wait for jobs which never come, as many as are asked for: what they cost a server.
//
//   wm_client_idle WORKERS     the server's address: WORKMILL_URL
//
// Ends with its standard input. For bench/streams.py idle.
#include <cstdio>
#include <cstdlib>
#include <list>
#include <string>

#include "workmill/workmill.h"

namespace {

using namespace workmill::client;  // NOLINT(google-build-using-namespace)

int run(unsigned count) {
  std::list<Worker> workers;
  for (unsigned i = 0; i < count; ++i) {
    Worker& worker = workers.emplace_back(
        WorkerOptions{.queues = {"idle-" + std::to_string(i % 100)}, .transport = WorkTransport::stream});
    // One thread for each: handlers that run inline need no pool.
    worker.on<NoPayload>("never", [](NoPayload) {}, {.run_on = RunOn::inline_thread});
    worker.start();
  }
  while (std::getchar() != EOF) {
  }
  std::_Exit(0);  // Nothing is held, and nobody waits for the threads.
}

}  // namespace

int main(int argc, char** argv) { return run(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 1'000); }
