#include "app/load/http_peer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/assert.h"

namespace workmill::app {
namespace {

constexpr std::string_view kHeadEnd = "\r\n\r\n";

auto broken(std::string message) { return fail(ErrorCode::protocol_error, std::move(message)); }

std::optional<std::size_t> content_length(std::string_view head) {
  constexpr std::string_view kName = "content-length:";
  for (auto at = head.find("\r\n"); at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    auto line = head.substr(at + 2);
    bool const is_ours = line.size() >= kName.size() &&
                         std::equal(kName.begin(), kName.end(), line.begin(),
                                    [](char ours, char theirs) { return ours == static_cast<char>(theirs | 0x20); });
    if (!is_ours) continue;
    line.remove_prefix(kName.size());
    while (line.starts_with(' ')) line.remove_prefix(1);
    std::size_t length = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), length).ec != std::errc{}) return std::nullopt;
    return length;
  }
  return std::nullopt;
}

std::string authorization(std::string_view token) {
  return token.empty() ? std::string{} : fmt::format("Authorization: Bearer {}\r\n", token);
}

}  // namespace

Result<std::optional<ParsedAnswer>> parse_answer(std::string_view in) {
  auto const end = in.find(kHeadEnd);
  if (end == std::string_view::npos) return std::optional<ParsedAnswer>{};
  auto const head = in.substr(0, end);
  ParsedAnswer parsed;
  bool const is_http = head.starts_with("HTTP/1.") && head.size() >= 12;
  if (!is_http || std::from_chars(&head[9], &head[12], parsed.answer.status).ptr != &head[12]) {
    return broken("what came back is no HTTP answer");
  }
  auto const length = parsed.answer.status == 204 ? std::optional<std::size_t>{0} : content_length(head);
  if (!length) return broken("an answer came without its length");
  parsed.bytes = end + kHeadEnd.size() + *length;
  if (in.size() < parsed.bytes) return std::optional<ParsedAnswer>{};
  parsed.answer.body = in.substr(end + kHeadEnd.size(), *length);
  return std::optional{parsed};
}

std::string post_request(std::string_view host, std::string_view token, std::string_view path, std::string_view body) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                     path, host, authorization(token), body.size(), body);
}

std::string get_request(std::string_view host, std::string_view token, std::string_view path) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n{}\r\n", path, host, authorization(token));
}

void HttpPeer::send(std::string_view request) {
  WM_ASSERT(!is_waiting_);
  is_waiting_ = true;
  sent_at_ = now();
  request_.assign(request);
  write(request_);
}

void HttpPeer::send_again() {
  WM_ASSERT(!is_waiting_);
  is_waiting_ = true;
  write(request_);
}

Result<std::size_t> HttpPeer::take(std::string_view in) {
  WM_TRY(auto const parsed, parse_answer(in));
  if (!parsed) return std::size_t{0};
  if (!is_waiting_) return broken("an answer came that nobody asked for");
  is_waiting_ = false;
  on_answer_(*this, parsed->answer);
  return parsed->bytes;
}

}  // namespace workmill::app
