#include "protocols/http/stream/websocket.h"

#include <gtest/gtest.h>

#include <string>

namespace workmill::http::websocket {
namespace {

using Status = FrameReader::Status;
constexpr std::size_t kMax = 100'000;

// A frame as a client sends it.
std::string masked(unsigned first, std::string_view payload, std::string_view mask = "\x01\x80\x7f\xff") {
  std::string frame;
  append_frame(Opcode::text, payload, frame);
  std::size_t const header = frame.size() - payload.size();
  frame[0] = static_cast<char>(first);
  frame[1] = static_cast<char>(static_cast<unsigned char>(frame[1]) | 0x80);
  for (std::size_t i = 0; i < payload.size(); ++i)
    frame[header + i] = static_cast<char>(frame[header + i] ^ mask[i % 4]);
  return frame.insert(header, mask);
}

struct Reading {
  FrameReader reader{kMax};
  std::string scratch;
  Status next(std::string_view in) { return reader.next(in, scratch); }
};

CloseCode refusal_of(std::string_view bytes) {
  Reading reading;
  for (;;) {
    Status const status = reading.next(bytes);
    if (status == Status::refused) return reading.reader.close_code();
    if (status == Status::need_more && reading.reader.consumed() == 0) return CloseCode::none;
    bytes.remove_prefix(reading.reader.consumed());
    if (bytes.empty()) return CloseCode::none;
  }
}

TEST(WebSocket, AcceptsTheKeyOfTheStandard) {
  EXPECT_EQ(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");  // RFC 6455, 1.3.
  EXPECT_EQ(accept_of("dGhlIHNhbXBsZSBub25jZQ"), "");
  EXPECT_EQ(accept_of("c2hvcnQ="), "");
  EXPECT_EQ(accept_of(""), "");
}

TEST(WebSocket, ReadsAMessageOfAnyLength) {
  for (std::size_t const length : {0U, 1U, 7U, 8U, 125U, 126U, 127U, 65'535U, 65'536U, 100'000U}) {
    std::string const text(length, 'x');
    std::string const frame = masked(0x81, text);
    Reading reading;

    ASSERT_EQ(reading.next(frame), Status::message) << length;

    EXPECT_EQ(reading.reader.payload(), text);
    EXPECT_EQ(reading.reader.consumed(), frame.size());
  }
}

TEST(WebSocket, WaitsForTheWholeFrame) {
  std::string const frame = masked(0x81, "hello, worker");
  Reading reading;
  for (std::size_t bytes = 0; bytes < frame.size(); ++bytes) {
    ASSERT_EQ(reading.next(frame.substr(0, bytes)), Status::need_more);
    ASSERT_EQ(reading.reader.consumed(), 0u);
  }

  ASSERT_EQ(reading.next(frame), Status::message);
  EXPECT_EQ(reading.reader.payload(), "hello, worker");
}

TEST(WebSocket, PutsTheFramesOfAMessageTogetherAroundPings) {
  std::string in = masked(0x01, "one ") + masked(0x89, "are you there") + masked(0x00, "") + masked(0x80, "two");
  Reading reading;
  std::string_view rest = in;
  auto const next = [&] {
    Status const status = reading.next(rest);
    rest.remove_prefix(reading.reader.consumed());
    return status;
  };

  EXPECT_EQ(next(), Status::need_more);
  EXPECT_TRUE(reading.reader.is_in_message());
  EXPECT_EQ(next(), Status::ping);
  EXPECT_EQ(reading.reader.payload(), "are you there");
  EXPECT_EQ(next(), Status::need_more);
  EXPECT_EQ(next(), Status::message);
  EXPECT_EQ(reading.reader.payload(), "one two");
  EXPECT_TRUE(rest.empty());
  EXPECT_FALSE(reading.reader.is_in_message());
  std::string const another = masked(0x81, "three");
  EXPECT_EQ(reading.next(another), Status::message);
  EXPECT_EQ(reading.reader.payload(), "three");
}

TEST(WebSocket, HoldsNothingOfAMessageInPartsOnceItIsWhole) {
  Reading reading;
  ASSERT_EQ(reading.next(masked(0x01, std::string(kMax - 1, 'x'))), Status::need_more);
  ASSERT_GE(reading.reader.memory_bytes(), kMax - 1);

  std::string const last = masked(0x80, "y");
  ASSERT_EQ(reading.next(last), Status::message);

  EXPECT_EQ(reading.reader.payload().size(), kMax);
  EXPECT_LT(reading.reader.memory_bytes(), 100u);
}

TEST(WebSocket, RefusesWhatTheStandardDoesNotHave) {
  EXPECT_EQ(refusal_of(masked(0xc1, "x")), CloseCode::protocol_error) << "a reserved bit";
  EXPECT_EQ(refusal_of(masked(0x83, "x")), CloseCode::protocol_error) << "an opcode";
  EXPECT_EQ(refusal_of(masked(0x82, "x")), CloseCode::unsupported_data);
  EXPECT_EQ(refusal_of(masked(0x80, "x")), CloseCode::protocol_error) << "a continuation of nothing";
  EXPECT_EQ(refusal_of(masked(0x01, "x") + masked(0x81, "y")), CloseCode::protocol_error) << "one within another";
  EXPECT_EQ(refusal_of(masked(0x09, "x")), CloseCode::protocol_error) << "a ping in parts";
  EXPECT_EQ(refusal_of(masked(0x89, std::string(126, 'x'))), CloseCode::protocol_error) << "a long ping";
  EXPECT_EQ(refusal_of("\x81\x05hello"), CloseCode::protocol_error) << "not masked";
  EXPECT_EQ(refusal_of(std::string_view{"\x81\xfe\x00\x05maskhello", 13}), CloseCode::protocol_error) << "a long 5";
  EXPECT_EQ(refusal_of(std::string_view{"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x7fmask", 14}),
            CloseCode::protocol_error);
  EXPECT_EQ(refusal_of(std::string_view{"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00mask", 14}),
            CloseCode::protocol_error);
}

TEST(WebSocket, RefusesAMessageOverTheLimitByItsHead) {
  std::string const frame = masked(0x81, std::string(kMax + 1, 'x'));
  EXPECT_EQ(refusal_of(std::string_view{frame}.substr(0, 14)), CloseCode::too_big);
  EXPECT_EQ(refusal_of(masked(0x01, std::string(kMax, 'x')) + masked(0x80, "y")), CloseCode::too_big);
}

TEST(WebSocket, RefusesTextThatIsNone) {
  EXPECT_EQ(refusal_of(masked(0x81, "\xff\xfe")), CloseCode::invalid_text);
  // Where a character is cut in two by a frame's end, the message is text all the same.
  EXPECT_EQ(refusal_of(masked(0x01, "\xc3") + masked(0x80, "\xa4")), CloseCode::none);
}

TEST(WebSocket, ReadsACloseFrame) {
  auto const close_of = [](std::string_view payload) {
    Reading reading;
    Status const status = reading.next(masked(0x88, payload));
    return std::pair{status, reading.reader.close_code()};
  };
  EXPECT_EQ(close_of(""), (std::pair{Status::close, CloseCode::none}));
  EXPECT_EQ(close_of("\x03\xe8"), (std::pair{Status::close, CloseCode::normal}));
  EXPECT_EQ(close_of("\x0f\xa0 why"), (std::pair{Status::close, static_cast<CloseCode>(4000)}));
  EXPECT_EQ(close_of("\x03"), (std::pair{Status::refused, CloseCode::protocol_error}));
  EXPECT_EQ(close_of("\x03\xed"), (std::pair{Status::refused, CloseCode::protocol_error})) << "1005 is never sent";
  EXPECT_EQ(close_of("\x03\xe8\xff"), (std::pair{Status::refused, CloseCode::invalid_text}));
}

TEST(WebSocket, WritesFramesWithTheShortestLength) {
  for (std::size_t const length : {0U, 125U, 126U, 65'535U, 65'536U}) {
    std::string const text(length, 'x');
    std::string whole = "before", in_place = "before";

    append_frame(Opcode::text, text, whole);
    TextFrame frame{in_place};
    in_place.append(text);
    frame.end();

    EXPECT_EQ(whole, in_place) << length;
    EXPECT_EQ(whole.size() - 6 - length, length < 126 ? 2u : length < 65'536 ? 4u : 10u);
  }
}

}  // namespace
}  // namespace workmill::http::websocket
