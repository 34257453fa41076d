#include "stream_link.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket/stream.hpp>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

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
  void on_answers(ReportBatch&, Frame&) override { ++answers; }
  void on_up(bool, bool) override { ++ups; }
  void on_report_refused(ReportBatch&, Error const&) override { ++troubles; }
  void on_refused(Error, bool) override { ++troubles; }
  void on_drained() override {}
  void on_trouble(std::string const&) override { ++troubles; }
  std::vector<std::string> held() override { return std::vector<std::string>(held_jobs, "a-job"); }
  std::size_t held_count() override { return held_jobs; }

  std::size_t const held_jobs;
  std::atomic<int> ups{0};
  std::atomic<int> answers{0};
  std::atomic<int> troubles{0};
};

class Linked {
 public:
  Linked(std::string const& url, Told& told, StreamPatience patience, std::string worker = "w") {
    options_.url = url;
    on_loop([&] {
      link_ =
          make_stream_link(loop_, resolve_address(options_).value(), options_,
                           {.queues = {"q"}, .credit = 1, .lease = 60s, .worker = std::move(worker)}, told, patience);
      link_->start();
    });
  }
  ~Linked() {
    on_loop([&] { link_.reset(); });
  }
  void send(std::string_view report) {
    auto batch = std::make_unique<ReportBatch>();
    batch->text = report;
    batch->starts = {0};
    batch->count = 1;
    on_loop([&] { link_->send(std::move(batch)); });
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

// How the kernel looks after a connection of this process.
struct KeptAlive {
  int idle = 0;          // Seconds.
  int user_timeout = 0;  // Milliseconds.
};

// Those with that server that it looks after.
std::vector<KeptAlive> kept_alive(std::string const& url) {
  auto const port = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  std::vector<KeptAlive> kept;
  for (int descriptor = 3; descriptor < 1'024; ++descriptor) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    if (::getpeername(descriptor, reinterpret_cast<sockaddr*>(&peer), &size) != 0) continue;
    if (peer.sin_family != AF_INET || ntohs(peer.sin_port) != port) continue;
    auto const option = [descriptor](int level, int name) {
      int value = 0;
      socklen_t value_size = sizeof value;
      ::getsockopt(descriptor, level, name, &value, &value_size);
      return value;
    };
    if (option(SOL_SOCKET, SO_KEEPALIVE) == 0) continue;
    kept.push_back({.idle = option(IPPROTO_TCP, TCP_KEEPIDLE), .user_timeout = option(IPPROTO_TCP, TCP_USER_TIMEOUT)});
  }
  return kept;
}

// The other side of a stream, as a test has it.
class FakeStream {
 public:
  explicit FakeStream(int socket)
      : stream_(boost::asio::ip::tcp::socket{context_, boost::asio::ip::tcp::v4(), ::dup(socket)}) {
    boost::beast::error_code error;
    stream_.accept(error);
  }
  // Empty where the other side has gone.
  std::string read() {
    boost::beast::flat_buffer in;
    boost::beast::error_code error;
    stream_.read(in, error);
    return boost::beast::buffers_to_string(in.data());
  }
  void write(std::string_view text) {
    boost::beast::error_code error;
    stream_.write(boost::asio::buffer(text), error);
  }
  void subscribe() {
    read();
    write(R"({"subscribed":{"resume":"token","resumed":true,"lease":"60s"}})");
  }

 private:
  boost::asio::io_context context_;
  boost::beast::websocket::stream<boost::asio::ip::tcp::socket> stream_;
};

TEST(StreamLink, AServerThatMakesNoSenseIsLeftAndAskedAgain) {
  for (char const* const spoilt : {"null", "[]", R"({"jobs":[null]})", R"({"reports":[null]})", R"({"cancel":[1]})",
                                   R"({"error":{}})", R"({"reports":[{"id":"a","ok":true}]})"}) {
    FakeServer server{[spoilt](int socket, int number) {
      FakeStream stream{socket};
      stream.subscribe();
      if (number == 1) stream.write(spoilt);
      while (!stream.read().empty()) {
      }
    }};
    Told told;
    Linked const link{server.url(), told, {}};

    EXPECT_TRUE(eventually([&] { return told.ups == 2; })) << spoilt;
    EXPECT_EQ(told.troubles, 1) << spoilt;
    EXPECT_EQ(told.answers, 0) << spoilt;
  }
}

TEST(StreamLink, ReportsThatAreAnsweredByMoreOrLessThanThereAreAreSentAgain) {
  for (char const* const spoilt : {R"({"reports":[]})", R"({"reports":[{"id":"a","ok":true},{"id":"b","ok":true}]})",
                                   R"({"reports":[{"id":"a"}]})"}) {
    FakeServer server{[spoilt](int socket, int number) {
      FakeStream stream{socket};
      stream.subscribe();
      if (stream.read().starts_with(R"({"reports":)")) {
        stream.write(number == 1 ? spoilt : R"({"reports":[{"id":"a","ok":true}]})");
      }
      while (!stream.read().empty()) {
      }
    }};
    Told told;
    Linked link{server.url(), told, {}};
    link.send(R"({"id":"a","lease":"1","outcome":"completed"})");

    EXPECT_TRUE(eventually([&] { return told.answers == 1; })) << spoilt;
    EXPECT_EQ(told.ups, 2) << spoilt;
  }
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

  EXPECT_EQ(kept_alive(believes.url()).size(), 1U);
  EXPECT_TRUE(kept_alive(doubts.url()).empty());
  believes.pause();
  doubts.pause();

  EXPECT_TRUE(eventually([&] { return pinging.troubles > 0; }));
  EXPECT_EQ(direct.troubles, 0);  // It has been silent for longer than the other.
  believes.go_on();
  doubts.go_on();
}

TEST(StreamLink, TheKernelAsksForEachAtATimeOfItsOwnAndWaitsForAnAnswerAsLongForAll) {
  constexpr int kStreams = 16;
  ServerProcess server;
  server.start();
  std::vector<std::unique_ptr<Told>> told;
  std::vector<std::unique_ptr<Linked>> links;
  for (int i = 0; i < kStreams; ++i) {
    told.push_back(std::make_unique<Told>());
    links.push_back(std::make_unique<Linked>(server.url(), *told.back(), StreamPatience{}, "w" + std::to_string(i)));
  }
  for (auto const& each : told) ASSERT_TRUE(eventually([&] { return each->ups == 1; }));

  auto const kept = kept_alive(server.url());

  ASSERT_EQ(kept.size(), std::size_t{kStreams});
  std::set<int> seconds;
  for (KeptAlive const& each : kept) {
    seconds.insert(each.idle);
    EXPECT_GE(each.idle, 60);
    EXPECT_LT(each.idle, 120);
    EXPECT_EQ(each.user_timeout, (each.idle + 40) * 1'000);  // Before it Linux gives nobody up.
  }
  EXPECT_GT(seconds.size(), 1U);
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
