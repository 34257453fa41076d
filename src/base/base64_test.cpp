#include "base/base64.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <utility>

namespace workmill {
namespace {

std::string encoded(BytesView bytes) {
  std::string out;
  append_base64(bytes, out);
  return out;
}

// RFC 4648, section 10.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kVectors{{{"", ""},
                                                                                 {"f", "Zg=="},
                                                                                 {"fo", "Zm8="},
                                                                                 {"foo", "Zm9v"},
                                                                                 {"foob", "Zm9vYg=="},
                                                                                 {"fooba", "Zm9vYmE="},
                                                                                 {"foobar", "Zm9vYmFy"}}};

TEST(Base64, AgreesWithTheVectorsOfItsStandard) {
  for (auto const& [bytes, text] : kVectors) {
    EXPECT_EQ(encoded(bytes), text);
    Bytes back;
    EXPECT_TRUE(decode_base64(text, back)) << text;
    EXPECT_EQ(back, bytes);
  }
}

TEST(Base64, RefusesEverySpellingButTheOne) {
  for (std::string_view const text : {"Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=", "====", "Zg==Zg==", "Zm 9", "Zm9v\n",
                                      "Zm9-", "Zm9\xff", "Z===", "Zm=v"}) {
    Bytes out = "kept";
    EXPECT_FALSE(decode_base64(text, out)) << text;
    EXPECT_EQ(out, "kept");
  }
}

TEST(Base64, HasAFormForUrls) {
  EXPECT_EQ(base64url("\xfb\xff\xfe"
                      "f"),
            "-__-Zg");
  EXPECT_EQ(decode_base64url("-__-Zg"),
            "\xfb\xff\xfe"
            "f");
  EXPECT_EQ(decode_base64url("-__-Zg=="), std::nullopt);
  EXPECT_EQ(decode_base64url("+//+"), std::nullopt);
}

RC_GTEST_PROP(Base64, AnyBytesReadBack, (std::string const& bytes)) {
  Bytes back = "before";

  RC_ASSERT(decode_base64(encoded(bytes), back));

  RC_ASSERT(back == "before" + bytes);
  RC_ASSERT(decode_base64url(base64url(bytes)) == bytes);
}

RC_GTEST_PROP(Base64, AnyTextIsRefusedOrIsWhatItsBytesAreWrittenAs, ()) {
  auto const text = *rc::gen::container<std::string>(
      rc::gen::oneOf(rc::gen::element('A', 'Q', 'g', 'w', '/', '='), rc::gen::inRange('0', 'z')));
  Bytes bytes;

  if (decode_base64(text, bytes)) RC_ASSERT(encoded(bytes) == text);
}

}  // namespace
}  // namespace workmill
