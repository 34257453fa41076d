// Whole life of jobs with the C++ client: enqueued in bulk, worked on inline over a stream, reported, all durable.
//
//   wm_client_bench [JOBS [CREDIT [stream|http|embedded:FOLDER]]]     the server's address: WORKMILL_URL
//
// Prints jobs a second from the first enqueue to the last job that is completed, and the CPU time of this process.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "workmill/embedded.h"
#include "workmill/workmill.h"

namespace {

using namespace workmill::client;  // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

constexpr unsigned kJobsPerCall = 2'000;
constexpr std::size_t kCallsAtOnce = 8;
constexpr std::string_view kQueue = "life";
// About a hundred bytes, as in the other figures.
constexpr std::string_view kPayload =
    R"({"image":"cat.png","width":200,"height":150,"note":"0123456789012345678901234567890123456789"})";

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto const seconds = [](timeval const& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int complain(Error const& error) {
  std::fprintf(stderr, "%s\n", describe(error).c_str());
  return 1;
}

// So many calls are under way at a time, so that the server has something to do while this program makes the next.
Result<> enqueue(AsyncClient& client, unsigned jobs) {
  std::vector<NewJob> const batch(kJobsPerCall,
                                  make_job("life", RawJson{std::string{kPayload}}, {.queue = std::string{kQueue}}));
  std::deque<Async<std::vector<Enqueued>>> calls;
  for (unsigned sent = 0; sent < jobs || !calls.empty();) {
    if (sent < jobs && calls.size() < kCallsAtOnce) {
      calls.push_back(client.enqueue_all(batch));
      sent += kJobsPerCall;
      continue;
    }
    auto answer = std::move(calls.front()).get();
    calls.pop_front();
    if (!answer) return std::unexpected(answer.error());
  }
  return {};
}

int run(unsigned jobs, WorkerOptions const& options, std::optional<Workmill> const& mill) {
  jobs = (jobs + kJobsPerCall - 1) / kJobsPerCall * kJobsPerCall;
  AsyncClient client = mill ? mill->async_client() : AsyncClient{};
  Worker worker = mill ? mill->worker(options) : Worker{options};
  std::atomic<unsigned> ran{0};
  worker.on<NoPayload>("life", [&](NoPayload) { ran.fetch_add(1, std::memory_order_relaxed); },
                       {.run_on = RunOn::inline_thread});
  auto const before = client.queue(kQueue).get();
  std::uint64_t const completed_before = before ? before->in(JobState::completed) : 0;

  auto const began = std::chrono::steady_clock::now();
  double const cpu_began = cpu_seconds();
  worker.start();
  if (auto const sent = enqueue(client, jobs); !sent) return complain(sent.error());
  Seconds const enqueued = std::chrono::steady_clock::now() - began;
  while (ran.load() < jobs) std::this_thread::sleep_for(1ms);
  worker.stop();  // When it has ended, all reports were answered.
  if (auto const ended = worker.wait(); !ended) return complain(ended.error());
  Seconds const took = std::chrono::steady_clock::now() - began;
  double const cpu = cpu_seconds() - cpu_began;

  auto const after = client.queue(kQueue).get();
  if (!after) return complain(after.error());
  std::printf(
      "%u jobs in %.3f s: %.0f jobs/s, enqueued after %.3f s; this process: %.2f us CPU a job; completed in the queue: "
      "%llu more\n",
      jobs, took.count(), jobs / took.count(), enqueued.count(), cpu * 1e6 / jobs,
      static_cast<unsigned long long>(after->in(JobState::completed)-completed_before));
  return worker.figures().completed == jobs ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string const over = argc > 3 ? argv[3] : "stream";
  WorkerOptions options{.queues = {std::string{kQueue}}};
  options.credit = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 4'000;
  options.transport = over == "http" ? WorkTransport::http : WorkTransport::stream;
  std::optional<Workmill> mill;
  if (constexpr std::string_view kEmbedded = "embedded:"; over.starts_with(kEmbedded)) {
    auto opened = Workmill::open(over.substr(kEmbedded.size()));
    if (!opened) return complain(opened.error());
    mill = *std::move(opened);
  }
  return run(argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 200'000, options, mill);
}
