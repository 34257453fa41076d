#include "protocols/http/gzip.h"

#include <gtest/gtest.h>

namespace workmill::http {
namespace {

TEST(AcceptsGzip, IsTakenWhereTheHeaderAllowsIt) {
  for (auto const* yes :
       {"gzip", "GZIP", "deflate, gzip", "gzip;q=0.5", "br;q=1.0, gzip;q=0.8", "*", "*;q=0.1", " gzip "}) {
    EXPECT_TRUE(accepts_gzip(yes)) << yes;
  }
  for (auto const* no :
       {"", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "xgzip", "gzip;q=x", ",,;"}) {
    EXPECT_FALSE(accepts_gzip(no)) << no;
  }
}

}  // namespace
}  // namespace workmill::http
