// JSON at the front door: requests into commands, replies into text. Numbers to beat: one ordinary job in below 1 µs,
// one answer to it in below 0.3 µs, ten thousand jobs at no more each than one.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "base/json_writer.h"
#include "model/job.h"
#include "protocols/http/json/json_in.h"
#include "protocols/http/json/json_out.h"
#include "service/service.h"

namespace workmill {
namespace {

// Knows ids, and takes no commands.
class Ids final : public service::Service {
 public:
  void set_sink(service::AnswerSink*) override {}
  Result<> submit(service::Cookie, Command, Instant, Allowed = {}) override {
    return fail(ErrorCode::internal, "nobody is here");
  }
  void abandon(service::Cookie) override {}
  JobIdCodec const& ids() const override { return ids_; }
  Instant now() const override { return {}; }
  service::Hindrances hindrances() const override { return {}; }
  Duration uptime() const override { return {}; }

 private:
  JobIdCodec ids_{42};
};

constexpr std::string_view kJob =
    R"({"type":"thumbnail","queue":"images","payload":{"path":"/photos/2026/11/22/0001.jpg","width":320,"height":200}})";
static_assert(kJob.size() < 150);

constexpr JobNumber kNumber{1'700'000'000'000ULL << kCounterBits};

void parse_one_job(benchmark::State& state) {
  Ids const ids;
  http::JsonIn json{ids};
  std::string const body{kJob};
  for (auto _ : state) {
    auto request = json.parse_enqueue(body);
    benchmark::DoNotOptimize(request);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(parse_one_job);

void parse_ten_thousand_jobs(benchmark::State& state) {
  Ids const ids;
  http::JsonIn json{ids};
  std::string body = R"({"jobs":[)";
  for (int i = 0; i < 10'000; ++i) body.append(i == 0 ? "" : ",").append(kJob);
  body += "]}";
  for (auto _ : state) {
    auto request = json.parse_enqueue(body);
    benchmark::DoNotOptimize(request);
  }
  state.SetItemsProcessed(state.iterations() * 10'000);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(body.size()));
}
BENCHMARK(parse_ten_thousand_jobs)->Unit(benchmark::kMillisecond);

void parse_lease_with_report(benchmark::State& state) {
  Ids const ids;
  http::JsonIn json{ids};
  std::string id;
  ids.append_id(kNumber, {}, id);
  std::string const body = R"({"queues":["images"],"max":1,"wait":"20s","worker":"host-1","reports":[{"id":")" + id +
                           R"(","lease":"0011223344556677","outcome":"completed","result":{"bytes":12345}}]})";
  for (auto _ : state) {
    auto lease = json.parse_lease(body);
    benchmark::DoNotOptimize(lease);
  }
}
BENCHMARK(parse_lease_with_report);

void write_enqueue_reply(benchmark::State& state) {
  Ids const ids;
  EnqueueReply const reply{.jobs = {{.number = kNumber, .state = JobState::ready}}};
  std::string out;
  for (auto _ : state) {
    out.clear();
    http::append_enqueue_reply(reply, false, ids, out);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(write_enqueue_reply);

void write_leased_job(benchmark::State& state) {
  Ids const ids;
  LeaseReply reply;
  LeasedJob& job = reply.jobs.emplace_back();
  job = {.number = kNumber, .token = LeaseToken{7}, .attempt = 1, .max_attempts = 20};
  job.lease_expires_at = created_at(kNumber);
  encode_spec({.type = "thumbnail",
               .queue = "images",
               .payload_kind = PayloadKind::json,
               .payload = R"({"path":"/photos/2026/11/22/0001.jpg","width":320,"height":200})"},
              job.spec);
  std::string out;
  for (auto _ : state) {
    out.clear();
    http::append_lease_reply(reply, {}, false, ids, {}, http::AttemptContext::as_stored, out);
    benchmark::DoNotOptimize(out.data());
  }
}
BENCHMARK(write_leased_job);

void write_string(benchmark::State& state) {
  std::string const text(static_cast<std::size_t>(state.range(0)), 'x');
  std::string out;
  for (auto _ : state) {
    out.clear();
    append_json_string(text, out);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}
BENCHMARK(write_string)->Arg(16)->Arg(1024);

}  // namespace
}  // namespace workmill
