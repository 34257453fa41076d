#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workmill/enqueued.h"
#include "workmill/error.h"
#include "workmill/json.h"

// Jobs as they are sent and as they are read, leases and reports. Values; what a field may hold is in
// docs/reference/requests.md, and the server checks it.
namespace workmill::client {

struct Backoff {
  Duration first{15'000};
  double factor = 2.0;  // 1 to 100.
  std::optional<Duration> cap{};
  double jitter = 0.2;  // 0 to 1.
};
struct Unique {
  std::string key{};                 // 1 to 256 bytes.
  std::string until = "unfinished";  // `while` in the API: scheduled, queued, unfinished.
  std::optional<Duration> within{};  // `for` in the API: the key is free after so long.
};

// What can be said of a job besides its type and payload. What is left out is as the server has it by default.
struct JobOptions {
  std::string queue{};            // Empty: "default".
  std::string id{};               // Empty: the server makes one.
  std::optional<int> priority{};  // 0 to 9, 9 first; 5 by default.
  std::optional<Duration> delay{};
  std::optional<Time> run_at{};
  std::optional<Duration> expires_in{};
  std::optional<unsigned> max_attempts{};
  std::optional<Backoff> backoff{};
  std::optional<Duration> lease{};
  std::optional<Unique> unique{};
  std::string group{};
  std::vector<std::string> tags{};
  std::string batch{};  // The id of one that is not closed (batches.h); empty: none.
  std::optional<Duration> keep_result{};
  Json meta{};          // An object, or null for none.
  Json::Object more{};  // Further members, sent as they are: what a newer server knows and this client does not.
};
// Nothing said; see default_call().
inline JobOptions const& default_job() {
  static JobOptions const options;
  return options;
}

// A job that is to be sent.
struct NewJob {
  std::string type{};
  std::string payload{};  // JSON text, or bytes where `payload_is_bytes`; empty JSON text: none.
  bool payload_is_bytes = false;
  JobOptions options{};
};

template <class T>
NewJob make_job(std::string type, T const& payload, JobOptions options = {}) {
  NewJob job{.type = std::move(type), .options = std::move(options)};
  if constexpr (std::same_as<T, Bytes>) {
    job.payload = payload.data;
    job.payload_is_bytes = true;
  } else if constexpr (!std::same_as<T, NoPayload>) {
    Codec<T>::write(payload, job.payload);
  }
  return job;
}

struct JobFailure {
  ErrorClass error_class = ErrorClass::retryable;
  std::string code{};
  std::string message{};
  std::string detail{};  // JSON, or empty.
  unsigned attempt = 0;
};
struct JobProgress {
  int percent = 0;
  std::string message{};
};

// A job as the server tells it.
struct Job {
  std::string id{};
  std::string type{};
  std::string queue{};
  JobState state{};
  unsigned attempt = 0;  // 1 for the first run; 0 before it.
  unsigned max_attempts = 0;
  std::string worker{};
  std::string batch{};  // That it was put into, or empty.
  std::optional<Time> created_at{};
  std::optional<Time> finished_at{};
  std::optional<JobProgress> progress{};
  std::optional<JobFailure> error{};  // The last.
  Json json{};                        // All of it, as the server wrote it.

  bool is_finished() const { return client::is_finished(state); }
  // The payload or the result. `bad_json` where there is none or it has another form. T may be Bytes.
  template <class T>
  Result<T> payload_as() const {
    return member_as<T>("payload");
  }
  template <class T>
  Result<T> result_as() const {
    return member_as<T>("result");
  }

 private:
  template <class T>
  Result<T> member_as(std::string const& name) const {
    if constexpr (std::same_as<T, Bytes>) {
      auto decoded = decode_base64(json.text(name + "_base64"));
      if (!decoded) return std::unexpected(std::move(decoded).error());
      return Bytes{*std::move(decoded)};
    } else {
      T value{};
      Json const* const found = json.find(name);
      auto read = Codec<T>::read(found != nullptr ? *found : Json{}, value);
      if (!read) return std::unexpected(detail::in_field(std::move(read).error(), name));
      return value;
    }
  }
};

struct JobQuery {
  std::optional<JobState> state{};
  // Empty: any. `text`: in type, id, payload or error.
  std::string queue{}, type{}, tag{}, group{}, batch{}, text{};
  unsigned limit = 50;  // 1 to 1,000.
  std::string cursor{};
};
struct JobPage {
  std::vector<Job> jobs{};
  std::string next{};  // Empty: that was the last.
};

// Which jobs: those to which all holds that is said here. Where nothing is said, that is every job of the server.
struct JobFilter {
  std::optional<JobState> state{};
  std::string queue{}, type{}, tag{}, group{}, batch{};  // Empty: any.
};
// What is to be another of a job. What is left out stays as it is.
struct JobChanges {
  std::optional<int> priority{};  // 0 to 9.
  std::optional<Time> run_at{};
  std::string queue{};                             // Empty: as it is.
  std::optional<std::vector<std::string>> tags{};  // All that it then has.
  std::optional<unsigned> max_attempts{};
  Json::Object more{};  // As in JobOptions.
};

struct QueueChoice {
  QueueChoice(std::string queue, unsigned share = 0) : name(std::move(queue)), weight(share) {}
  QueueChoice(char const* queue) : name(queue) {}
  std::string name;
  unsigned weight = 0;  // 0: preference by its place. Else its share among the weighted.
};

// What a queue at its max_depth does with a further job.
enum class WhenFull : std::uint8_t {
  refuse,       // queue_full, class retryable.
  drop_oldest,  // The oldest ready job of the lowest priority is cancelled, and makes room.
};
std::string_view to_string(WhenFull value);

inline constexpr std::uint64_t kUnbounded = ~std::uint64_t{0};
struct QueueStats {
  std::string name{};
  bool paused = false;
  std::array<std::uint64_t, 6> depth{};  // By JobState.
  std::uint64_t max_depth = kUnbounded;  // Of scheduled, ready and leased jobs together.
  WhenFull when_full = WhenFull::refuse;
  Json json{};  // All of it.
  std::uint64_t in(JobState state) const { return depth[static_cast<std::size_t>(state)]; }
};
// What is to be another of a queue. What is left out stays as it is.
struct QueueChanges {
  std::optional<bool> paused{};
  std::optional<std::uint64_t> max_depth{};  // kUnbounded lifts the bound.
  std::optional<WhenFull> when_full{};
  Json::Object more{};  // As in JobOptions.
};
struct QueueQuery {
  unsigned limit = 50;  // 1 to 1,000.
  std::string cursor{};
};
// None said; see default_call().
inline QueueQuery const& default_queues() {
  static QueueQuery const query;
  return query;
}
struct QueuePage {
  std::vector<QueueStats> queues{};
  std::string next{};  // Empty: that was the last.
};

// ---- For those who lease and report by hand; a Worker does both for you.

struct LeaseRequest {
  std::vector<QueueChoice> queues{"default"};
  unsigned max = 1;  // 1 to 1,000.
  Duration wait{};   // 5 min at most; 0: answer at once.
  std::optional<Duration> lease{};
  std::string worker{};
};
struct LeasedJob {
  std::string id{};
  std::string lease{};  // The token that a report shows.
  std::string type{};
  std::string queue{};
  std::string payload{};  // JSON text, or bytes where `payload_is_bytes`; empty: none.
  bool payload_is_bytes = false;
  unsigned attempt = 0;
  unsigned max_attempts = 0;
  std::string checkpoint{};  // JSON text that an earlier attempt left, or empty.
  std::string meta{};        // JSON text, or empty.
  std::string batch{};       // That it was put into, or empty.
  std::string traceparent{};
  std::string tracestate{};
};

struct ReportOn {
  std::string id{};
  std::string lease{};
};
// One report, ready to be sent.
class Report {
 public:
  static Report completed(ReportOn const& job, std::string_view result_json = {});
  static Report completed_with_bytes(ReportOn const& job, std::string_view bytes);
  static Report failed(ReportOn const& job, Error const& error);
  static Report extend(ReportOn const& job, Duration by);
  static Report progress(ReportOn const& job, int percent, std::string_view message = {});
  static Report log(ReportOn const& job, std::vector<std::string> const& lines);
  static Report checkpoint(ReportOn const& job, std::string_view data_json);
  static Report released(ReportOn const& job);
  std::string const& json() const { return json_; }

 private:
  explicit Report(std::string json) : json_(std::move(json)) {}
  std::string json_;
};
struct ReportResult {
  bool ok = false;
  bool cancel_requested = false;  // Somebody wants this job to stop.
  Error error{};                  // Where it is not ok.
};

}  // namespace workmill::client
