#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "workmill/async_client.h"
#include "workmill/client.h"
#include "workmill/worker.h"

// The whole of Workmill in this process: an engine and a folder, no server and no sockets. Link workmill::embedded.
//
//   auto mill = workmill::client::Workmill::open("jobs");
//   auto client = mill->client();
//   auto worker = mill->worker({.queues = {"images"}});
//
// The same Client and Worker, the same durability (it is on the disk before a call answers), and the folder is one that
// `workmill serve` can open as well; one process at a time.
namespace workmill::client {

enum class Durability : std::uint8_t {
  sync,      // Each answer is on the disk: it survives a power cut.
  interval,  // Written to the disk 20 times a second: a power cut may lose 50 ms; kill -9 of the process nothing.
  os,        // Left to the operating system.
};

struct EmbeddedOptions {
  Durability durability = Durability::sync;
  unsigned finished_kept = 100'000;                      // Finished jobs kept in a queue.
  std::uint64_t cache_memory = std::uint64_t{64} << 20;  // Bytes for cached values in memory, and
  std::uint64_t cache_disk = std::uint64_t{1} << 30;     // in the folder: what is used least is forgotten beyond.
  LogHook log{};  // What the engine has to say: recovery, damage, trouble with the disk.
};

// An open folder. Movable, cheap to copy: all copies, clients and workers of one folder share its engine, which closes
// in order when the last of them goes. Any thread.
//
// Where the disk fails (a flush), nobody knows any more what is durable: every call answers `engine_stopped` from then
// on, and the folder must be opened anew.
class Workmill {
 public:
  // Makes the folder where it is missing, and recovers what is in it. Errors have the server's codes: log_in_use,
  // log_corrupt, io_failed, …
  static Result<Workmill> open(std::string const& folder, EmbeddedOptions options = {});

  // `options`: retry, time-outs, log, traces and on_enqueue count; what is about connections does not.
  Client client(ServerOptions options = {}) const;
  AsyncClient async_client(AsyncOptions options = {}) const;
  // `options.transport` does not count.
  Worker worker(WorkerOptions options) const;

 private:
  explicit Workmill(std::shared_ptr<detail::Backend> backend) : backend_(std::move(backend)) {}
  std::shared_ptr<detail::Backend> backend_;
};

}  // namespace workmill::client

namespace workmill {
using client::Workmill;
}
