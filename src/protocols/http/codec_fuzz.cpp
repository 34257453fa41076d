#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/http/codec.h"

namespace {

using workmill::http::Request;
using workmill::http::RequestDecoder;

// Whatever a stream holds, the decoder answers with the same requests wherever the stream is cut: at the places that
// the first bytes say, or nowhere.
// With `skip`, requests are as if refused by their heads: the next ones are found all the same.
std::string decode(std::string_view stream, std::vector<std::size_t> const& cuts, bool skip) {
  RequestDecoder decoder{{.header_bytes_max = 512, .body_bytes_max = 2048}};
  std::string pending;
  std::string log;
  std::size_t fed = 0;
  for (std::size_t piece = 0; piece <= cuts.size(); ++piece) {
    std::size_t const end = piece < cuts.size() ? std::min(fed + cuts[piece], stream.size()) : stream.size();
    pending.append(stream.substr(fed, end - fed));
    fed = end;
    for (;;) {
      Request request;
      auto const status = decoder.next(pending, request);
      bool const refuse = status == RequestDecoder::Status::head && skip && decoder.can_skip_body();
      if (status == RequestDecoder::Status::complete || refuse) {
        log.append(request.method_text).append(" ").append(request.path).append("?").append(request.query);
        log.append(request.idempotency_key).append("|").append(skip ? "" : request.body).append("\n");
      }
      if (refuse) decoder.skip_body();
      if (status == RequestDecoder::Status::refused) return log + "refused";
      if (decoder.consumed() > pending.size()) std::abort();
      pending.erase(0, decoder.consumed());
      if (status == RequestDecoder::Status::need_more) break;
    }
  }
  return log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  if (size < 4) return 0;
  std::vector<std::size_t> const cuts(data, data + 4);
  std::string_view const stream{reinterpret_cast<char const*>(data) + 4, size - 4};
  for (bool const skip : {false, true}) {
    std::string const whole = decode(stream, {}, skip);
    std::string const cut = decode(stream, cuts, skip);
    // What was whole is the same. That the rest is wrong may be seen a few bytes later in pieces.
    auto const whole_requests = std::string_view{whole}.substr(0, whole.rfind('\n') + 1);
    auto const cut_requests = std::string_view{cut}.substr(0, cut.rfind('\n') + 1);
    bool const both_refused = whole.ends_with("refused") && cut.ends_with("refused");
    if (whole_requests != cut_requests && !both_refused) std::abort();
  }
  std::string decoded;
  workmill::http::append_percent_decoded(stream, decoded);
  return 0;
}
