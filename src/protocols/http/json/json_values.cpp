#include "protocols/http/json/json_values.h"

#include <charconv>
#include <cmath>

#include "base/base64.h"

namespace workmill::http {

std::string_view cut(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  std::size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

bool JsonValues::malformed() {
  error_ = Error{.code = tokens_.out_of_memory() ? ErrorCode::overloaded : ErrorCode::malformed_json,
                 .message = fmt::format("{} (at byte {})", tokens_.problem(), tokens_.offset())};
  return false;
}

std::string JsonValues::path(std::string_view child) const {
  std::string text;
  auto const add = [&](std::string_view name) {
    if (name.empty()) return;
    if (!text.empty()) text.push_back('.');
    text.append(name);
  };
  for (std::size_t i = 0; i < depth_; ++i) {
    add(path_[i].name);
    if (auto const& index = path_[i].index) text.append(fmt::format("[{}]", *index));
  }
  add(child);
  return text;
}

bool JsonValues::fail(ErrorCode code, std::string message, std::string_view child) {
  error_ = Error{.code = code, .message = std::move(message), .field = path(child)};
  return false;
}

bool JsonValues::wrong_type(char const* message) {
  std::string_view span;
  return json(span) && invalid(message);
}

bool JsonValues::broken_rule(Error error) {
  error.field = path(error.field);
  error_ = std::move(error);
  return false;
}

bool JsonValues::take_null() {
  if (tokens_.token() != "null") return false;
  std::string_view taken;
  return json(taken);
}

bool JsonValues::name(std::string_view& value) { return string(value) && (is_name(value) || bad_name()); }

bool JsonValues::name(std::string& value) {
  std::string_view view;
  if (!name(view)) return false;
  value = view;
  return true;
}

// The text of a number, which is checked and taken.
bool JsonValues::number_token(std::string_view& text) {
  char const first = tokens_.peek();
  if (first != '-' && (first < '0' || first > '9')) return wrong_type("must be a number");
  return json(text);
}

bool JsonValues::whole_number(std::uint64_t& value, std::uint64_t max) {
  std::string_view text;
  if (!number_token(text)) return false;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool const whole = error == std::errc{} && end == text.data() + text.size();
  if (!whole || value > max) return invalid(fmt::format("must be a whole number from 0 to {}", max));
  return true;
}

bool JsonValues::permille(std::uint32_t& value) {
  std::string_view text;
  if (!number_token(text)) return false;
  double number = 0;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  double const scaled = std::round(number * 1'000);
  bool const fits = error == std::errc{} && end == text.data() + text.size() && number >= 0 && scaled <= 1e9;
  if (!fits || std::abs(number * 1'000 - scaled) > 1e-6) {
    return invalid("must be a positive number with three decimals at most");
  }
  value = static_cast<std::uint32_t>(scaled);
  return true;
}

bool JsonValues::boolean(bool& value) {
  std::string_view const text = tokens_.token();
  if (text != "true" && text != "false") return wrong_type("must be true or false");
  value = text == "true";
  std::string_view taken;
  return json(taken);
}

bool JsonValues::duration(std::optional<Duration>& value) {
  std::string_view text;
  if (!string(text)) return false;
  auto parsed = parse_duration(text);
  if (!parsed) return invalid(std::move(parsed.error().message));
  value = *parsed;
  return true;
}

bool JsonValues::duration(std::optional<Duration>& value, Duration min, Duration max) {
  if (!duration(value)) return false;
  if (value >= min && value <= max) return true;
  return invalid(fmt::format("must be from {} to {}", format_duration(min), format_duration(max)));
}

bool JsonValues::instant(std::optional<Instant>& value) {
  std::string_view text;
  if (!string(text)) return false;
  auto parsed = parse_rfc3339(text);
  if (!parsed) return invalid(std::move(parsed.error().message));
  value = *parsed;
  return true;
}

bool JsonValues::base64(Bytes& bytes) {
  std::string_view text;
  if (!string(text)) return false;
  return decode_base64(text, bytes) || invalid("must be base64 (RFC 4648, with padding)");
}

}  // namespace workmill::http
