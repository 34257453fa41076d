#pragma once
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>

#include "app/worker/file_descriptor.h"
#include "base/error.h"

// What a stampede costs in the kernel alone: in place of a server, a process whose threads do nothing but a send() of
// the same bytes on each caller's socket once the job's report is there. Whatever a server does besides comes on top of
// this, so the figure beside this one, in the same run and by the same client, says what is its own.
namespace workmill::app {

class Floor {
 public:
  // Listens on loopback, for one worker, which connects first, and so many callers. `threads` send, each to its share
  // of them. io_failed where
  // there are no sockets. It is a process of its own, as a server is, for its descriptors; ends with this.
  static Result<std::unique_ptr<Floor>> open(std::size_t callers, std::size_t value_bytes, std::size_t threads);
  ~Floor();
  Floor(Floor const&) = delete;
  Floor& operator=(Floor const&) = delete;

  std::string url() const;

 private:
  Floor(FileDescriptor listener, pid_t process);

  FileDescriptor listener_;  // Kept, for its address.
  pid_t process_;
};

}  // namespace workmill::app
