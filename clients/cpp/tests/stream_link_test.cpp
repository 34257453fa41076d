#include "stream_link.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <future>

#include "server_process.h"

// A stream that is at rest: who looks after it, and what the worker does when the server falls silent.
namespace workmill::client::detail {
namespace {

using namespace std::chrono_literals;
using namespace test;  // NOLINT(google-build-using-namespace)

// Whoever holds so many jobs, all the time. Counts what it is told.
struct Told final : LinkEvents {
  explicit Told(std::size_t holds = 0) : held_jobs(holds) {}
  void on_frame(Frame&) override {}
  void on_answers(ReportBatch&, Frame&) override {}
  void on_up(bool, bool) override { ++ups; }
  void on_report_refused(ReportBatch&, Error const&) override { ++troubles; }
  void on_refused(Error, bool) override { ++troubles; }
  void on_drained() override {}
  void on_trouble(std::string const&) override { ++troubles; }
  std::vector<std::string> held() override { return std::vector<std::string>(held_jobs, "a-job"); }
  std::size_t held_count() override { return held_jobs; }

  std::size_t const held_jobs;
  std::atomic<int> ups{0};
  std::atomic<int> troubles{0};
};

class Linked {
 public:
  Linked(std::string const& url, Told& told, StreamPatience patience) {
    options_.url = url;
    on_loop([&] {
      link_ = make_stream_link(loop_, resolve_address(options_).value(), options_,
                               {.queues = {"q"}, .credit = 1, .lease = 60s, .worker = "w"}, told, patience);
      link_->start();
    });
  }
  ~Linked() {
    on_loop([&] { link_.reset(); });
  }

 private:
  void on_loop(std::function<void()> const& work) {
    std::promise<void> done;
    loop_.post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }

  ServerOptions options_;
  Loop loop_;
  std::unique_ptr<WorkLink> link_;
};

// Whether the kernel looks after a connection of this process with that server.
bool is_kept_alive(std::string const& url) {
  auto const port = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  for (int descriptor = 3; descriptor < 1'024; ++descriptor) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family != AF_INET || ntohs(peer.sin_port) != port) continue;
    int is_on = 0;
    socklen_t option = sizeof is_on;
    ::getsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &is_on, &option);
    if (is_on != 0) return true;
  }
  return false;
}

TEST(StreamLink, AtRestIsLeftToTheKernelWhereNobodyIsBetweenAndElseAServerThatIsSilentIsGivenUp) {
  ServerProcess believes;
  ServerProcess doubts{{"stream_direct = false"}};
  believes.start();
  doubts.start();
  Told direct;
  Told pinging;
  StreamPatience const patience{.busy = 1h, .idle = 200ms};
  Linked const first{believes.url(), direct, patience};
  ASSERT_TRUE(eventually([&] { return direct.ups == 1; }));
  Linked const second{doubts.url(), pinging, patience};
  ASSERT_TRUE(eventually([&] { return pinging.ups >= 1; }));

  EXPECT_TRUE(is_kept_alive(believes.url()));
  EXPECT_FALSE(is_kept_alive(doubts.url()));
  believes.pause();
  doubts.pause();

  EXPECT_TRUE(eventually([&] { return pinging.troubles > 0; }));
  EXPECT_EQ(direct.troubles, 0);  // It has been silent for longer than the other.
  believes.go_on();
  doubts.go_on();
}

TEST(StreamLink, WithJobsOfItsWorkerASilentServerIsGivenUpThoughNobodyIsBetween) {
  ServerProcess server;
  server.start();
  Told told{1};
  Linked const link{server.url(), told, {.busy = 200ms, .idle = 1h}};
  ASSERT_TRUE(eventually([&] { return told.ups >= 1; }));

  server.pause();

  EXPECT_TRUE(eventually([&] { return told.troubles > 0; }));
  server.go_on();
}

TEST(StreamLink, ComesBackWhereTheServerEndsWhileItIsAtRest) {
  ServerProcess server;
  server.start();
  Told told;
  Linked const link{server.url(), told, {}};
  ASSERT_TRUE(eventually([&] { return told.ups == 1; }));

  server.kill();
  server.start();

  EXPECT_TRUE(eventually([&] { return told.ups == 2; }));
}

}  // namespace
}  // namespace workmill::client::detail
