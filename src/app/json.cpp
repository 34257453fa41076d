#include "app/json.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <iterator>
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
  auto const* const end = value->raw.data() + value->raw.size();
  auto const [stopped, error] = std::from_chars(value->raw.data(), end, number);
  return error == std::errc{} && stopped == end ? number : fallback;
}

double JsonValue::real_at(std::string_view name, double fallback) const {
  auto const* value = find(name);
  if (value == nullptr || value->kind != Kind::number) return fallback;
  double number = 0;
  auto const* const end = value->raw.data() + value->raw.size();
  auto const [stopped, error] = std::from_chars(value->raw.data(), end, number);
  return error == std::errc{} && stopped == end ? number : fallback;
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

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  while (!text.empty()) {
    auto const length = character_bytes(text);
    char const c = text.front();
    if (length == 0) {
      out.append(kReplacement);
    } else if (length > 1) {
      out.append(text.substr(0, length));
    } else if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out.append("\\n");
    } else if (c == '\t') {
      out.append("\\t");
    } else if (static_cast<unsigned char>(c) < 0x20) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out.push_back(c);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  out.push_back('"');
}

std::string json_string(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  append_json_string(out, text);
  return out;
}

std::string encode_base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // The library also writes a zero behind it.
  // OpenSSL takes bytes as unsigned char and lengths as int; a payload is far below that.
  auto const length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<unsigned char const*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty()) return std::string{};
  if (text.size() % 4 != 0 || text.find_first_of(" \t\r\n") != std::string_view::npos) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  auto const length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<unsigned char const*>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  // It counts what the padding stands for.
  std::size_t const padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  bytes.resize(static_cast<std::size_t>(length) - padding);
  return bytes;
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

void JsonWriter::comma() {
  if (!first_) out_.push_back(',');
  first_ = false;
}

JsonWriter& JsonWriter::open(char bracket) {
  comma();
  out_.push_back(bracket);
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  out_.push_back(bracket);
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::name(std::string_view name) {
  comma();
  append_json_string(out_, name);
  out_.push_back(':');
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
  comma();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::number(std::uint64_t value) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}", value);
  return *this;
}

JsonWriter& JsonWriter::real(double value) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}", value);
  return *this;
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  comma();
  out_.append(json);
  return *this;
}

}  // namespace workmill::app
