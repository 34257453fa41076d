#include "app/load/load.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/json.h"
#include "app/worker/file_descriptor.h"

namespace workmill::app {
namespace {

using std::chrono::nanoseconds;

std::string_view body_of(std::string_view request) { return request.substr(request.find("\r\n\r\n") + 4); }

TEST(Load, AJobCarriesTheTimeItWasSentAndHasTheSizeAskedFor) {
  JobTemplate job{"host", "", "bench-1", 100};

  auto const document = parse_json(body_of(job.request(nanoseconds{12345})));

  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().find("payload")->raw.size(), 100u);
  EXPECT_EQ(document->root().find("payload")->string_at("at"), "0000000000000012345");
}

TEST(Load, APayloadIsNeverSmallerThanItsTime) {
  JobTemplate job{"host", "", "bench-1", 1};

  EXPECT_TRUE(parse_json(body_of(job.request(nanoseconds{1}))));
  EXPECT_LT(job.payload_bytes(), 50u);
}

TEST(Load, JobsAreFoundInAnAnswerAndReportsAreNot) {
  std::vector<TakenJob> jobs;

  find_jobs(
      R"({"jobs":[{"id":"a","payload":{"at":"0000000000000000007","pad":"x"},"lease":"01","lease_expires_at":"t"},)"
      R"({"id":"b","payload":{"at":"0000000000000000008","pad":""},"lease":"02","lease_expires_at":"t"}],)"
      R"("reports":[{"id":"c","ok":true}]})",
      jobs);

  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id, "a");
  EXPECT_EQ(jobs[0].sent_at, nanoseconds{7});
  EXPECT_EQ(jobs[1].lease, "02");
}

TEST(Load, AnEmptyAnswerHasNoJobs) {
  std::vector<TakenJob> jobs(1);
  find_jobs(R"({"jobs":[],"reports":[{"id":"c","ok":true}]})", jobs);
  EXPECT_TRUE(jobs.empty());
}

TEST(Load, WhoListensOnAPortIsFound) {
  FileDescriptor const listener{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(listen(listener.get(), 1), 0);  // The system chooses a port.
  sockaddr_in address{};
  socklen_t length = sizeof address;
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);

  EXPECT_EQ(find_listener(ntohs(address.sin_port)), getpid());
  EXPECT_TRUE(cpu_time_of(getpid()));
  EXPECT_FALSE(cpu_time_of(-1));
}

}  // namespace
}  // namespace workmill::app
