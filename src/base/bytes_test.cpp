#include "base/bytes.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

namespace workmill {
namespace {

Bytes varint_of(std::uint64_t value) {
  Bytes out;
  ByteWriter{out}.varint(value);
  return out;
}

TEST(Bytes, FixedNumbersAreLittleEndian) {
  Bytes out;
  ByteWriter writer{out};
  writer.u8(0x01);
  writer.u16(0x0302);
  writer.u32(0x07060504);
  writer.u64(0x0f0e0d0c0b0a0908);

  EXPECT_EQ(out, "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
  EXPECT_EQ(writer.size(), 15u);
}

TEST(Bytes, AVarintTakesSevenBitsAByte) {
  EXPECT_EQ(varint_of(0), Bytes(1, '\0'));
  EXPECT_EQ(varint_of(127), "\x7f");
  EXPECT_EQ(varint_of(128), "\x80\x01");
  EXPECT_EQ(varint_of(300), "\xac\x02");
  EXPECT_EQ(varint_of(std::numeric_limits<std::uint64_t>::max()), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
}

TEST(Bytes, ZigzagKeepsSmallNegativesSmall) {
  Bytes out;
  ByteWriter writer{out};
  for (std::int64_t const value : {0, -1, 1, -2, 2}) writer.zigzag(value);

  EXPECT_EQ(out, Bytes({0, 1, 2, 3, 4}));
}

TEST(Bytes, AVarintThatIsCutOrTooLongOrPaddedIsRefused) {
  for (BytesView const bad : {BytesView{""}, BytesView{"\x80"}, BytesView{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"},
                              BytesView{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"}, BytesView{"\x80\x00", 2}}) {
    ByteReader reader{bad};
    EXPECT_EQ(reader.varint(), 0u);
    EXPECT_FALSE(reader.ok());
  }
}

TEST(Bytes, AfterOneBadReadAllOthersAreEmpty) {
  ByteReader reader{"\x01\x02\x03\x04"};
  EXPECT_EQ(reader.u8(), 1);
  EXPECT_EQ(reader.u32(), 0u);  // Three bytes are left.

  EXPECT_EQ(reader.u8(), 0);
  EXPECT_EQ(reader.bytes(), "");
  EXPECT_EQ(reader.raw(1), "");
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.done());
}

TEST(Bytes, ALengthBeyondTheInputIsRefusedHoweverLarge) {
  Bytes hostile;
  ByteWriter{hostile}.varint(std::numeric_limits<std::uint64_t>::max());
  ByteReader reader{hostile};

  EXPECT_EQ(reader.bytes(), "");
  EXPECT_FALSE(reader.ok());
}

using Item = std::variant<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t, std::int64_t, Bytes>;

struct Put {
  ByteWriter& writer;
  bool as_varint;
  void operator()(std::uint8_t value) { writer.u8(value); }
  void operator()(std::uint16_t value) { writer.u16(value); }
  void operator()(std::uint32_t value) { writer.u32(value); }
  void operator()(std::uint64_t value) { as_varint ? writer.varint(value) : writer.u64(value); }
  void operator()(std::int64_t value) { writer.zigzag(value); }
  void operator()(Bytes const& value) { writer.bytes(value); }
};
struct Check {
  ByteReader& reader;
  bool as_varint;
  bool operator()(std::uint8_t value) { return reader.u8() == value; }
  bool operator()(std::uint16_t value) { return reader.u16() == value; }
  bool operator()(std::uint32_t value) { return reader.u32() == value; }
  bool operator()(std::uint64_t value) { return (as_varint ? reader.varint() : reader.u64()) == value; }
  bool operator()(std::int64_t value) { return reader.zigzag() == value; }
  bool operator()(Bytes const& value) { return reader.bytes() == value; }
};

// Numbers of every length, which a plain uniform draw would hardly give.
rc::Gen<std::uint64_t> any_length() {
  return rc::gen::apply([](std::uint64_t value, int shift) { return value >> shift; },
                        rc::gen::arbitrary<std::uint64_t>(), rc::gen::inRange(0, 64));
}
rc::Gen<Item> any_item() {
  return rc::gen::oneOf(
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{static_cast<std::uint8_t>(v)}; }),
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{static_cast<std::uint16_t>(v)}; }),
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{static_cast<std::uint32_t>(v)}; }),
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{v}; }),
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{static_cast<std::int64_t>(v)}; }),
      rc::gen::map(any_length(), [](std::uint64_t v) { return Item{-static_cast<std::int64_t>(v >> 1)}; }),
      rc::gen::map(rc::gen::arbitrary<Bytes>(), [](Bytes v) { return Item{std::move(v)}; }));
}

RC_GTEST_PROP(Bytes, WhatIsWrittenIsReadBack, (bool as_varint)) {
  auto const items = *rc::gen::container<std::vector<Item>>(any_item());
  Bytes out;
  ByteWriter writer{out};
  for (Item const& item : items) std::visit(Put{writer, as_varint}, item);

  ByteReader reader{out};
  for (Item const& item : items) RC_ASSERT(std::visit(Check{reader, as_varint}, item));
  RC_ASSERT(reader.done());
}

RC_GTEST_PROP(Bytes, EveryCutOfWhatIsWrittenIsNoticed, (bool as_varint)) {
  auto const items = *rc::gen::nonEmpty(rc::gen::container<std::vector<Item>>(any_item()));
  Bytes out;
  ByteWriter writer{out};
  for (Item const& item : items) std::visit(Put{writer, as_varint}, item);
  auto const kept = *rc::gen::inRange<std::size_t>(0, out.size());

  ByteReader reader{BytesView{out}.substr(0, kept)};
  for (Item const& item : items) std::visit(Check{reader, as_varint}, item);
  RC_ASSERT(!reader.ok());
}

RC_GTEST_PROP(Bytes, AVarintHasOneSpelling, (Bytes const& input)) {
  ByteReader reader{input};
  std::uint64_t const value = reader.varint();
  if (!reader.ok()) return;
  RC_ASSERT(varint_of(value) == input.substr(0, input.size() - reader.remaining()));
}

}  // namespace
}  // namespace workmill
