#include "net/send_crew.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/connection.h"
#include "net/io_loop.h"

namespace workmill::net {
namespace {

using boost::asio::ip::tcp;

// Connections of one thread, each with the client at its other end, which reads what has arrived.
class Crowd {
 public:
  explicit Crowd(std::size_t count) {
    tcp::acceptor acceptor{loop_.context(), {boost::asio::ip::address_v4::loopback(), 0}};
    for (std::size_t i = 0; i < count; ++i) {
      tcp::socket client{loop_.context()};
      client.connect(acceptor.local_endpoint());
      connections_.push_back(std::make_unique<Connection>(loop_.poller(), acceptor.accept()));
      clients_.push_back(std::move(client));
    }
  }

  std::vector<Connection*> all() {
    std::vector<Connection*> all;
    all.reserve(connections_.size());
    for (auto& connection : connections_) all.push_back(connection.get());
    return all;
  }
  Connection& operator[](std::size_t i) { return *connections_[i]; }
  // Waits for as many bytes.
  std::string read(std::size_t i, std::size_t bytes) {
    std::string text(bytes, '\0');
    auto const count = ::recv(clients_[i].native_handle(), text.data(), text.size(), MSG_WAITALL);
    text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
    return text;
  }
  bool is_quiet(std::size_t i) {
    char byte = 0;
    return ::recv(clients_[i].native_handle(), &byte, 1, MSG_DONTWAIT) < 0;
  }

 private:
  IoLoop loop_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<tcp::socket> clients_;
};

std::string text_for(std::size_t i, int round) {
  return "to " + std::to_string(i) + " in " + std::to_string(round) + ";" + std::string(1'000, 'x');
}

void expect_each_gets_its_own(SendCrew& crew, Crowd& crowd, int round) {
  auto const all = crowd.all();
  for (std::size_t i = 0; i < all.size(); ++i) all[i]->output() = text_for(i, round);

  crew.send_ahead(all);

  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i]->has_output());
    EXPECT_EQ(all[i]->output_bytes(), 0u);
    EXPECT_EQ(all[i]->flush(), IoStatus::done);
    EXPECT_FALSE(all[i]->has_output());
    auto const text = text_for(i, round);
    EXPECT_EQ(crowd.read(i, text.size()), text);
    EXPECT_TRUE(crowd.is_quiet(i)) << "more than once";
  }
}

TEST(SendCrew, EachIsSentWhatIsItsOwnAndOnceRoundAfterRound) {
  for (std::size_t const helpers : {0U, 1U, 3U}) {
    SendCrew crew{helpers};
    Crowd crowd{100};
    for (int round = 0; round < 20; ++round) expect_each_gets_its_own(crew, crowd, round);
  }
}

TEST(SendCrew, ThreadsThatShareItDoNotWaitForEachOther) {
  SendCrew crew{2};
  {
    std::array<std::jthread, 3> threads;
    for (std::jthread& thread : threads) {
      thread = std::jthread{[&crew] {
        Crowd crowd{40};
        for (int round = 0; round < 20; ++round) expect_each_gets_its_own(crew, crowd, round);
      }};
    }
  }
}

TEST(SendCrew, WhatASocketDoesNotTakeIsLeftForItsOwnThread) {
  SendCrew crew{1};
  Crowd crowd{20};
  std::string const large(std::size_t{16} << 20, 'l');
  for (Connection* const connection : crowd.all()) connection->output() = text_for(1, 1);
  crowd[7].output() = large;

  crew.send_ahead(crowd.all());

  ASSERT_EQ(crowd[7].flush(), IoStatus::blocked);
  std::string got;
  while (got.size() < large.size()) {
    ASSERT_NE(crowd[7].flush(), IoStatus::closed);
    got += crowd.read(7, large.size() - crowd[7].output_bytes() - got.size());
  }
  EXPECT_TRUE(got == large);
}

TEST(SendCrew, AConnectionThatIsBrokenSaysSoWhenItFlushes) {
  SendCrew crew{1};
  Crowd crowd{20};
  crowd[3].shutdown_output();
  for (Connection* const connection : crowd.all()) connection->output() = text_for(1, 1);

  crew.send_ahead(crowd.all());

  EXPECT_EQ(crowd[3].flush(), IoStatus::closed);
  EXPECT_EQ(crowd[4].flush(), IoStatus::done);
}

}  // namespace
}  // namespace workmill::net
