#include "protocols/http/codec.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <functional>
#include <utility>

#include "base/assert.h"

namespace workmill::http {
namespace {

namespace beast = boost::beast;
using BeastError = beast::http::error;

std::string_view to_std(beast::string_view text) { return {text.data(), text.size()}; }

Method to_method(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get: return Method::get;
    case beast::http::verb::head: return Method::head;
    case beast::http::verb::post: return Method::post;
    case beast::http::verb::put: return Method::put;
    case beast::http::verb::patch: return Method::patch;
    case beast::http::verb::delete_: return Method::remove;
    case beast::http::verb::options: return Method::options;
    default: return Method::other;
  }
}

// What a proxy is sent, "http://host/path", is legal for us too, and means the path.
std::string_view without_authority(std::string_view target) {
  if (target.starts_with('/')) return target;
  std::size_t const scheme = target.find("://");
  if (scheme == std::string_view::npos) return target;
  std::size_t const path = target.find_first_of("/?", scheme + 3);
  return path == std::string_view::npos ? std::string_view{"/"} : target.substr(path);
}

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view to_string(Method method) {
  switch (method) {
    case Method::get: return "GET";
    case Method::head: return "HEAD";
    case Method::post: return "POST";
    case Method::put: return "PUT";
    case Method::patch: return "PATCH";
    case Method::remove: return "DELETE";
    case Method::options: return "OPTIONS";
    case Method::other: return "";
  }
  return "";
}

// Writes what it finds into a Request. Its callbacks are all made within one put(), while the bytes stand still.
class RequestDecoder::Parser final : public beast::http::basic_parser<true> {
 public:
  // `bytes`: what put() will be given first.
  Parser(DecoderLimits const& limits, std::string_view bytes, Request& request) : bytes_(bytes), request_(request) {
    header_limit(limits.header_bytes_max);
    body_limit(limits.body_bytes_max);
  }

  // Of a request with a chunked body: where that goes.
  void collect_body(std::string& body) { body_ = &body; }

  bool has_folded_header() const { return has_folded_header_; }
  bool has_twin_header() const { return has_twin_header_; }
  bool has_foreign_coding() const { return has_foreign_coding_; }
  bool has_odd_length() const { return has_odd_length_; }
  bool expects_continue() const { return expects_continue_; }

 private:
  void on_request_impl(beast::http::verb verb, beast::string_view method, beast::string_view target, int version,
                       beast::error_code&) override {
    request_.method = to_method(verb);
    request_.method_text = to_std(method);
    request_.is_http_1_0 = version == 10;
    std::string_view const origin_form = without_authority(to_std(target));
    std::size_t const question = origin_form.find('?');
    request_.path = origin_form.substr(0, question);
    request_.query = question == std::string_view::npos ? std::string_view{} : origin_form.substr(question + 1);
  }

  void on_field_impl(beast::http::field name, beast::string_view name_text, beast::string_view beast_value,
                     beast::error_code&) override {
    if (is_header_done()) return;  // A trailer of a chunked body.
    std::string_view const value = to_std(beast_value);
    // Beast unfolds a value that goes over several lines into a buffer of its own, which is gone before we look.
    std::less<> const before;
    if (!value.empty() &&
        (before(value.data(), bytes_.data()) || !before(value.data(), bytes_.data() + bytes_.size()))) {
      has_folded_header_ = true;
      return;
    }
    switch (name) {
      case beast::http::field::host: return take_only(request_.host, value);
      case beast::http::field::content_type: return take_only(request_.content_type, value);
      case beast::http::field::content_encoding: return take_only(request_.content_encoding, value);
      case beast::http::field::authorization: return take_only(request_.authorization, value);
      case beast::http::field::origin: request_.origin = value; return;
      case beast::http::field::sec_fetch_site: request_.sec_fetch_site = value; return;
      case beast::http::field::upgrade: request_.upgrade = value; return;
      case beast::http::field::sec_websocket_key: return take_only(request_.websocket_key, value);
      case beast::http::field::sec_websocket_version: return take_only(request_.websocket_version, value);
      case beast::http::field::accept: request_.accept = value; return;
      case beast::http::field::accept_encoding: request_.accept_encoding = value; return;
      case beast::http::field::if_none_match: request_.if_none_match = value; return;
      case beast::http::field::if_match: request_.has_if_match = true; return;
      case beast::http::field::if_unmodified_since: request_.has_if_unmodified_since = true; return;
      // Beast lets two lengths pass that are the same; RFC 9110, 8.6, leaves it to us to refuse them.
      case beast::http::field::content_length:
        has_odd_length_ = has_odd_length_ || has_length_ || value.find_first_not_of("0123456789") != value.npos;
        has_length_ = true;
        return;
      case beast::http::field::transfer_encoding:
        has_foreign_coding_ = has_foreign_coding_ || !beast::iequals(beast_value, "chunked");
        return;
      case beast::http::field::expect: expects_continue_ = beast::iequals(beast_value, "100-continue"); return;
      case beast::http::field::unknown: return take_unknown(name_text, value);
      default: return;
    }
  }

  void take_unknown(beast::string_view name, std::string_view value) {
    if (beast::iequals(name, "idempotency-key")) return take_only(request_.idempotency_key, value);
    if (beast::iequals(name, "x-api-key")) return take_only(request_.api_key, value);
    if (beast::iequals(name, "traceparent")) request_.traceparent = value;
    if (beast::iequals(name, "tracestate")) request_.tracestate = value;
    if (beast::iequals(name, "request-timeout")) request_.request_timeout = value;
  }

  // Two of these would mean that we and a proxy before us might disagree on which one counts.
  void take_only(std::string_view& place, std::string_view value) {
    if (place.data() != nullptr) has_twin_header_ = true;
    place = value;
  }

  std::size_t on_body_impl(beast::string_view bytes, beast::error_code&) override { return bytes.size(); }
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view bytes, beast::error_code&) override {
    if (body_ != nullptr) body_->append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_response_impl(int, beast::string_view, int, beast::error_code&) override {}
  void on_header_impl(beast::error_code&) override {}
  void on_body_init_impl(boost::optional<std::uint64_t> const&, beast::error_code&) override {}
  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code&) override {}
  void on_finish_impl(beast::error_code&) override {}

  std::string_view bytes_;
  Request& request_;
  std::string* body_ = nullptr;
  bool has_folded_header_ = false;
  bool has_twin_header_ = false;
  bool has_foreign_coding_ = false;
  bool has_length_ = false;
  bool has_odd_length_ = false;
  bool expects_continue_ = false;
};

// A chunked body is put together piece by piece, so its header is copied too: the bytes it stood in are long gone when
// the body is whole.
struct RequestDecoder::Chunked {
  Chunked(DecoderLimits const& limits, std::string_view head_bytes) : head(head_bytes), parser(limits, head, request) {
    parser.collect_body(body);
    parser.eager(true);
  }

  std::string head;
  std::string body;
  Request request;
  Parser parser;
};

RequestDecoder::RequestDecoder(DecoderLimits limits) : limits_(limits) {}
RequestDecoder::~RequestDecoder() = default;

RequestDecoder::Status RequestDecoder::next(std::string_view in, Request& request) {
  consumed_ = 0;
  if (std::exchange(is_put_back_, false) && chunked_) return tell_chunked(request);
  if (chunked_ && !chunked_->parser.is_done()) return go_on_chunked(in, request);
  chunked_.reset();
  if (skip_bytes_ > 0) {
    consumed_ = std::min(in.size(), skip_bytes_);
    skip_bytes_ -= consumed_;
    if (skip_bytes_ > 0) return need_more(Phase::body);
  }
  while (in.size() - consumed_ >= 2 && in.substr(consumed_, 2) == "\r\n") consumed_ += 2;  // RFC 9112, 2.2.
  in.remove_prefix(consumed_);
  if (in.empty() || in == "\r") return need_more(Phase::idle);  // The latter may become such a line.
  if (in.size() < bytes_needed_) return need_more(Phase::body);
  if (phase_ == Phase::header && may_skip_parsing(in)) return Status::need_more;

  request = {};
  Parser parser{limits_, in, request};
  beast::error_code error;
  std::size_t const head_bytes = parser.put(boost::asio::const_buffer{in.data(), in.size()}, error);
  if (error == BeastError::need_more) {
    if (in.size() > limits_.header_bytes_max) return refuse(ErrorCode::headers_too_large, "the header is too large");
    parsed_head_bytes_ = searched_head_bytes_ = in.size();
    return need_more(Phase::header);
  }
  refused_method_ = request.method;
  if (error == BeastError::header_limit || head_bytes > limits_.header_bytes_max) {
    return refuse(ErrorCode::headers_too_large, "the header is too large");
  }
  if (error == BeastError::body_limit) {
    return refuse(ErrorCode::payload_too_large,
                  "the body is over the limit of " + std::to_string(limits_.body_bytes_max) + " bytes");
  }
  if (error) return refuse(ErrorCode::malformed_request, "not a request that HTTP/1.1 knows: " + error.message());
  if (parser.has_foreign_coding()) return refuse(ErrorCode::malformed_request, "the only transfer coding is chunked");
  if (parser.has_odd_length()) return refuse(ErrorCode::malformed_request, "more than one Content-Length");
  // RFC 9112, 6.1: a proxy that knows 1.0 only has handed on what it did not understand.
  if (parser.chunked() && request.is_http_1_0) return refuse(ErrorCode::malformed_request, "HTTP/1.0 has no chunks");
  if (auto const fault = fault_of_head(parser, request)) {
    return refuse(ErrorCode::malformed_request, std::string{*fault});
  }
  request.head_bytes = head_bytes;
  request.keep_alive = parser.keep_alive();
  request.wants_upgrade = parser.upgrade();
  expects_continue_ = parser.expects_continue() && !request.is_http_1_0;

  if (parser.chunked()) {
    if (!std::exchange(head_told_, true)) return tell_head(0, 0);
    return begin_chunked(in.substr(0, head_bytes), in.substr(head_bytes), request);
  }
  std::size_t const body_bytes = parser.content_length().value_or(0);
  if (in.size() - head_bytes < body_bytes) return tell_head(head_bytes + body_bytes, body_bytes);
  request.body = in.substr(head_bytes, body_bytes);
  request_bytes_ = head_bytes + body_bytes;
  consumed_ += request_bytes_;
  return complete();
}

// A head that comes in many pieces is not parsed anew with each of them, or whoever sends a byte at a time would have
// us parse megabytes for 16 KiB. Only its end is looked for, in what is new; and whenever there is twice as much of it,
// it is parsed again all the same, so that what is no HTTP is told soon.
bool RequestDecoder::may_skip_parsing(std::string_view in) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  if (in.size() > limits_.header_bytes_max || in.size() >= 2 * parsed_head_bytes_) return false;
  std::size_t const from = searched_head_bytes_ - std::min(searched_head_bytes_, kEnd.size() - 1);
  searched_head_bytes_ = in.size();
  return in.find(kEnd, from) == std::string_view::npos;
}

// What is wrong with a head that follows the grammar.
std::optional<std::string_view> RequestDecoder::fault_of_head(Parser const& parser, Request const& request) const {
  if (parser.has_folded_header()) return "a header goes over several lines";
  if (parser.has_twin_header()) return "a header that may come once came twice";
  bool const names_host = request.host.data() != nullptr;
  if (!names_host && !request.is_http_1_0) return "no Host header";
  return std::nullopt;
}

// `bytes`: of the whole request, 0 where its body is chunked.
RequestDecoder::Status RequestDecoder::tell_head(std::size_t bytes, std::size_t body_bytes) {
  bytes_needed_ = bytes;
  body_bytes_ = body_bytes;
  phase_ = Phase::body;
  return Status::head;
}

bool RequestDecoder::can_skip_body() const {
  return bytes_needed_ > 0 && body_bytes_ <= kSkippedBodyBytesMax && !expects_continue_;
}

void RequestDecoder::skip_body() {
  WM_ASSERT(can_skip_body());
  skip_bytes_ = bytes_needed_;
  complete();
  phase_ = Phase::body;
}

RequestDecoder::Status RequestDecoder::begin_chunked(std::string_view head, std::string_view rest, Request& request) {
  chunked_ = std::make_unique<Chunked>(limits_, head);
  beast::error_code error;
  std::string const& copy = chunked_->head;
  std::size_t const parsed = chunked_->parser.put(boost::asio::const_buffer{copy.data(), copy.size()}, error);
  // Eager, it asks for the body at once; and it has understood this very header a moment ago.
  WM_ASSERT(parsed == copy.size() && (!error || error == BeastError::need_more));
  std::size_t const before = consumed_ + head.size();
  Status const status = go_on_chunked(rest, request);
  consumed_ += before;
  return status;
}

RequestDecoder::Status RequestDecoder::go_on_chunked(std::string_view in, Request& request) {
  // Beast takes it for granted that it is not asked again about the end of a body before all five bytes of "0\r\n\r\n"
  // are there; and as that is how each body ends, there are never fewer to come.
  constexpr std::size_t kLastChunkBytes = 5;
  consumed_ = 0;
  if (in.size() < kLastChunkBytes) return need_more(Phase::body);
  Chunked& chunked = *chunked_;
  beast::error_code error;
  consumed_ = chunked.parser.put(boost::asio::const_buffer{in.data(), in.size()}, error);
  if (error == BeastError::need_more) {
    // Bodies of chunks are consumed as they come; what stays is the line before one, or the trailer.
    if (in.size() - consumed_ > limits_.header_bytes_max) {
      return refuse(ErrorCode::headers_too_large, "a chunk extension or the trailer is too large");
    }
    return need_more(Phase::body);
  }
  if (error == BeastError::body_limit) {
    return refuse(ErrorCode::payload_too_large,
                  "the body is over the limit of " + std::to_string(limits_.body_bytes_max) + " bytes");
  }
  if (error)
    return refuse(ErrorCode::malformed_request, "the body is not chunked as HTTP/1.1 has it: " + error.message());
  return chunked.parser.is_done() ? tell_chunked(request) : need_more(Phase::body);
}

RequestDecoder::Status RequestDecoder::tell_chunked(Request& request) {
  request = chunked_->request;
  request.head_bytes = chunked_->head.size();
  request.keep_alive = chunked_->parser.keep_alive();
  request.body = chunked_->body;
  return complete();
}

// What is chunked has been put together, and is kept. Anything else stands in the input still, whole; but not what came
// before it there, such as the rest of a body that was dropped.
void RequestDecoder::put_back() {
  is_put_back_ = true;
  if (!chunked_) consumed_ -= request_bytes_;
}

RequestDecoder::Status RequestDecoder::complete() {
  phase_ = Phase::idle;
  bytes_needed_ = 0;
  body_bytes_ = 0;
  head_told_ = false;
  continue_told_ = false;
  expects_continue_ = false;
  return Status::complete;
}

RequestDecoder::Status RequestDecoder::need_more(Phase phase) {
  phase_ = phase;
  return Status::need_more;
}

RequestDecoder::Status RequestDecoder::refuse(ErrorCode code, std::string message) {
  error_ = Error{.code = code, .message = std::move(message)};
  return Status::refused;
}

bool RequestDecoder::take_expects_continue() {
  bool const answer = phase_ == Phase::body && expects_continue_ && !continue_told_;
  if (answer) continue_told_ = true;
  return answer;
}

std::size_t RequestDecoder::memory_bytes() const {
  return chunked_ ? chunked_->head.capacity() + chunked_->body.capacity() : 0;
}

bool append_percent_decoded(std::string_view text, std::string& out) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (text.size() - i < 3) return false;
    int const high = hex_digit(text[i + 1]);
    int const low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return false;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

}  // namespace workmill::http
