#include "protocols/http/response.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstring>

#include "base/assert.h"

namespace workmill::http {
namespace {

constexpr std::string_view kLengthName = "Content-Length: ";
// The length stands at the right end of this. White space before a value means nothing in HTTP.
constexpr std::string_view kLengthRoom = "          \r\n";
constexpr std::size_t kLengthDigits = 10;
constexpr std::string_view kEnd = "\r\n";

void append_number(std::uint64_t value, std::string& out) {
  std::array<char, 20> digits;
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  out.append(digits.data(), end);
}

void append_padded(unsigned value, std::size_t width, std::string& out) {
  std::size_t const at = out.size();
  out.append(width, '0');
  for (std::size_t i = width; i > 0; --i, value /= 10) out[at + i - 1] = static_cast<char>('0' + value % 10);
}

// RFC 9110, 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT".
void append_http_date(Instant instant, std::string& out) {
  constexpr std::string_view kDays = "SunMonTueWedThuFriSat";
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  auto const since_epoch = std::chrono::floor<std::chrono::seconds>(instant.time_since_epoch());
  std::chrono::sys_seconds const seconds{since_epoch};
  auto const day = std::chrono::floor<std::chrono::days>(seconds);
  std::chrono::year_month_day const date{day};
  std::chrono::hh_mm_ss const time{seconds - day};
  out.append(kDays.substr(std::chrono::weekday{day}.c_encoding() * 3, 3)).append(", ");
  append_padded(static_cast<unsigned>(date.day()), 2, out);
  out.append(" ").append(kMonths.substr((static_cast<unsigned>(date.month()) - 1) * 3, 3)).append(" ");
  append_padded(static_cast<unsigned>(static_cast<int>(date.year())), 4, out);
  out.push_back(' ');
  append_padded(static_cast<unsigned>(time.hours().count()), 2, out);
  out.push_back(':');
  append_padded(static_cast<unsigned>(time.minutes().count()), 2, out);
  out.push_back(':');
  append_padded(static_cast<unsigned>(time.seconds().count()), 2, out);
  out.append(" GMT");
}

bool has_body(int status) { return status != 204 && status != 304; }

void append_head(ResponseHead const& head, std::string_view date_line, std::string& out) {
  out.append("HTTP/1.1 ");
  append_number(static_cast<std::uint64_t>(head.status), out);
  out.append(" ").append(reason_phrase(head.status)).append(kEnd);
  if (has_body(head.status)) out.append("Content-Type: ").append(head.content_type).append(kEnd);
  out.append(date_line).append(head.cors).append(head.extra);
  if (!head.keep_alive) out.append("Connection: close\r\n");
  if (head.keep_alive && head.to_http_1_0) out.append("Connection: keep-alive\r\n");
  if (has_body(head.status)) out.append(kLengthName).append(kLengthRoom);
  out.append(kEnd);
}

bool is_ordinary(ResponseHead const& head) {
  return head.content_type.data() == content_type::kJson.data() && head.extra.empty() && head.cors.empty() &&
         head.keep_alive && !head.to_http_1_0 && (head.status == 200 || head.status == 201);
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Content";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 507: return "Insufficient Storage";
    default: return "Unknown";
  }
}

void ResponseWriter::set_now(Instant now) {
  std::int64_t const second = to_ms(now) / 1000;
  if (second == second_) return;
  second_ = second;
  date_line_.assign("Date: ");
  append_http_date(now, date_line_);
  date_line_.append(kEnd);
  ordinary_200_.clear();
  ResponseHead head;
  append_head(head, date_line_, ordinary_200_);
  ordinary_201_.clear();
  head.status = 201;
  append_head(head, date_line_, ordinary_201_);
}

void ResponseWriter::begin(ResponseHead const& head, std::string& out) {
  WM_ASSERT(body_at_ == 0 && has_body(head.status));
  if (is_ordinary(head)) {
    out.append(head.status == 200 ? ordinary_200_ : ordinary_201_);
  } else {
    append_head(head, date_line_, out);
  }
  body_at_ = out.size();
  length_at_ = body_at_ - kEnd.size() - kLengthRoom.size();
  without_body_ = head.without_body;
}

void ResponseWriter::end(std::string& out) {
  WM_ASSERT(body_at_ > 0 && out.size() >= body_at_);
  write_length(out.size() - body_at_, out);
  if (without_body_) out.resize(body_at_);
  body_at_ = 0;
}

void ResponseWriter::write_length(std::size_t bytes, std::string& out) {
  std::array<char, 20> digits;
  auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), bytes).ptr;
  auto const count = static_cast<std::size_t>(end - digits.data());
  WM_ASSERT(count <= kLengthDigits);
  std::memcpy(out.data() + length_at_ + kLengthDigits - count, digits.data(), count);
}

void ResponseWriter::write(ResponseHead const& head, std::string_view body, std::string& out) {
  WM_ASSERT(!head.length || head.without_body || !has_body(head.status));
  if (!has_body(head.status)) return append_head(head, date_line_, out);
  begin(head, out);
  write_length(head.length.value_or(body.size()), out);
  if (!head.without_body) out.append(body);
  body_at_ = 0;
}

}  // namespace workmill::http
