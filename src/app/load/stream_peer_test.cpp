#include "app/load/stream_peer.h"

#include <gtest/gtest.h>

#include <string>

namespace workmill::app {
namespace {

// A frame as a server sends it.
std::string server_frame(char first, std::string const& payload) {
  std::string frame{first};
  if (payload.size() < 126) {
    frame.push_back(static_cast<char>(payload.size()));
  } else if (payload.size() <= UINT16_MAX) {
    frame.push_back(126);
    frame.push_back(static_cast<char>(payload.size() >> 8));
    frame.push_back(static_cast<char>(payload.size()));
  } else {
    frame.push_back(127);
    for (int shift = 56; shift >= 0; shift -= 8) frame.push_back(static_cast<char>(payload.size() >> shift));
  }
  return frame + payload;
}

TEST(StreamPeer, AFrameIsWholeWhenAllOfItIsThere) {
  for (std::size_t const size : {0U, 1U, 125U, 126U, 65'535U, 65'536U}) {
    std::string const frame = server_frame('\x81', std::string(size, 'x'));
    for (std::size_t const cut : {std::size_t{0}, std::size_t{1}, frame.size() / 2, frame.size() - 1}) {
      auto const partial = parse_frame(std::string_view{frame}.substr(0, cut));
      ASSERT_TRUE(partial) << size;
      EXPECT_FALSE(partial->has_value()) << size << " cut at " << cut;
    }

    auto const whole = parse_frame(frame + "next");

    ASSERT_TRUE(whole && whole->has_value()) << size;
    EXPECT_EQ((*whole)->opcode, Opcode::text);
    EXPECT_TRUE((*whole)->is_last);
    EXPECT_EQ((*whole)->payload.size(), size);
    EXPECT_EQ((*whole)->bytes, frame.size());
  }
}

TEST(StreamPeer, WhatNoServerMaySendIsAnError) {
  EXPECT_FALSE(parse_frame(std::string("\x81\x80", 2)));                   // Masked.
  EXPECT_FALSE(parse_frame(std::string("\xc1\x00", 2)));                   // Compressed, which nobody offered.
  EXPECT_FALSE(parse_frame(std::string("\x83\x00", 2)));                   // Of no known kind.
  EXPECT_FALSE(parse_frame(std::string("\x09\x00", 2)));                   // A ping that is cut up.
  EXPECT_FALSE(parse_frame(server_frame('\x89', std::string(126, 'x'))));  // A ping that is too long.
  EXPECT_FALSE(parse_frame(std::string("\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10)));  // Without an end.
}

TEST(StreamPeer, WhatIsSentIsMaskedAndReadsBack) {
  constexpr std::uint32_t kMask = 0x04030201;  // In memory: 1, 2, 3, 4.
  for (std::size_t const size : {0U, 1U, 7U, 8U, 9U, 125U, 126U, 70'000U}) {
    std::string payload;
    for (std::size_t i = 0; i < size; ++i) payload.push_back(static_cast<char>(i * 7));
    std::string frame;

    append_frame(Opcode::text, payload, kMask, frame);

    std::size_t const head = size < 126 ? 2 : size <= UINT16_MAX ? 4 : 10;
    ASSERT_EQ(frame.size(), head + 4 + size);
    EXPECT_EQ(frame[0], '\x81');
    EXPECT_EQ(frame[1] & 0x80, 0x80);
    EXPECT_EQ(frame.substr(head, 4), "\x01\x02\x03\x04");
    std::string back;
    for (std::size_t i = 0; i < size; ++i) {
      back.push_back(static_cast<char>(frame[head + 4 + i] ^ frame[head + i % 4]));
    }
    EXPECT_EQ(back, payload);
  }
}

}  // namespace
}  // namespace workmill::app
