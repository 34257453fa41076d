#include "log/crc32c.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/rng.h"

namespace workmill::log {
namespace {

Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  Rng rng{seed};
  Bytes bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(rng.next());
  return bytes;
}

TEST(Crc32c, GivesTheValuesOfRfc3720) {
  Bytes rising(32, '\0');
  for (std::size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<char>(i);

  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(Bytes(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(Bytes(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(rising), 0x46dd794eu);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Crc32c, IsTheSameByTableAndByInstructionAtEveryLengthAroundTheStreams) {
  Bytes const bytes = random_bytes(20'000, 1);

  for (std::size_t size :
       {0u, 1u, 7u, 8u, 9u, 767u, 768u, 769u, 1'535u, 1'536u, 6'143u, 6'144u, 6'145u, 6'919u, 20'000u}) {
    BytesView const part = BytesView{bytes}.substr(0, size);
    EXPECT_EQ(crc32c(part), crc32c_portable(part)) << size;
  }
}

RC_GTEST_PROP(Crc32c, GoesOnWhereItWasLeftOff, (std::uint64_t seed)) {
  Bytes const bytes = random_bytes(static_cast<std::size_t>(*rc::gen::inRange(0, 9'000)), seed);
  auto const cut = static_cast<std::size_t>(*rc::gen::inRange<std::size_t>(0, bytes.size() + 1));
  BytesView const view = bytes;

  std::uint32_t const in_two = crc32c(view.substr(cut), crc32c(view.substr(0, cut)));

  RC_ASSERT(in_two == crc32c(view));
  RC_ASSERT(in_two == crc32c_portable(view));
}

}  // namespace
}  // namespace workmill::log
