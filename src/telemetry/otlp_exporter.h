#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/guarded.h"
#include "base/rng.h"
#include "base/time.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/otlp_encoder.h"
#include "telemetry/otlp_retry.h"
#include "telemetry/tracer.h"

// Sends the spans of a Tracer to an OpenTelemetry receiver: OTLP over HTTP, JSON, one batch after another.
//
// Owns one thread and one connection, which is kept. Nobody waits for either: while the receiver is down or slow, the
// tracer's channel fills, and spans are dropped and counted. A batch that is refused, or that fails too often, is
// dropped and counted too, and the log says so.
namespace workmill::telemetry {

enum class OtlpCompression : std::uint8_t { none, gzip };

struct OtlpOptions {
  std::string url;                   // Of the traces: "http://localhost:4318/v1/traces".
  std::vector<std::string> headers;  // "name: value", sent with each request. Secrets: never logged.
  OtlpCompression compression = OtlpCompression::none;
  OtlpResource resource;
  std::size_t batch_spans_max = 512;
  Duration batch_after = std::chrono::seconds{5};   // A batch that is not full goes after so long.
  Duration timeout = std::chrono::seconds{10};      // Of one request.
  Duration flush_within = std::chrono::seconds{5};  // At the end.
  OtlpBackoff backoff;
};

struct OtlpFigures {
  std::uint64_t exported = 0;  // Spans that the receiver has accepted.
  std::uint64_t failed = 0;    // Spans of batches that were given up or refused, or that the receiver rejected of one.
  std::uint64_t requests = 0;
  std::uint64_t retries = 0;  // Of these.
};

class OtlpExporter {
 public:
  // What is lent outlives the exporter. `clock` is asked for nothing but how long things take.
  OtlpExporter(OtlpOptions options, Tracer& tracer, Clock const& clock, Logger& logger, Rng chance);
  // Drops what is queued, unless stop() was called before.
  ~OtlpExporter();
  OtlpExporter(OtlpExporter const&) = delete;
  OtlpExporter& operator=(OtlpExporter const&) = delete;

  // Takes no more spans, and sends what is queued for as long as `flush_within`; what cannot be sent by then is counted
  // as failed. No new attempt is made at what fails meanwhile but once. Returns when the thread has ended.
  void stop();

  OtlpFigures figures() const;

 private:
  enum class Ending : std::uint8_t { no, flush, at_once };
  struct Transfer;  // libcurl, which only the .cpp knows.
  struct Answer;

  void run();
  void deliver(std::vector<Span>& batch);
  Answer post(std::string const& body);
  void note_accepted(Answer const& answer, std::size_t spans);
  void give_up(Answer const& answer, std::size_t spans);
  void end(Ending how);
  bool is_over() const;  // The end has come, and its time is up.
  Duration time_left(Duration at_most) const;
  // False where the end came meanwhile.
  bool wait(Duration time);

  OtlpOptions const options_;
  Tracer& tracer_;
  Clock const& clock_;
  Logger& logger_;
  Rng chance_;

  std::atomic<std::uint64_t> exported_{0}, failed_{0}, requests_{0}, retries_{0};
  std::atomic<Ending> ending_{Ending::no};
  std::atomic<std::int64_t> over_at_ns_{0};  // Of the monotonic clock, once the end has come.
  Mutex mutex_;                              // For the waiting alone: what is waited for is atomic.
  Condition ended_;
  std::unique_ptr<Transfer> transfer_;
  std::thread thread_;  // Last: it uses all the others.
};

// Adds what has become of the spans to what `metrics` renders. Both outlive it.
void add_trace_metrics(Metrics& metrics, Tracer const& tracer, OtlpExporter const& exporter);

}  // namespace workmill::telemetry
