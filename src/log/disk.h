#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "model/ids.h"

// What the log needs of a folder of segment files, and nothing more, so that the log over real files and the log in the
// simulator are the same code over different disks.
//
// Threads. The shard's thread calls list, read, fetch, done_reading and claim; the flushing thread append and drop;
// those two and a third one sync, retire and create, each of these in one thread at a time; any thread space and name.
// What is dropped or retired is nowhere else in use.
namespace workmill::log {

struct DiskFile {
  std::uint32_t ordinal = 0;
  std::uint64_t bytes = 0;  // Preallocated space included.
};

struct DiskSpace {
  std::uint64_t used_bytes = 0;  // By the log, spare space included.
  std::uint64_t free_bytes = 0;
};

class Disk {
 public:
  virtual ~Disk() = default;

  // The segment files, by ordinal.
  virtual Result<std::vector<DiskFile>> list() = 0;

  // Bytes from `offset` into `out`; how many there were: fewer than out.size() only at the end of the file.
  virtual Result<std::size_t> read(std::uint32_t ordinal, std::uint64_t offset, std::span<char> out) = 0;

  // Where reading these bytes would wait for a device: what waits in place of read(), which finds them in memory after
  // that, for a while. To be called once, on any thread, while the disk is there; the file may be dropped before. Empty
  // where they are in memory, or where nobody can tell.
  virtual std::move_only_function<void()> fetch(std::uint32_t /*ordinal*/, std::uint64_t /*offset*/,
                                                std::uint64_t /*bytes*/) {
    return {};
  }

  // A new file of `bytes` that begins with `head`. Durable and whole, name included, or not there at all. What follows
  // the head and kFrameHeaderBytes of zeros may be anything: space is recycled.
  virtual Result<> create(std::uint32_t ordinal, BytesView head, std::uint64_t bytes) = 0;

  // Writes `parts` behind each other from `offset`, growing the file where needed. What stands behind them in the file
  // is free, and may be overwritten with zeros. Not durable before sync.
  virtual Result<> append(std::uint32_t ordinal, std::uint64_t offset, std::span<BytesView const> parts) = 0;

  // Everything appended to the file before the call is durable afterwards. After an error it is unknown for ever.
  virtual Result<> sync(std::uint32_t ordinal) = 0;

  // Nothing will be read from this file any more; its read side may be closed.
  virtual void done_reading(std::uint32_t ordinal) = 0;

  // Nothing will be appended to this file any more; its write side may be closed.
  virtual void retire(std::uint32_t ordinal) = 0;

  // Removes a file, for good when this returns. The space may be kept for the next create.
  virtual Result<> drop(std::uint32_t ordinal) = 0;

  // The calls of whoever claimed under an earlier epoch fail with log_fenced from now on.
  virtual Result<> claim(Epoch epoch) = 0;

  virtual DiskSpace space() const = 0;  // Cheap, and up to a second old.

  // How a file is called in messages for people.
  virtual std::string name(std::uint32_t ordinal) const = 0;
};

}  // namespace workmill::log
