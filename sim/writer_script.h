#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "log/log.h"
#include "shard/flush_writer.h"
#include "sim/faulty_log.h"
#include "sim/figures.h"

// The writer thread, played by the simulator: a flush that a turn has asked for happens at some later step, and is
// heard of at a later one still. In between the shard goes on, and the process may die.
namespace workmill::sim {

class WriterScript {
 public:
  WriterScript(LogWatch const& watch, Figures& figures) : watch_(watch), figures_(figures) {}

  // For the shard loop of one life.
  std::unique_ptr<shard::Flusher> make(log::Log& log);
  void died();

  bool is_asked() const { return log_ != nullptr && !done_ && requested_ > progress_.durable && !progress_.error; }
  bool is_unheard() const { return done_.has_value(); }  // A flush is over, and the shard does not know.
  void flush();                                          // Where is_asked().
  void tell();                                           // Where is_unheard().
  // Serials (LogWatch) of the newest batch that was handed over, and of the newest that the shard may know durable.
  std::uint64_t handed_over() const { return requested_serial_; }
  std::uint64_t told() const { return told_serial_; }

 private:
  class Hand;
  struct Done {
    std::uint64_t batch = 0;
    std::uint64_t serial = 0;
    std::optional<Error> error;
  };

  LogWatch const& watch_;
  Figures& figures_;
  log::Log* log_ = nullptr;
  std::uint64_t requested_ = 0;
  std::uint64_t requested_serial_ = 0;
  std::uint64_t told_serial_ = 0;
  std::optional<Done> done_;
  shard::Flusher::Progress progress_;
};

}  // namespace workmill::sim
