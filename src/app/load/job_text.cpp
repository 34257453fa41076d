#include "app/load/job_text.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "app/load/http_peer.h"
#include "base/assert.h"

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

constexpr std::size_t kTimeDigits = 19;  // As many as a count of nanoseconds has at most.
constexpr std::string_view kTimeName = R"("at":")";

// Where `text` begins, from `at` on; npos where it does not. The C library's is much faster than that of string_view.
std::size_t find(std::string_view in, std::string_view text, std::size_t at) {
  if (at >= in.size()) return std::string_view::npos;
  void const* const found = memmem(in.data() + at, in.size() - at, text.data(), text.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<char const*>(found) - in.data());
}

// The text behind `name` up to the next quote, from `at` on; moves `at` behind it. Empty where there is none.
std::string_view text_behind(std::string_view body, std::string_view name, std::size_t& at) {
  auto const found = find(body, name, at);
  if (found == std::string_view::npos) return {};
  auto const begin = found + name.size();
  auto const end = body.find('"', begin);
  if (end == std::string_view::npos) return {};
  at = end;
  return body.substr(begin, end - begin);
}

}  // namespace

JobTemplate::JobTemplate(std::string_view host, std::string_view token, std::string_view queue,
                         std::size_t payload_bytes, std::size_t batch, std::string_view more) {
  std::string payload{R"({"at":")"};
  payload.append(kTimeDigits, '0').append(R"(","pad":")");
  std::size_t const used = payload.size() + 2;
  payload.append(payload_bytes > used ? payload_bytes - used : 0, 'x').append(R"("})");
  payload_bytes_ = payload.size();
  std::string body = batch == 1 ? "" : R"({"jobs":[)";
  for (std::size_t i = 0; i < batch; ++i) {
    if (i > 0) body.push_back(',');
    body.append(R"({"type":"bench","queue":")").append(queue).append("\"").append(more);
    body.append(R"(,"payload":)").append(payload).push_back('}');
  }
  if (batch != 1) body.append("]}");
  request_ = post_request(host, token, "/v1/jobs", body);
  for (auto at = find(request_, kTimeName, 0); at != std::string_view::npos; at = find(request_, kTimeName, at)) {
    at += kTimeName.size();
    times_at_.push_back(at);
  }
  WM_ASSERT(times_at_.size() == batch);
}

std::string_view JobTemplate::request(nanoseconds sent_at) {
  std::array<char, kTimeDigits> digits;
  digits.fill('0');
  auto count = static_cast<std::uint64_t>(std::max<nanoseconds::rep>(sent_at.count(), 0));
  for (auto digit = digits.rbegin(); digit != digits.rend() && count > 0; ++digit, count /= 10) {
    *digit = static_cast<char>('0' + count % 10);
  }
  for (std::size_t const at : times_at_) std::ranges::copy(digits, request_.begin() + static_cast<std::ptrdiff_t>(at));
  return request_;
}

void find_jobs(std::string_view body, std::vector<TakenJob>& jobs) {
  jobs.clear();
  // What stands behind the jobs are results of reports, which have ids, too, and no leases.
  auto const end = find(body, R"(],"reports":[)", 0);
  if (end != std::string_view::npos) body = body.substr(0, end);
  for (std::size_t at = 0;;) {
    TakenJob job;
    job.id = text_behind(body, R"({"id":")", at);
    if (job.id.empty()) return;
    std::string_view const sent = text_behind(body, kTimeName, at);
    nanoseconds::rep count = 0;
    std::from_chars(sent.data(), sent.data() + sent.size(), count);
    job.sent_at = nanoseconds{count};
    constexpr std::string_view kFirstAttempt = R"("attempt":1,)";
    auto const attempt_at = at;
    job.lease = text_behind(body, R"("lease":")", at);
    if (job.lease.empty()) return;
    job.is_first_attempt = body.substr(attempt_at, at - attempt_at).contains(kFirstAttempt);
    jobs.push_back(job);
  }
}

ReportResults count_reports(std::string_view body) {
  constexpr std::string_view kOk = R"("ok":true)";
  ReportResults results;
  auto const begin = find(body, R"("reports":[)", 0);
  if (begin == std::string_view::npos) return results;
  for (auto at = find(body, kOk, begin); at != std::string_view::npos; at = find(body, kOk, at + kOk.size())) {
    ++results.accepted;
  }
  results.is_any_refused = find(body, R"("ok":false)", begin) != std::string_view::npos;
  return results;
}

}  // namespace workmill::app
