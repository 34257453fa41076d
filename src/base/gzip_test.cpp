#include "base/gzip.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <zlib.h>

namespace workmill {
namespace {

std::string unpacked(std::string_view packed, std::size_t size) {
  z_stream stream{};
  EXPECT_EQ(::inflateInit2(&stream, 15 + 16), Z_OK);
  std::string out(size + 1, '\0');
  std::string in{packed};
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  ::inflateEnd(&stream);
  return out;
}

TEST(Gzip, MakesWhatIsAlikeSmall) {
  std::string const text(100'000, 'a');
  std::string out = "before";

  ASSERT_TRUE(append_gzip(text, out));

  EXPECT_LT(out.size(), 2'000U);
  EXPECT_EQ(unpacked(std::string_view{out}.substr(6), text.size()), text);
}

RC_GTEST_PROP(Gzip, WhatIsPackedComesOutAsItWas, (std::string const& text)) {
  std::string out;
  RC_ASSERT(append_gzip(text, out));
  RC_ASSERT(unpacked(out, text.size()) == text);
}

}  // namespace
}  // namespace workmill
