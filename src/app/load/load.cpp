#include "app/load/load.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <memory>
#include <utility>

#include "app/json.h"
#include "app/load/http_peer.h"
#include "base/assert.h"

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kProgressEvery = std::chrono::milliseconds{100};
constexpr nanoseconds kSilenceMax = std::chrono::seconds{60};  // So long without an answer, and the load has failed.
constexpr std::size_t kTimeDigits = 19;                        // As many as a count of nanoseconds has at most.
constexpr std::string_view kTimeName = R"("at":")";
constexpr std::size_t kJobsPerFill = 1'000;  // In one request, where jobs are only put there to be worked off.
// A worker's wait. Short, because the reports that ride on its last call are not answered before it is over.
constexpr std::string_view kWorkerWait = "1s";

std::string_view host_of(std::string_view url) { return url.substr(url.find("://") + 3); }

std::uint16_t port_of(std::string_view url) {
  auto const host = host_of(url);
  std::uint16_t port = 80;
  if (auto const colon = host.rfind(':'); colon != std::string_view::npos) {
    std::from_chars(host.data() + colon + 1, host.data() + host.size(), port);
  }
  return port;
}

bool is_local(std::string_view url) {
  auto const host = host_of(url);
  return host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]");
}

// The text behind `name` up to the next quote, from `at` on; moves `at` behind it. Empty where there is none.
std::string_view text_behind(std::string_view body, std::string_view name, std::size_t& at) {
  auto const found = body.find(name, at);
  if (found == std::string_view::npos) return {};
  auto const begin = found + name.size();
  auto const end = body.find('"', begin);
  if (end == std::string_view::npos) return {};
  at = end;
  return body.substr(begin, end - begin);
}

// What all loads have in common: the connections, the clock, the CPU time, the bookkeeping of the result.
class Run {
 public:
  Run(Load load, LoadOptions const& options, std::unique_ptr<PeerLoop> loop, OnLoadProgress const& on_progress)
      : options_(options),
        loop_(std::move(loop)),
        on_progress_(on_progress),
        job_(host_of(options.server.url), options.server.token, options.queue, options.payload_bytes) {
    result_.load = load;
    result_.connections = options.connections;
    if (is_local(options.server.url)) process_ = find_listener(port_of(options.server.url));
  }

  Result<LoadResult> enqueue() {
    sent_ = std::min<std::uint64_t>(options_.jobs, loop_->size());
    loop_->set_on_answer([this](HttpPeer& peer, PeerAnswer const& answer) {
      if (was_refused(peer, answer) || !expect(201, answer)) return;
      add_latency(peer.sent_at());
      if (sent_ < options_.jobs) {
        ++sent_;
        peer.send(job_.request(loop_->now()));
      }
      if (++done_ == options_.jobs) finish();
    });
    begin();
    for (std::size_t i = 0; i < sent_; ++i) loop_->peer(i).send(job_.request(loop_->now()));
    return to_end();
  }

  Result<LoadResult> drain() {
    WM_TRY_VOID(fill());
    loop_->set_on_answer([this](HttpPeer& peer, PeerAnswer const& answer) {
      if (was_refused(peer, answer) || !expect(200, answer) || !count_reports(answer.body)) return;
      add_latency(peer.sent_at());
      find_jobs(answer.body, taken_);
      if (!taken_.empty()) {
        send_lease(peer, "0s");
      } else if (--working_ == 0) {  // With nothing taken there is nothing left to report either.
        finish();
      }
    });
    working_ = loop_->size();
    begin();
    for (std::size_t i = 0; i < loop_->size(); ++i) send_lease(loop_->peer(i), "0s");
    return to_end();
  }

  Result<LoadResult> end_to_end() {
    std::size_t const producers = loop_->size() / 2;
    sent_ = std::min<std::uint64_t>(options_.jobs, producers);
    loop_->set_on_answer([this, producers](HttpPeer& peer, PeerAnswer const& answer) {
      if (peer.index() < producers) {
        if (was_refused(peer, answer) || !expect(201, answer) || sent_ == options_.jobs) return;
        ++sent_;
        peer.send(job_.request(loop_->now()));
      } else {
        on_worker(peer, answer);
      }
    });
    begin();
    for (std::size_t i = producers; i < loop_->size(); ++i) send_lease(loop_->peer(i), kWorkerWait);
    for (std::size_t i = 0; i < sent_; ++i) loop_->peer(i).send(job_.request(loop_->now()));
    return to_end();
  }

  Result<LoadResult> latency() {
    auto& producer = loop_->peer(0);
    loop_->set_on_answer([this](HttpPeer& peer, PeerAnswer const& answer) {
      if (peer.index() == 0) {
        if (!was_refused(peer, answer)) expect(201, answer);
      } else {
        on_worker(peer, answer);
      }
    });
    begin();
    send_lease(loop_->peer(1), kWorkerWait);
    for (auto next = loop_->now(); sent_ < options_.jobs; ++sent_) {
      // A server that is idle has answered both and has the worker waiting: in a gap of a millisecond it has.
      next = std::max(next, loop_->now()) + options_.gap;
      while (!failed_ && (loop_->now() < next || producer.is_waiting() || !loop_->peer(1).is_waiting())) {
        WM_TRY_VOID(turn(std::max(next, loop_->now() + std::chrono::microseconds{50})));
      }
      if (failed_) break;
      producer.send(job_.request(loop_->now()));
    }
    return to_end();
  }

 private:
  void begin() {
    cpu_before_ = process_ ? cpu_time_of(*process_) : std::nullopt;
    began_at_ = loop_->now();
    answered_at_ = began_at_;
  }

  // What is timed is over.
  void mark_end() {
    result_.elapsed = loop_->now() - began_at_;
    auto const cpu_after = process_ ? cpu_time_of(*process_) : std::nullopt;
    if (!cpu_before_ || !cpu_after || options_.jobs == 0) return;
    std::chrono::duration<double, std::micro> const used = *cpu_after - *cpu_before_;
    result_.server_cpu_us = used.count() / static_cast<double>(options_.jobs);
  }

  void finish() {
    if (result_.elapsed == nanoseconds{0}) mark_end();
    is_finished_ = true;
    loop_->stop();
  }

  Result<> turn(nanoseconds deadline) {
    WM_TRY(bool const stopped, loop_->run_until(deadline));
    static_cast<void>(stopped);
    if (failed_) return std::unexpected(*failed_);
    return {};
  }

  Result<LoadResult> to_end() {
    while (!is_finished_) {
      WM_TRY_VOID(turn(loop_->now() + kProgressEvery));
      on_progress_(done_, options_.jobs);
      if (loop_->now() - answered_at_ > kSilenceMax) {
        return fail(ErrorCode::outcome_unknown, "the server does not answer any more");
      }
    }
    result_.jobs = done_;
    return result_;
  }

  // A server with more to do than it can says so: then it is asked again, and the time of the call goes on. It holds
  // such answers back itself where there are many.
  bool was_refused(HttpPeer& peer, PeerAnswer const& answer) {
    if (answer.status != 429 && answer.status != 503) return false;
    answered_at_ = loop_->now();
    peer.send_again();
    return true;
  }

  bool expect(int status, PeerAnswer const& answer) {
    answered_at_ = loop_->now();
    if (answer.status == status) return true;
    auto const problem = read_reply({.status = answer.status, .body = std::string{answer.body}});
    failed_ = problem
                  ? Error{.code = ErrorCode::protocol_error, .message = fmt::format("an answer of {}", answer.status)}
                  : problem.error();
    loop_->stop();
    return false;
  }

  void add_latency(nanoseconds since) {
    result_.latency.add(static_cast<std::uint64_t>(std::max<nanoseconds::rep>((loop_->now() - since).count(), 0)));
  }

  // Counts the accepted reports; false where one was not.
  bool count_reports(std::string_view body) {
    constexpr std::string_view kOk = R"("ok":true)";
    auto const reports = body.find(R"("reports":[)");
    if (reports == std::string_view::npos) return true;
    body.remove_prefix(reports);
    for (auto at = body.find(kOk); at != std::string_view::npos; at = body.find(kOk, at + kOk.size())) ++done_;
    if (!body.contains(R"("ok":false)")) return true;
    failed_ = Error{.code = ErrorCode::lease_lost, .message = "a report was not accepted"};
    loop_->stop();
    return false;
  }

  // end_to_end and latency: takes what came, reports it with the next call, and ends when all is reported.
  void on_worker(HttpPeer& peer, PeerAnswer const& answer) {
    if (was_refused(peer, answer) || !expect(200, answer) || !count_reports(answer.body)) return;
    find_jobs(answer.body, taken_);
    for (auto const& job : taken_) add_latency(job.sent_at);
    leased_ += taken_.size();
    if (leased_ == options_.jobs && !taken_.empty()) mark_end();
    if (done_ == options_.jobs) {
      finish();
    } else if (leased_ < options_.jobs) {
      send_lease(peer, kWorkerWait);
    } else if (!taken_.empty()) {
      send_reports(peer);
    }
  }

  void append_reports(std::string& body) const {
    body.append(R"("reports":[)");
    for (std::size_t i = 0; i < taken_.size(); ++i) {
      fmt::format_to(std::back_inserter(body), R"({}{{"id":"{}","lease":"{}","outcome":"completed","result":"ok"}})",
                     i > 0 ? "," : "", taken_[i].id, taken_[i].lease);
    }
    body.push_back(']');
  }

  void send_lease(HttpPeer& peer, std::string_view wait) {
    body_.clear();
    fmt::format_to(std::back_inserter(body_), R"({{"queues":["{}"],"max":{},"wait":"{}","worker":"bench")",
                   options_.queue, options_.batch, wait);
    if (!taken_.empty()) {
      body_.push_back(',');
      append_reports(body_);
    }
    body_.push_back('}');
    peer.send(post_request(host_of(options_.server.url), options_.server.token, "/v1/leases", body_));
  }

  void send_reports(HttpPeer& peer) {
    body_.assign("{");
    append_reports(body_);
    body_.push_back('}');
    peer.send(post_request(host_of(options_.server.url), options_.server.token, "/v1/reports", body_));
  }

  Result<> fill() {
    HttpClient client{options_.server};
    auto const job =
        fmt::format(R"({{"type":"bench","queue":"{}","payload":{{"at":"{}","pad":"{}"}}}})", options_.queue,
                    std::string(kTimeDigits, '0'), std::string(job_.payload_bytes() / 2, 'x'));
    for (std::uint64_t filled = 0; filled < options_.jobs;) {
      auto const count = std::min<std::uint64_t>(kJobsPerFill, options_.jobs - filled);
      std::string body = R"({"jobs":[)";
      for (std::uint64_t i = 0; i < count; ++i) body.append(i > 0 ? "," : "").append(job);
      body.append("]}");
      WM_TRY(auto const answer, client.call({.method = "POST", .path = "/v1/jobs", .body = std::move(body)}));
      filled += count;
    }
    return {};
  }

  LoadOptions const& options_;
  std::unique_ptr<PeerLoop> loop_;
  OnLoadProgress const& on_progress_;
  JobTemplate job_;
  LoadResult result_;
  std::optional<int> process_;
  std::optional<nanoseconds> cpu_before_;
  nanoseconds began_at_{};
  nanoseconds answered_at_{};
  std::uint64_t sent_ = 0;
  std::uint64_t leased_ = 0;
  std::uint64_t done_ = 0;
  std::size_t working_ = 0;
  bool is_finished_ = false;
  std::optional<Error> failed_;
  std::vector<TakenJob> taken_;  // Of the answer that is being looked at.
  std::string body_;
};

std::size_t connections_of(Load load, LoadOptions const& options) {
  if (load == Load::latency) return 2;
  return load == Load::end_to_end ? std::max<std::size_t>(options.connections / 2, 1) * 2 : options.connections;
}

}  // namespace

std::string_view to_string(Load load) {
  switch (load) {
    case Load::enqueue: return "enqueue";
    case Load::drain: return "drain";
    case Load::end_to_end: return "end-to-end";
    case Load::latency: return "latency";
  }
  return "";
}

double LoadResult::per_second() const {
  auto const seconds = std::chrono::duration<double>(elapsed).count();
  return seconds > 0 ? static_cast<double>(jobs) / seconds : 0;
}

Result<LoadResult> run_load(Load load, LoadOptions const& options, Clock const& clock,
                            OnLoadProgress const& on_progress) {
  WM_ASSERT(options.jobs > 0 && options.connections > 0 && options.batch > 0);
  auto adjusted = options;
  adjusted.connections = connections_of(load, options);
  if (load != Load::drain) adjusted.batch = 1;
  WM_TRY(auto loop, PeerLoop::connect(options.server.url, adjusted.connections, clock));
  Run run{load, adjusted, std::move(loop), on_progress};
  switch (load) {
    case Load::enqueue: return run.enqueue();
    case Load::drain: return run.drain();
    case Load::end_to_end: return run.end_to_end();
    case Load::latency: return run.latency();
  }
  return fail(ErrorCode::internal, "no such load");
}

void find_jobs(std::string_view body, std::vector<TakenJob>& jobs) {
  jobs.clear();
  // The answers to reports come behind the jobs, and have ids too.
  body = body.substr(0, body.find(R"(],"reports":[)"));
  for (std::size_t at = 0;;) {
    TakenJob job;
    job.id = text_behind(body, R"("id":")", at);
    if (job.id.empty()) return;
    auto const time = text_behind(body, kTimeName, at);
    std::int64_t sent_at = 0;
    std::from_chars(time.data(), time.data() + time.size(), sent_at);
    job.sent_at = nanoseconds{sent_at};
    job.lease = text_behind(body, R"("lease":")", at);
    if (job.lease.empty()) return;
    jobs.push_back(job);
  }
}

JobTemplate::JobTemplate(std::string_view host, std::string_view token, std::string_view queue,
                         std::size_t payload_bytes) {
  std::string payload = fmt::format(R"({{{}{}","pad":""}})", kTimeName, std::string(kTimeDigits, '0'));
  if (payload.size() < payload_bytes) payload.insert(payload.size() - 2, payload_bytes - payload.size(), 'x');
  payload_bytes_ = payload.size();
  request_ = post_request(host, token, "/v1/jobs",
                          fmt::format(R"({{"type":"bench","queue":"{}","payload":{}}})", queue, payload));
  time_at_ = request_.find(kTimeName) + kTimeName.size();
}

std::string_view JobTemplate::request(nanoseconds sent_at) {
  std::array<char, kTimeDigits + 1> digits;
  fmt::format_to_n(digits.data(), kTimeDigits, "{:019}", sent_at.count());
  request_.replace(time_at_, kTimeDigits, digits.data(), kTimeDigits);
  return request_;
}

std::optional<nanoseconds> cpu_time_of(int process) {
  std::ifstream file{fmt::format("/proc/{}/stat", process)};
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name stands in brackets and may hold anything; the 12th and 13th fields behind it are what we want.
  auto rest = std::string_view{line}.substr(std::min(line.rfind(')') + 1, line.size()));
  std::array<std::int64_t, 2> ticks{};
  for (int field = 1; field <= 13; ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    auto const text = rest.substr(0, rest.find(' '));
    if (field >= 12) {
      std::from_chars(text.data(), text.data() + text.size(), ticks[static_cast<std::size_t>(field - 12)]);
    }
    rest.remove_prefix(text.size());
  }
  return nanoseconds{(ticks[0] + ticks[1]) * (1'000'000'000 / sysconf(_SC_CLK_TCK))};
}

namespace {

// The inodes of the sockets that listen on a port (proc(5): /proc/net/tcp).
std::vector<std::string> listening_inodes(std::uint16_t port) {
  std::vector<std::string> inodes;
  auto const local_end = fmt::format(":{:04X}", port);
  for (auto const* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file{path};
    for (std::string line; std::getline(file, line);) {
      std::array<std::string_view, 10> fields;
      std::string_view rest{line};
      for (auto& field : fields) {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        field = rest.substr(0, rest.find(' '));
        rest.remove_prefix(field.size());
      }
      if (fields[1].ends_with(local_end) && fields[3] == "0A") inodes.emplace_back(fields[9]);
    }
  }
  return inodes;
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

bool has_socket(int process, std::vector<std::string> const& inodes) {
  auto const path = fmt::format("/proc/{}/fd", process);
  Folder const folder{opendir(path.c_str())};
  if (folder == nullptr) return false;  // Somebody else's.
  while (auto const* entry = readdir(folder.get())) {
    std::array<char, 64> target{};
    auto const link = fmt::format("{}/{}", path, &entry->d_name[0]);
    auto const length = readlink(link.c_str(), target.data(), target.size());
    if (length <= 0) continue;
    std::string_view const name{target.data(), static_cast<std::size_t>(length)};
    for (auto const& inode : inodes) {
      if (name == fmt::format("socket:[{}]", inode)) return true;
    }
  }
  return false;
}

}  // namespace

std::optional<int> find_listener(std::uint16_t port) {
  auto const inodes = listening_inodes(port);
  if (inodes.empty()) return std::nullopt;
  Folder const folder{opendir("/proc")};
  if (folder == nullptr) return std::nullopt;
  while (auto const* entry = readdir(folder.get())) {
    std::string_view const name{&entry->d_name[0]};
    int process = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), process).ec != std::errc{}) continue;
    if (has_socket(process, inodes)) return process;
  }
  return std::nullopt;
}

}  // namespace workmill::app
