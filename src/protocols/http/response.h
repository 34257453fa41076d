#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

// Responses into bytes: appended to a connection's output, with nothing copied twice. The body is written straight
// behind the header, in which room is left for its length.
namespace workmill::http {

std::string_view reason_phrase(int status);

namespace content_type {
inline constexpr std::string_view kJson = "application/json";
inline constexpr std::string_view kProblem = "application/problem+json";
inline constexpr std::string_view kBytes = "application/octet-stream";
inline constexpr std::string_view kText = "text/plain; charset=utf-8";
}  // namespace content_type

struct ResponseHead {
  int status = 200;
  std::string_view content_type = content_type::kJson;
  std::string_view cors;   // Likewise, for web pages of other origins.
  std::string_view extra;  // Whole lines, each with its CRLF: "Retry-After: 1\r\n".
  bool keep_alive = true;
  bool to_http_1_0 = false;  // Where keep_alive has to be said.
  // The length to be told where it is not that of the body that is given: of an answer to HEAD, whose body nobody
  // reads.
  std::optional<std::size_t> length{};
  bool without_body = false;  // The answer to HEAD: the length is that of the body, which is not sent.
};

// One writer serves one thread: it keeps the line with the date, which changes once a second.
class ResponseWriter {
 public:
  // Wall time for the Date header. Cheap where the second has not changed.
  void set_now(Instant now);

  // Appends the header. Append the body to the same `out`, then call end().
  void begin(ResponseHead const& head, std::string& out);
  void end(std::string& out);

  // The whole of it. A status of 204 or 304 has neither a body nor a length.
  void write(ResponseHead const& head, std::string_view body, std::string& out);

 private:
  void write_length(std::size_t bytes, std::string& out);

  std::string date_line_;                    // "Date: Sun, 22 Nov 2026 09:00:00 GMT\r\n"
  std::string ordinary_200_, ordinary_201_;  // Headers of JSON with nothing special about it, ready to copy.
  std::int64_t second_ = -1;
  std::size_t length_at_ = 0;  // Of the response that has begun: where its length goes, and where its body starts.
  std::size_t body_at_ = 0;
  bool without_body_ = false;
};

}  // namespace workmill::http
