#include "base/utf8.h"

#include <gtest/gtest.h>

namespace workmill {
namespace {

TEST(Utf8, TextOfManyLanguagesIsPrintable) {
  for (std::string_view const text : {"", "plain", "a b/c?d=e", "Gr\xc3\xbc\xc3\x9f", "\xe6\x97\xa5\xe6\x9c\xac",
                                      "\xf0\x9f\x90\x8e", "\xc2\xa0", "\xef\xbf\xbd"}) {
    EXPECT_TRUE(is_printable_utf8(text)) << text;
  }
}

TEST(Utf8, ControlCharactersAreNot) {
  using namespace std::string_view_literals;
  for (std::string_view const text : {"\0"sv, "a\nb"sv, "\x1f"sv, "\x7f"sv, "\xc2\x80"sv, "a\xc2\x9f"sv}) {
    EXPECT_FALSE(is_printable_utf8(text));
  }
}

TEST(Utf8, BytesThatAreNoUtf8AreNot) {
  for (std::string_view const text :
       {"\x80", "\xc2", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xff"}) {
    EXPECT_FALSE(is_printable_utf8(text));
  }
}

}  // namespace
}  // namespace workmill
