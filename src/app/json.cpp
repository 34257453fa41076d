#include "app/json.h"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace workmill::app {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD.

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  auto const first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// RFC 8259, section 6. simdjson would also hold a number against the range of a double, which a text does not have.
bool is_number(std::string_view text) {
  auto const digits = [&text] {
    std::size_t count = 0;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      text.remove_prefix(1);
      ++count;
    }
    return count;
  };
  auto const take = [&text](std::string_view one_of) {
    if (text.empty() || !one_of.contains(text.front())) return false;
    text.remove_prefix(1);
    return true;
  };
  take("-");
  bool const zero = text.starts_with('0');
  auto const whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (take(".") && digits() == 0) return false;
  if (take("eE")) {
    take("+-");
    if (digits() == 0) return false;
  }
  return text.empty();
}

bool read_value(ondemand::value source, JsonValue& out, int depth);

bool read_array(ondemand::value source, JsonValue& out, int depth) {
  ondemand::array array;
  if (source.get_array().get(array)) return false;
  if (array.raw_json().get(out.raw)) return false;
  out.raw = trim(out.raw);
  bool has_items = false;
  if (array.reset().get(has_items)) return false;
  for (auto item : array) {
    ondemand::value value;
    if (item.get(value)) return false;
    if (!read_value(value, out.items.emplace_back(), depth + 1)) return false;
  }
  return true;
}

bool read_object(ondemand::value source, JsonValue& out, int depth) {
  ondemand::object object;
  if (source.get_object().get(object)) return false;
  if (object.raw_json().get(out.raw)) return false;
  out.raw = trim(out.raw);
  bool has_members = false;
  if (object.reset().get(has_members)) return false;
  for (auto member : object) {
    std::string_view name;
    ondemand::value value;
    if (member.unescaped_key().get(name)) return false;
    out.names.emplace_back(name);
    if (member.value().get(value)) return false;
    if (!read_value(value, out.items.emplace_back(), depth + 1)) return false;
  }
  return true;
}

bool read_value(ondemand::value source, JsonValue& out, int depth) {
  if (depth > kJsonDepthMax) return false;
  ondemand::json_type type;
  if (source.type().get(type)) return false;
  out.raw = trim(source.raw_json_token());
  switch (type) {
    case ondemand::json_type::array: out.kind = JsonValue::Kind::array; return read_array(source, out, depth);
    case ondemand::json_type::object: out.kind = JsonValue::Kind::object; return read_object(source, out, depth);
    case ondemand::json_type::string: {
      out.kind = JsonValue::Kind::string;
      std::string_view text;
      if (source.get_string().get(text)) return false;
      out.text = text;
      return true;
    }
    case ondemand::json_type::number:
      out.kind = JsonValue::Kind::number;
      // Reading is what moves simdjson on to the next value; whether it is a number, we see for ourselves.
      static_cast<void>(source.get_double().error());
      return is_number(out.raw);
    case ondemand::json_type::boolean: {
      out.kind = JsonValue::Kind::boolean;
      bool value = false;
      return !source.get_bool().get(value);
    }
    case ondemand::json_type::null: {
      bool is_null = false;
      return !source.is_null().get(is_null) && is_null;
    }
  }
  return false;
}

// The length of the character that `text` starts with; 0 where it starts with none (RFC 3629).
std::size_t character_bytes(std::string_view text) {
  auto const at = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  auto const continues = [&at](std::size_t i) { return (at(i) & 0xC0u) == 0x80u; };
  unsigned const lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    bool const overlong = lead == 0xE0 && at(1) < 0xA0;
    bool const surrogate = lead == 0xED && at(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    bool const overlong = lead == 0xF0 && at(1) < 0x90;
    bool const beyond = lead == 0xF4 && at(1) >= 0x90;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

}  // namespace

JsonValue const* JsonValue::find(std::string_view name) const {
  auto const found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? nullptr : &items[static_cast<std::size_t>(found - names.begin())];
}

JsonValue const* JsonValue::find_set(std::string_view name) const {
  auto const* value = find(name);
  return value != nullptr && value->kind != Kind::null ? value : nullptr;
}

std::string_view JsonValue::string_at(std::string_view name, std::string_view fallback) const {
  auto const* value = find(name);
  return value != nullptr && value->kind == Kind::string ? std::string_view{value->text} : fallback;
}

std::uint64_t JsonValue::number_at(std::string_view name, std::uint64_t fallback) const {
  auto const* value = find(name);
  if (value == nullptr || value->kind != Kind::number) return fallback;
  std::uint64_t number = 0;
  auto const [stopped, error] = std::from_chars(value->raw.data(), value->raw.data() + value->raw.size(), number);
  return error == std::errc{} && stopped == value->raw.data() + value->raw.size() ? number : fallback;
}

double JsonValue::real_at(std::string_view name, double fallback) const {
  auto const* value = find(name);
  if (value == nullptr || value->kind != Kind::number) return fallback;
  double number = 0;
  auto const [stopped, error] = std::from_chars(value->raw.data(), value->raw.data() + value->raw.size(), number);
  return error == std::errc{} && stopped == value->raw.data() + value->raw.size() ? number : fallback;
}

bool JsonValue::flag_at(std::string_view name) const {
  auto const* value = find(name);
  return value != nullptr && value->is_true();
}

Result<JsonDocument> parse_json(std::string_view text) {
  auto const malformed = [] { return fail(ErrorCode::malformed_json, "this is not JSON"); };
  // Inside of an array every value is an ordinary one: simdjson treats one that stands alone in many special ways.
  auto bytes = std::make_unique<std::string>();
  bytes->reserve(text.size() + 2 + simdjson::SIMDJSON_PADDING);
  bytes->append("[").append(text).append("]");

  ondemand::parser parser;
  ondemand::document document;
  simdjson::padded_string_view const padded{bytes->data(), bytes->size(), bytes->capacity()};
  if (parser.iterate(padded).get(document)) return malformed();
  ondemand::array array;
  if (document.get_array().get(array)) return malformed();
  JsonDocument result;
  std::size_t count = 0;
  for (auto item : array) {
    ondemand::value value;
    if (++count > 1 || item.get(value) || !read_value(value, result.root_, 0)) return malformed();
  }
  char const* rest = nullptr;  // There is none: asking where it is, is an error.
  if (count != 1 || !document.current_location().get(rest)) return malformed();
  result.bytes_ = std::move(bytes);
  return result;
}

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string repair_utf8(std::string_view text) {
  if (is_utf8(text)) return std::string{text};
  std::string out;
  out.reserve(text.size() + 16);
  while (!text.empty()) {
    auto const length = character_bytes(text);
    out.append(length == 0 ? kReplacement : text.substr(0, length));
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return out;
}

}  // namespace workmill::app
