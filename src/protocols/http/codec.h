#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "base/error.h"

// Bytes into HTTP/1.x requests. Pure: no socket, no clock. Fuzzed.
//
// Beast's basic_parser does the grammar; this keeps what we need of its findings as views into the bytes that it was
// given, so that an ordinary request costs no allocation and no copy. One decoder a connection, one thread.
namespace workmill::http {

enum class Method : std::uint8_t { get, head, post, put, patch, remove, options, other };
std::string_view to_string(Method method);  // "GET"; "DELETE" for remove; empty for other.

// Everything in here is lent by the bytes that next() was given, or by the decoder, until its next call.
struct Request {
  Method method = Method::other;
  std::string_view method_text;
  std::string_view path;   // As sent, percent-encoded.
  std::string_view query;  // As sent, without the `?`.
  bool is_http_1_0 = false;
  bool keep_alive = true;

  // Trimmed; empty where not sent.
  std::string_view host;
  std::string_view origin;
  std::string_view sec_fetch_site;
  std::string_view content_type;
  std::string_view content_encoding;
  std::string_view accept;
  std::string_view accept_encoding;
  std::string_view if_none_match;
  bool has_if_match = false;  // Conditions that no call keeps to: see check_conditions() (request_values.h).
  bool has_if_unmodified_since = false;
  std::string_view authorization;
  std::string_view api_key;  // X-API-Key. Counts on the routes of OFREP alone, which has it.
  std::string_view idempotency_key;
  std::string_view traceparent;
  std::string_view tracestate;
  std::string_view request_timeout;
  // To become a WebSocket: RFC 6455, 4.2.1.
  bool wants_upgrade = false;  // `Connection: upgrade` is there.
  std::string_view upgrade;
  std::string_view websocket_key;
  std::string_view websocket_version;

  std::size_t head_bytes = 0;  // As sent, with the empty line.
  std::string_view body;       // Empty while only the head is there.
};

struct DecoderLimits {
  std::uint32_t header_bytes_max = 16 * 1024;
  std::uint64_t body_bytes_max = 8 * 1024 * 1024;
};

class RequestDecoder {
 public:
  explicit RequestDecoder(DecoderLimits limits);
  ~RequestDecoder();
  RequestDecoder(RequestDecoder const&) = delete;
  RequestDecoder& operator=(RequestDecoder const&) = delete;

  enum class Status : std::uint8_t {
    need_more,  // Call again when there are more bytes behind these.
    // `request` is whole but for its body, which has not come or comes in chunks. Once for such a request, so that it
    // can be judged before anything is done for its body: then call again, perhaps after skip_body(). A request that
    // is there with its whole body when it is first looked at is `complete` at once.
    head,
    complete,  // `request` is whole.
    refused,   // See error(). The stream cannot be understood any further: answer, and close.
  };
  // Looks at `in`, all that has come and was not consumed. Always drop the first consumed() bytes of it afterwards,
  // but in the case of `complete` only when done with the request.
  Status next(std::string_view in, Request& request);
  std::size_t consumed() const { return consumed_; }
  // After `complete`, in place of dealing with the request: the next call of next() gives it once more, with `in` as it
  // is then or with more behind it. Drop consumed() bytes before, as always.
  void put_back();
  bool has_put_back() const { return is_put_back_; }

  // Only after `refused`.
  Error const& error() const {
    WM_ASSERT(error_);
    return *error_;
  }
  // Of a refused request as far as it was understood, for the log and the answer.
  Method refused_method() const { return refused_method_; }

  // Where a request is under way (need_more): what of it is there, and how many bytes it takes as far as is known.
  enum class Phase : std::uint8_t { idle, header, body };
  Phase phase() const { return phase_; }
  // 0 where it is not known.
  std::size_t bytes_needed() const { return bytes_needed_; }
  // The client waits for a "100 Continue" before it sends its body. True once for such a request.
  bool take_expects_continue();

  // After `head`, where the request is refused: may the stream go on behind its body? Only where that is short and of a
  // known length; and not where the client waits for leave to send it, as nobody knows then whether it will.
  bool can_skip_body() const;
  // Drops that body as it comes. Wants can_skip_body().
  void skip_body();
  // A body is being dropped: its request has been answered already.
  bool is_skipping() const { return skip_bytes_ > 0; }
  static constexpr std::size_t kSkippedBodyBytesMax =
      64 * 1024;  // As a receive is large; beyond it, closing is cheaper.

  // Bytes held for a chunked body.
  std::size_t memory_bytes() const;

 private:
  class Parser;
  struct Chunked;

  bool may_skip_parsing(std::string_view in);
  Status begin_chunked(std::string_view head, std::string_view rest, Request& request);
  Status go_on_chunked(std::string_view in, Request& request);
  Status tell_chunked(Request& request);
  Status need_more(Phase phase);
  Status refuse(ErrorCode code, std::string message);
  std::optional<std::string_view> fault_of_head(Parser const& parser, Request const& request) const;
  Status tell_head(std::size_t bytes, std::size_t body_bytes);
  Status complete();

  DecoderLimits limits_;
  std::unique_ptr<Chunked> chunked_;  // Where a request with such a body is under way, or just was complete.
  std::optional<Error> error_;
  std::size_t consumed_ = 0;
  std::size_t request_bytes_ = 0;  // Of consumed_, where a request that came without chunks is complete: its own.
  std::size_t bytes_needed_ = 0;
  std::size_t body_bytes_ = 0;  // Of bytes_needed_.
  std::size_t skip_bytes_ = 0;  // Of a refused request, its head included: still to come and to be dropped.
  // Of a head that comes in pieces: so much was there when it was parsed last, and so much was searched for its end.
  std::size_t parsed_head_bytes_ = 0;
  std::size_t searched_head_bytes_ = 0;
  Phase phase_ = Phase::idle;
  Method refused_method_ = Method::other;
  bool head_told_ = false;      // Of the request under way.
  bool continue_told_ = false;  // Of the request under way: take_expects_continue() has been answered.
  bool expects_continue_ = false;
  bool is_put_back_ = false;
};

// `%41` to `A`; `+` stays. Nothing where a `%` is not followed by two hex digits. Appends to `out`.
bool append_percent_decoded(std::string_view text, std::string& out);

}  // namespace workmill::http
