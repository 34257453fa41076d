#include "base/channel.h"

#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

// What it costs to hand a value from one thread to another. A message is as large as a small command.
namespace workmill {
namespace {

constexpr auto kLong = std::chrono::minutes{1};
using Message = std::array<std::uint64_t, 16>;

// The lock and the copies alone: a batch is sent and received by one thread.
void channel_hop_same_thread(benchmark::State& state) {
  auto const batch = static_cast<std::size_t>(state.range(0));
  Channel<Message> channel{batch};
  std::vector<Message> out;
  for (auto _ : state) {
    for (std::uint64_t i = 0; i < batch; ++i) benchmark::DoNotOptimize(channel.try_send(Message{i}));
    out.clear();
    benchmark::DoNotOptimize(channel.receive_batch(out, batch));
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(channel_hop_same_thread)->Arg(1)->Arg(16)->Arg(512);

// A sender that never stops, and a receiver that takes what has come.
void channel_hop_two_threads(benchmark::State& state) {
  Channel<Message> channel{static_cast<std::size_t>(state.range(0))};
  std::jthread const sender{[&channel] {
    for (std::uint64_t i = 0; channel.send(Message{i}, kLong).has_value(); ++i) {
    }
  }};
  std::vector<Message> out;
  std::int64_t received = 0;
  for (auto _ : state) {
    out.clear();
    received += static_cast<std::int64_t>(channel.receive_batch(out, 512, kLong));
  }
  channel.close();
  state.SetItemsProcessed(received);
}
BENCHMARK(channel_hop_two_threads)->Arg(512)->Arg(8'192)->UseRealTime();

// There and back between two threads that sleep: what a command pays that finds everybody idle.
void channel_round_trip(benchmark::State& state) {
  Channel<Message> there{16};
  Channel<Message> back{16};
  std::jthread const echo{[&] {
    std::vector<Message> out;
    while (!there.finished()) {
      out.clear();
      there.receive_batch(out, 16, kLong);
      for (Message const& message : out) benchmark::DoNotOptimize(back.try_send(Message{message}));
    }
  }};
  std::vector<Message> out;
  for (auto _ : state) {
    out.clear();
    benchmark::DoNotOptimize(there.try_send(Message{}));
    while (out.empty()) back.receive_batch(out, 16, kLong);
  }
  there.close();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(channel_round_trip)->UseRealTime();

}  // namespace
}  // namespace workmill
