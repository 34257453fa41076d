#include "telemetry/otlp_exporter.h"

#include <curl/curl.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/gzip.h"

namespace workmill::telemetry {
namespace {

// The protocol wants at least so much of an answer to be read; of what is longer we want nothing.
constexpr std::size_t kReplyBytesMax = std::size_t{4} << 20;
constexpr std::size_t kLoggedBytesMax = 256;  // Of what a receiver says.
constexpr Duration kConnectTimeoutMax = std::chrono::seconds{5};

struct CurlFree {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + size * count > kReplyBytesMax) return 0;  // Ends the transfer.
  body.append(data, size * count);
  return size * count;
}

bool is_loopback(std::string_view url) {
  auto const host = url.substr(std::min(url.find("://") + 3, url.size()));
  return host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
}

// {"partialSuccess": {"rejectedSpans": "3", "errorMessage": "…"}}, each part of which may be missing.
struct PartialSuccess {
  std::uint64_t rejected = 0;
  std::string message;
};

PartialSuccess read_partial_success(std::string const& body) {
  PartialSuccess partial;
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  if (parser.parse(body).get(document) != simdjson::SUCCESS) return partial;
  simdjson::dom::object part;
  if (document["partialSuccess"].get(part) != simdjson::SUCCESS) return partial;
  std::string_view text;
  std::uint64_t number = 0;
  if (part["rejectedSpans"].get(text) == simdjson::SUCCESS) {
    std::from_chars(text.data(), text.data() + text.size(), partial.rejected);
  } else if (part["rejectedSpans"].get(number) == simdjson::SUCCESS) {
    partial.rejected = number;
  }
  if (part["errorMessage"].get(text) == simdjson::SUCCESS) partial.message = text.substr(0, kLoggedBytesMax);
  return partial;
}

}  // namespace

struct OtlpExporter::Answer {
  long status = 0;  // 0: none came.
  std::string body;
  std::string error;  // Where none came: why.
  std::optional<Duration> retry_after;
};

struct OtlpExporter::Transfer {
  std::unique_ptr<CURL, CurlFree> curl;
  std::unique_ptr<curl_slist, CurlFree> headers;
  std::array<char, CURL_ERROR_SIZE> error{};

  void add_header(std::string const& line) {
    auto* const list = curl_slist_append(headers.release(), line.c_str());
    WM_ASSERT(list != nullptr);
    headers.reset(list);
  }
};

OtlpExporter::OtlpExporter(OtlpOptions options, Tracer& tracer, Clock const& clock, Logger& logger, Rng chance)
    : options_(std::move(options)),
      tracer_(tracer),
      clock_(clock),
      logger_(logger),
      chance_(chance),
      transfer_(std::make_unique<Transfer>()) {
  WM_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);  // Counted: a second time costs nothing.
  transfer_->curl.reset(curl_easy_init());
  WM_ASSERT(transfer_->curl != nullptr);
  transfer_->add_header("Content-Type: application/json");
  if (options_.compression == OtlpCompression::gzip) transfer_->add_header("Content-Encoding: gzip");
  transfer_->add_header("Expect:");  // libcurl would ask first before it sends a large body.
  for (std::string const& line : options_.headers) transfer_->add_header(line);
  CURL* const curl = transfer_->curl.get();
  curl_easy_setopt(curl, CURLOPT_URL, options_.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "workmill/" WM_VERSION);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, transfer_->headers.get());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer_->error.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
  // libcurl calls this about once a second, and oftener while bytes move: the end is not held up by a slow receiver.
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
  curl_easy_setopt(
      curl, CURLOPT_XFERINFOFUNCTION, +[](void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) -> int {
        return static_cast<OtlpExporter const*>(user)->is_over() ? 1 : 0;
      });
  // A proxy from the environment is for the world outside.
  if (is_loopback(options_.url)) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  thread_ = std::thread{[this] { run(); }};
}

OtlpExporter::~OtlpExporter() { end(Ending::at_once); }

void OtlpExporter::stop() { end(Ending::flush); }

void OtlpExporter::end(Ending how) {
  if (!thread_.joinable()) return;
  Duration const patience = how == Ending::flush ? options_.flush_within : Duration{0};
  over_at_ns_.store((clock_.monotonic() + patience).count());
  {
    Lock const lock{mutex_};
    ending_.store(how);
  }
  ended_.notify_all();
  tracer_.spans().close();
  thread_.join();
}

bool OtlpExporter::is_over() const {
  return ending_.load() != Ending::no && clock_.monotonic().count() >= over_at_ns_.load();
}

Duration OtlpExporter::time_left(Duration at_most) const {
  if (ending_.load() == Ending::no) return at_most;
  auto const left = std::chrono::nanoseconds{over_at_ns_.load()} - clock_.monotonic();
  return std::clamp(std::chrono::floor<Duration>(left), Duration{0}, at_most);
}

bool OtlpExporter::wait(Duration time) {
  auto const until = clock_.monotonic() + time;
  Lock const lock{mutex_};
  while (ending_.load() == Ending::no) {
    auto const left = std::chrono::ceil<Duration>(until - clock_.monotonic());
    if (left <= Duration{0}) return true;
    ended_.wait_for(mutex_, left);
  }
  return false;
}

void OtlpExporter::run() {
  Channel<Span>& spans = tracer_.spans();
  std::vector<Span> batch;
  std::chrono::nanoseconds first_at{};
  while (!spans.finished() || !batch.empty()) {
    Duration patience = options_.batch_after;
    if (!batch.empty()) {
      patience -= std::chrono::floor<Duration>(clock_.monotonic() - first_at);
    }
    bool const is_due = batch.size() >= options_.batch_spans_max || patience <= Duration{0} ||
                        (ending_.load() != Ending::no && spans.size() == 0);
    if (!batch.empty() && is_due) {
      deliver(batch);
      batch.clear();
      continue;
    }
    bool const was_empty = batch.empty();
    spans.receive_batch(batch, options_.batch_spans_max - batch.size(), std::max(patience, Duration{1}));
    if (was_empty) first_at = clock_.monotonic();
  }
}

void OtlpExporter::deliver(std::vector<Span>& batch) {
  tracer_.adjust_clock();
  std::string body;
  append_otlp(options_.resource, batch, body);
  if (options_.compression == OtlpCompression::gzip) {
    std::string packed;
    if (!append_gzip(body, packed)) {
      return give_up({.status = 0, .body = {}, .error = "no memory to pack it", .retry_after = {}}, batch.size());
    }
    body = std::move(packed);
  }
  for (std::uint32_t failed = 1;; ++failed) {
    if (is_over())
      return give_up({.status = 0, .body = {}, .error = "the server ends", .retry_after = {}}, batch.size());
    Answer const answer = post(body);
    switch (judge_otlp_status(answer.status)) {
      case OtlpVerdict::accepted: return note_accepted(answer, batch.size());
      case OtlpVerdict::refused: return give_up(answer, batch.size());
      case OtlpVerdict::retry: break;
    }
    auto const pause = otlp_wait(options_.backoff, failed, answer.retry_after, chance_);
    // At the end there is no time to wait for better days.
    if (!pause || ending_.load() != Ending::no) return give_up(answer, batch.size());
    logger_.debug(
        "an export of spans failed and is tried again",
        {{"spans", batch.size()}, {"status", answer.status}, {"error", answer.error}, {"wait_ms", pause->count()}});
    wait(*pause);
    retries_.fetch_add(1, std::memory_order_relaxed);
  }
}

OtlpExporter::Answer OtlpExporter::post(std::string const& body) {
  requests_.fetch_add(1, std::memory_order_relaxed);
  Answer answer;
  CURL* const curl = transfer_->curl.get();
  transfer_->error.front() = '\0';
  Duration const timeout = std::max(time_left(options_.timeout), Duration{1});  // 0 would be none.
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(timeout, kConnectTimeoutMax).count()));
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data());
  CURLcode const code = curl_easy_perform(curl);
  if (code != CURLE_OK) {
    answer.error = transfer_->error.front() != '\0' ? transfer_->error.data() : curl_easy_strerror(code);
    return answer;
  }
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
  curl_off_t seconds = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds);  // Seconds or a date: libcurl reads both.
  if (seconds > 0) answer.retry_after = std::chrono::seconds{std::min<curl_off_t>(seconds, 86'400)};
  return answer;
}

void OtlpExporter::note_accepted(Answer const& answer, std::size_t spans) {
  PartialSuccess partial = read_partial_success(answer.body);
  partial.rejected = std::min<std::uint64_t>(partial.rejected, spans);
  exported_.fetch_add(spans - partial.rejected, std::memory_order_relaxed);
  failed_.fetch_add(partial.rejected, std::memory_order_relaxed);
  if (partial.rejected == 0 && partial.message.empty()) return;
  logger_.warn("the receiver of spans did not take all of a batch, or warns",
               {{"spans", spans}, {"rejected", partial.rejected}, {"message", partial.message}});
}

void OtlpExporter::give_up(Answer const& answer, std::size_t spans) {
  failed_.fetch_add(spans, std::memory_order_relaxed);
  logger_.warn("a batch of spans was dropped: the receiver did not take it",
               {{"spans", spans},
                {"status", answer.status},
                {"error", answer.error},
                {"reply", std::string_view{answer.body}.substr(0, kLoggedBytesMax)}});
}

OtlpFigures OtlpExporter::figures() const {
  return {.exported = exported_.load(std::memory_order_relaxed),
          .failed = failed_.load(std::memory_order_relaxed),
          .requests = requests_.load(std::memory_order_relaxed),
          .retries = retries_.load(std::memory_order_relaxed)};
}

void add_trace_metrics(Metrics& metrics, Tracer const& tracer, OtlpExporter const& exporter) {
  metrics.add_collector([&tracer, &exporter](MetricsWriter& writer) {
    TraceFigures const traced = tracer.figures();
    OtlpFigures const sent = exporter.figures();
    auto const number = [](auto value) { return static_cast<double>(value); };
    writer.counter("workmill_trace_spans_total", "Spans of sampled traces.", {}, number(traced.sampled));
    writer.counter("workmill_trace_spans_dropped_total", "Spans that found the queue of the export full.", {},
                   number(traced.dropped));
    writer.counter("workmill_trace_spans_exported_total", "Spans that the receiver has taken.", {},
                   number(sent.exported));
    writer.counter("workmill_trace_spans_failed_total", "Spans that the receiver refused or could not be sent.", {},
                   number(sent.failed));
    writer.counter("workmill_trace_export_requests_total", "Requests to the receiver of spans.", {},
                   number(sent.requests));
    writer.counter("workmill_trace_export_retries_total", "Of these, further attempts.", {}, number(sent.retries));
    writer.gauge("workmill_trace_queue_spans", "Spans that wait for their export.", {}, number(traced.queued));
    writer.gauge("workmill_trace_queue_spans_limit", "Above which spans are dropped.", {},
                 number(traced.queue_spans_max));
  });
}

}  // namespace workmill::telemetry
