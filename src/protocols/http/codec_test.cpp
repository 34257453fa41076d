#include "protocols/http/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

namespace workmill::http {
namespace {

using Status = RequestDecoder::Status;
using Phase = RequestDecoder::Phase;
using testing::HasSubstr;

// What a request was, in values that outlive the bytes.
struct Seen {
  std::string method, path, query, body, key;
  bool keep_alive = false;
  bool operator==(Seen const&) const = default;
};
Seen seen(Request const& request) {
  return {.method = std::string{request.method_text},
          .path = std::string{request.path},
          .query = std::string{request.query},
          .body = std::string{request.body},
          .key = std::string{request.idempotency_key},
          .keep_alive = request.keep_alive};
}

// Gives the decoder pieces of a stream as a connection does: what was not consumed stays in front of the next piece.
struct Feeder {
  explicit Feeder(DecoderLimits limits = {}) : decoder(limits) {}

  void feed(std::string_view piece) {
    pending.append(piece);
    Request request;
    while (!refused) {
      Status const status = decoder.next(pending, request);
      if (status == Status::complete) requests.push_back(seen(request));
      if (status == Status::refused) refused = true;
      if (status == Status::head) {
        heads.push_back(seen(request));
        if (skips) decoder.skip_body();
      }
      pending.erase(0, decoder.consumed());
      if (status == Status::need_more) return;
    }
  }

  RequestDecoder decoder;
  std::string pending;
  std::vector<Seen> requests;
  std::vector<Seen> heads;
  bool refused = false;
  bool skips = false;  // Refuses each request by its head.
};

std::vector<Seen> decode(std::string_view text) {
  Feeder feeder;
  feeder.feed(text);
  return feeder.requests;
}
ErrorCode refusal(std::string_view text, DecoderLimits limits = {}) {
  Feeder feeder{limits};
  feeder.feed(text);
  return feeder.refused ? feeder.decoder.error().code : ErrorCode::internal;
}

constexpr std::string_view kSized =
    "POST /v1/jobs?a=b HTTP/1.1\r\nHost: h\r\nIdempotency-Key: \"k\"\r\nContent-Length: 5\r\n\r\nhello";
constexpr std::string_view kChunked =
    "POST /v1/jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: k\r\n\r\n"
    "3\r\nhel\r\n2;x=\"y\"\r\nlo\r\n0\r\nIdempotency-Key: other\r\n\r\n";
constexpr std::string_view kBare = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

TEST(RequestDecoder, ReadsARequestWithItsBody) {
  auto const requests = decode(kSized);

  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0], (Seen{"POST", "/v1/jobs", "a=b", "hello", "\"k\"", true}));
}

TEST(RequestDecoder, ReadsAChunkedBodyAndLeavesItsTrailersAlone) {
  auto const requests = decode(kChunked);

  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0], (Seen{"POST", "/v1/jobs", "", "hello", "k", true}));
}

TEST(RequestDecoder, SaysHowLongTheHeadIs) {
  for (std::string_view const text : {kSized, kChunked, kBare}) {
    std::size_t const head_bytes = text.find("\r\n\r\n") + 4;
    RequestDecoder decoder{{}};
    std::string pending{text};
    Request request;
    Status status = Status::need_more;
    while (status != Status::complete) {
      status = decoder.next(pending, request);
      ASSERT_TRUE(status == Status::head || status == Status::complete);
      EXPECT_EQ(request.head_bytes, head_bytes);
      if (status == Status::complete) decoder.put_back();
      pending.erase(0, decoder.consumed());
    }
    EXPECT_EQ(decoder.next(pending, request), Status::complete);
    EXPECT_EQ(request.head_bytes, head_bytes);
  }
}

TEST(RequestDecoder, IsTheSameWhereverTheStreamIsCutInTwo) {
  std::string stream;
  stream.append(kSized).append(kChunked).append(kBare).append(kSized);
  auto const whole = decode(stream);
  ASSERT_EQ(whole.size(), 4U);

  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    Feeder feeder;
    feeder.feed(stream.substr(0, cut));
    feeder.feed(stream.substr(cut));
    ASSERT_EQ(feeder.requests, whole) << "cut at " << cut;
    ASSERT_TRUE(feeder.pending.empty());
  }
}

TEST(RequestDecoder, IsTheSameByteByByte) {
  std::string stream;
  stream.append(kSized).append(kChunked).append(kBare);
  Feeder feeder;
  for (char const byte : stream) feeder.feed({&byte, 1});

  EXPECT_EQ(feeder.requests, decode(stream));
}

RC_GTEST_PROP(RequestDecoder, IsTheSameInWhateverPiecesTheStreamComes, (std::vector<std::uint8_t> sizes)) {
  std::string stream;
  for (int i = 0; i < 3; ++i) stream.append(kChunked).append(kBare).append(kSized);
  Feeder feeder;
  std::string_view rest = stream;
  for (std::uint8_t const size : sizes) {
    feeder.feed(rest.substr(0, size));
    rest.remove_prefix(std::min<std::size_t>(size, rest.size()));
  }
  feeder.feed(rest);

  RC_ASSERT(feeder.requests == decode(stream));
}

RC_GTEST_PROP(RequestDecoder, SurvivesWhateverItIsGiven, (std::string rubbish)) {
  Feeder feeder;
  feeder.feed(std::string{kSized.substr(0, 40)} + rubbish);
  feeder.feed(rubbish);
  RC_SUCCEED();
}

TEST(RequestDecoder, KnowsHowFarARequestIs) {
  Feeder feeder;
  EXPECT_EQ(feeder.decoder.phase(), Phase::idle);
  feeder.feed("POST / HT");
  EXPECT_EQ(feeder.decoder.phase(), Phase::header);
  feeder.feed("TP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
  EXPECT_EQ(feeder.decoder.phase(), Phase::body);
  feeder.feed("cd");
  EXPECT_EQ(feeder.decoder.phase(), Phase::idle);
}

TEST(RequestDecoder, IgnoresEmptyLinesBeforeARequest) {
  std::string const stream = "\r\n\r\n" + std::string{kBare};
  EXPECT_EQ(decode(stream).size(), 1U);

  Feeder feeder;  // Found by the fuzzer: a cut in the middle of such a line.
  for (char const byte : stream) feeder.feed({&byte, 1});
  EXPECT_EQ(feeder.requests.size(), 1U);
}

// Found by the fuzzer: an assertion of Beast's did not hold.
TEST(RequestDecoder, SurvivesTheEndOfABodyComingInShreds) {
  Feeder feeder;
  feeder.feed("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
  for (std::string_view const shred : {"-", "L", "a: x\r", "\n\r", "\n"}) feeder.feed(shred);
  EXPECT_EQ(feeder.requests.size(), 1U);
}

TEST(RequestDecoder, UnderstandsTheFormThatIsSentToProxies) {
  auto const requests = decode("GET http://example.org:7330/v1/jobs?q=x HTTP/1.1\r\nHost: example.org\r\n\r\n");

  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].path, "/v1/jobs");
  EXPECT_EQ(requests[0].query, "q=x");
}

TEST(RequestDecoder, Http10ClosesUnlessItSaysOtherwise) {
  EXPECT_FALSE(decode("GET / HTTP/1.0\r\n\r\n").at(0).keep_alive);
  EXPECT_TRUE(decode("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").at(0).keep_alive);
  EXPECT_FALSE(decode("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").at(0).keep_alive);
}

TEST(RequestDecoder, RefusesWhatIsNoHttp) {
  EXPECT_EQ(refusal("hello\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("GET / HTTP/1.1\nHost: h\n\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal(std::string_view{"GET /\0 HTTP/1.1\r\n\r\n", 19}), ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesARequestWithoutItsHostOrWithTwo) {
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesTwoWaysToSayHowLongABodyIs) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
            ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n"),
            ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesALengthThatCameTwiceThoughItIsTheSame) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello"), ErrorCode::malformed_request);
}

TEST(RequestDecoder, TellsARequestThatWasPutBackOnceMoreWithWhatCameBehindIt) {
  std::string const plain = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
  std::string const chunked = "POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
  for (std::string const& text : {plain, chunked}) {
    RequestDecoder decoder{{}};
    std::string pending = text;
    Request request;
    auto const next = [&] {
      Status const status = decoder.next(pending, request);
      return status == Status::head ? decoder.next(pending, request) : status;
    };
    for (int times = 0; times < 2; ++times) {
      ASSERT_EQ(next(), Status::complete);
      EXPECT_EQ(request.body, "abc");
      decoder.put_back();
      EXPECT_TRUE(decoder.has_put_back());
      pending.erase(0, decoder.consumed());
    }
    pending += "GET /behind HTTP/1.1\r\nHost: h\r\n\r\n";

    ASSERT_EQ(next(), Status::complete);
    EXPECT_EQ(request.path, text == plain ? "/a" : "/b");
    EXPECT_EQ(request.body, "abc");
    EXPECT_FALSE(decoder.has_put_back());
    pending.erase(0, decoder.consumed());
    ASSERT_EQ(next(), Status::complete);
    EXPECT_EQ(request.path, "/behind");
  }
}

// Else that body would be read as a request.
TEST(RequestDecoder, PutsBackNothingOfABodyThatWasDroppedBeforeTheRequest) {
  std::string const body = "GET /inside HTTP/1.1\r\nHost: h\r\n\r\n";
  std::string const behind = "GET /behind HTTP/1.1\r\nHost: h\r\n\r\n";
  RequestDecoder decoder{{}};
  Request request;
  std::string pending =
      "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body.substr(0, 5);
  ASSERT_EQ(decoder.next(pending, request), Status::head);
  decoder.skip_body();
  pending.erase(0, decoder.consumed());
  ASSERT_EQ(decoder.next(pending, request), Status::need_more);
  pending.erase(0, decoder.consumed());
  pending += body.substr(5) + behind;

  ASSERT_EQ(decoder.next(pending, request), Status::complete);
  decoder.put_back();
  pending.erase(0, decoder.consumed());

  EXPECT_EQ(pending, behind);
  ASSERT_EQ(decoder.next(pending, request), Status::complete);
  EXPECT_EQ(request.path, "/behind");
}

TEST(RequestDecoder, RefusesChunksInHttp10) {
  EXPECT_EQ(refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesAHeaderThatGoesOverSeveralLines) {
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: a\r\n b\r\n\r\n"), ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesAKeyThatCameTwice) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n"),
            ErrorCode::malformed_request);
}

TEST(RequestDecoder, RefusesAHeaderOverTheLimitWithoutWaitingForItsEnd) {
  DecoderLimits const limits{.header_bytes_max = 1000};
  std::string const long_header = "GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(1000, 'x');

  EXPECT_EQ(refusal(long_header, limits), ErrorCode::headers_too_large);
  EXPECT_EQ(refusal(long_header + "\r\n\r\n", limits), ErrorCode::headers_too_large);
  EXPECT_EQ(refusal("GET /" + std::string(1000, 'x'), limits), ErrorCode::headers_too_large);
}

TEST(RequestDecoder, RefusesAHeaderOverTheLimitThatComesByteByByte) {
  DecoderLimits const limits{.header_bytes_max = 1000};
  Feeder feeder{limits};
  feeder.feed("GET / HTTP/1.1\r\nHost: h\r\nX: ");
  for (int i = 0; i < 1000 && !feeder.refused; ++i) feeder.feed("x");

  ASSERT_TRUE(feeder.refused);
  EXPECT_EQ(feeder.decoder.error().code, ErrorCode::headers_too_large);
  EXPECT_EQ(feeder.pending.size(), 1001U);
}

// Whoever sends a byte at a time has it parsed a few times, not as often as there are bytes.
TEST(RequestDecoder, ParsesAHeadThatTricklesAgainOnlyWhenItIsWholeOrTwiceAsLong) {
  std::string const good = "GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n";
  std::string const bad = "no header\r\n";
  Feeder feeder;
  feeder.feed(good);
  feeder.feed(bad);
  EXPECT_FALSE(feeder.refused);
  feeder.feed(std::string(good.size(), 'x'));
  EXPECT_TRUE(feeder.refused);

  Feeder whole;
  whole.feed(good);
  whole.feed("\r");
  EXPECT_TRUE(whole.requests.empty());
  whole.feed("\n");
  EXPECT_EQ(whole.requests.size(), 1U);
}

TEST(RequestDecoder, RefusesABodyOverTheLimitBeforeItHasCome) {
  DecoderLimits const limits{.body_bytes_max = 10};

  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", limits), ErrorCode::payload_too_large);
  EXPECT_EQ(
      refusal("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5\r\nworld\r\n", limits),
      ErrorCode::payload_too_large);
}

TEST(RequestDecoder, RefusesAChunkHeaderThatDoesNotEnd) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x=" + std::string(20'000, 'x')),
            ErrorCode::headers_too_large);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
            ErrorCode::malformed_request);
}

TEST(RequestDecoder, SaysOnceThatTheClientWaitsToBeToldToGoOn) {
  Feeder feeder;
  feeder.feed("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_TRUE(feeder.decoder.take_expects_continue());
  feeder.feed("ab");
  EXPECT_FALSE(feeder.decoder.take_expects_continue());
  feeder.feed("cd" + std::string{kSized.substr(0, kSized.size() - 1)});
  EXPECT_FALSE(feeder.decoder.take_expects_continue());
  EXPECT_EQ(feeder.requests.size(), 1U);
}

TEST(RequestDecoder, ShowsAHeadOnceBeforeItsBodyHasCome) {
  Feeder feeder;
  feeder.feed(kSized.substr(0, kSized.size() - 3));

  ASSERT_EQ(feeder.heads.size(), 1U);
  EXPECT_EQ(feeder.heads[0], (Seen{"POST", "/v1/jobs", "a=b", "", "\"k\"", true}));
  EXPECT_EQ(feeder.decoder.phase(), Phase::body);
  feeder.feed(kSized.substr(kSized.size() - 3, 2));
  EXPECT_EQ(feeder.heads.size(), 1U);
  feeder.feed(kSized.substr(kSized.size() - 1));
  EXPECT_EQ(feeder.requests.size(), 1U);
}

TEST(RequestDecoder, ShowsNoHeadOfARequestThatIsWholeAtOnce) {
  Feeder feeder;
  feeder.feed(kSized);
  feeder.feed(kBare);

  EXPECT_TRUE(feeder.heads.empty());
}

TEST(RequestDecoder, ShowsTheHeadOfAChunkedRequestAlways) {
  Feeder feeder;
  feeder.feed(kChunked);

  EXPECT_EQ(feeder.heads.size(), 1U);
  EXPECT_EQ(feeder.requests.size(), 1U);
}

TEST(RequestDecoder, DropsTheBodyOfARequestThatWasRefusedByItsHeadAndFindsTheNext) {
  std::string const stream = std::string{kSized} + std::string{kBare};
  std::size_t const head = kSized.size() - 5;
  for (std::size_t cut = head; cut < kSized.size(); ++cut) {
    for (std::size_t again = cut; again <= stream.size(); ++again) {
      Feeder feeder;
      feeder.skips = true;
      feeder.feed(stream.substr(0, cut));
      EXPECT_TRUE(feeder.decoder.is_skipping());
      feeder.feed(stream.substr(cut, again - cut));
      feeder.feed(stream.substr(again));

      ASSERT_EQ(feeder.heads.size(), 1U);
      ASSERT_EQ(feeder.requests, decode(kBare)) << "cut at " << cut << " and " << again;
      ASSERT_FALSE(feeder.decoder.is_skipping());
    }
  }
}

TEST(RequestDecoder, DropsNoBodyThatIsLongOrOfUnknownLengthOrThatMayNeverCome) {
  auto const can_skip = [](std::string_view headers) {
    RequestDecoder decoder{{}};
    Request request;
    std::string const text = "POST / HTTP/1.1\r\nHost: h\r\n" + std::string{headers} + "\r\n";
    EXPECT_EQ(decoder.next(text, request), Status::head);
    return decoder.can_skip_body();
  };

  EXPECT_TRUE(can_skip("Content-Length: 65536\r\n"));
  EXPECT_FALSE(can_skip("Content-Length: 65537\r\n"));
  EXPECT_FALSE(can_skip("Transfer-Encoding: chunked\r\n"));
  EXPECT_FALSE(can_skip("Content-Length: 10\r\nExpect: 100-continue\r\n"));
}

TEST(RequestDecoder, RefusesABadHeadBeforeItsBodyHasCome) {
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"), ErrorCode::malformed_request);
  EXPECT_EQ(refusal("POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 9\r\n\r\n"),
            ErrorCode::malformed_request);
}

TEST(PercentDecoding, TurnsEscapesIntoBytes) {
  std::string out;
  EXPECT_TRUE(append_percent_decoded("a%20b%2Fc%3a+", out));
  EXPECT_EQ(out, "a b/c:+");
}

TEST(PercentDecoding, RefusesWhatIsNotHex) {
  std::string out;
  EXPECT_FALSE(append_percent_decoded("%4", out));
  EXPECT_FALSE(append_percent_decoded("%zz", out));
  EXPECT_FALSE(append_percent_decoded("abc%", out));
}

}  // namespace
}  // namespace workmill::http
