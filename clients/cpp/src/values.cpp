// Errors, JSON, base64: what has no state.
#include <openssl/evp.h>
#include <simdjson.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "text.h"
#include "wire.h"
#include "workmill/error.h"
#include "workmill/jobs.h"
#include "workmill/json.h"

namespace workmill::client {
namespace {

constexpr int kDepthMax = 128;

Result<Json> from_element(simdjson::dom::element element) {
  using simdjson::dom::element_type;
  switch (element.type()) {
    case element_type::NULL_VALUE: return Json{};
    case element_type::BOOL: return Json{bool{element.get_bool().value_unsafe()}};
    case element_type::INT64: return Json{std::int64_t{element.get_int64().value_unsafe()}};
    case element_type::UINT64: return Json{std::uint64_t{element.get_uint64().value_unsafe()}};
    case element_type::DOUBLE: return Json{double{element.get_double().value_unsafe()}};
    case element_type::STRING: return Json{std::string_view{element.get_string().value_unsafe()}};
    case element_type::ARRAY: {
      Json::Array items;
      // By a name: a range-for keeps only the last of its temporaries, before C++23's P2718, and this is inside of one.
      simdjson::dom::array const array = element.get_array().value_unsafe();
      for (auto const item : array) {
        auto value = from_element(item);  // As deep as the parser lets it be: kDepthMax.
        if (!value) return value;
        items.push_back(*std::move(value));
      }
      return Json{std::move(items)};
    }
    case element_type::OBJECT: {
      Json::Object members;
      simdjson::dom::object const object = element.get_object().value_unsafe();
      for (auto const member : object) {
        auto value = from_element(member.value);
        if (!value) return value;
        members.emplace_back(std::string{member.key}, *std::move(value));
      }
      return Json{std::move(members)};
    }
  }
  return Json{};
}

// Good until the next one on this thread.
Result<simdjson::dom::element> parse_element(std::string_view text) {
  // A parser's buffers are worth keeping: one for each thread.
  thread_local simdjson::dom::parser parser;
  if (parser.max_depth() != kDepthMax && parser.allocate(text.size(), kDepthMax) != simdjson::SUCCESS) {
    return fail(ErrorClass::retryable, "bad_json", "no memory to parse with");
  }
  simdjson::dom::element root;
  if (auto const error = parser.parse(text.data(), text.size()).get(root); error != simdjson::SUCCESS) {
    return fail(ErrorClass::user, "bad_json", simdjson::error_message(error));
  }
  return root;
}

constexpr std::size_t kBase64Max = std::size_t{1} << 30;  // OpenSSL counts by int; the server takes 8 MiB.

}  // namespace

std::string_view to_string(ErrorClass value) {
  switch (value) {
    case ErrorClass::user: return "user";
    case ErrorClass::retryable: return "retryable";
    case ErrorClass::fatal: return "fatal";
  }
  return "fatal";
}

std::string describe(Error const& error) {
  std::string text = error.code + ": " + error.message;
  if (!error.field.empty()) text += " (field " + error.field + ")";
  return text;
}

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::scheduled: return "scheduled";
    case JobState::ready: return "ready";
    case JobState::leased: return "leased";
    case JobState::completed: return "completed";
    case JobState::dead: return "dead";
    case JobState::cancelled: return "cancelled";
  }
  return "dead";
}

std::string_view to_string(WhenFull value) {
  switch (value) {
    case WhenFull::refuse: return "refuse";
    case WhenFull::drop_oldest: return "drop_oldest";
  }
  return "refuse";
}

// ---- Json

Result<Json> Json::parse(std::string_view text) {
  auto const root = parse_element(text);
  if (!root) return std::unexpected(root.error());
  return from_element(*root);
}

Result<> detail::check_json(std::string_view text) {
  auto const root = parse_element(text);
  if (!root) return std::unexpected(root.error());
  return {};
}

void Json::write(std::string& out) const {
  struct Writer {
    std::string& out;
    void operator()(std::monostate) const { out += "null"; }
    void operator()(bool value) const { out += value ? "true" : "false"; }
    void operator()(std::int64_t value) const { out += std::to_string(value); }
    void operator()(std::uint64_t value) const { out += std::to_string(value); }
    void operator()(double value) const { detail::write_double(value, out); }
    void operator()(std::string const& value) const { write_json_string(value, out); }
    void operator()(Array const& items) const {
      out += '[';
      for (std::size_t i = 0; i < items.size(); ++i) {
        if (i > 0) out += ',';
        items[i].write(out);
      }
      out += ']';
    }
    void operator()(Object const& members) const {
      out += '{';
      for (std::size_t i = 0; i < members.size(); ++i) {
        if (i > 0) out += ',';
        write_json_string(members[i].first, out);
        out += ':';
        members[i].second.write(out);
      }
      out += '}';
    }
  };
  std::visit(Writer{out}, value_);
}

bool Json::is_number() const {
  return std::holds_alternative<std::int64_t>(value_) || std::holds_alternative<std::uint64_t>(value_) ||
         std::holds_alternative<double>(value_);
}

std::optional<std::int64_t> Json::as_int() const {
  if (auto const* const value = std::get_if<std::int64_t>(&value_)) return *value;
  if (auto const* const value = std::get_if<std::uint64_t>(&value_);
      value != nullptr && std::in_range<std::int64_t>(*value)) {
    return static_cast<std::int64_t>(*value);
  }
  return std::nullopt;
}

std::optional<std::uint64_t> Json::as_uint() const {
  if (auto const* const value = std::get_if<std::uint64_t>(&value_)) return *value;
  if (auto const* const value = std::get_if<std::int64_t>(&value_); value != nullptr && *value >= 0) {
    return static_cast<std::uint64_t>(*value);
  }
  return std::nullopt;
}

std::optional<double> Json::as_double() const {
  if (auto const* const value = std::get_if<double>(&value_)) return *value;
  if (auto const* const value = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*value);
  if (auto const* const value = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*value);
  return std::nullopt;
}

Json const* Json::find(std::string_view name) const {
  auto const* const members = as_object();
  if (members == nullptr) return nullptr;
  for (auto const& [key, value] : *members) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::string_view Json::text(std::string_view name) const {
  Json const* const found = find(name);
  std::string const* const value = found != nullptr ? found->as_string() : nullptr;
  return value != nullptr ? std::string_view{*value} : std::string_view{};
}

void write_json_string(std::string_view text, std::string& out) {
  static constexpr std::string_view kHex = "0123456789abcdef";
  out.reserve(out.size() + text.size() + 2);
  out.push_back('"');
  std::size_t plain = 0;  // From here to `i` nothing needs to change.
  auto const flush = [&](std::size_t to) { out.append(text.substr(plain, to - plain)); };
  for (std::size_t i = 0; i < text.size();) {
    auto const c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    if (std::size_t const length = c >= 0x80 ? detail::utf8_length(text, i) : 0; length > 0) {
      i += length;
      continue;
    }
    flush(i);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (c >= 0x80) {
          out += "\xEF\xBF\xBD";
        } else {
          out += "\\u00";
          out.push_back(kHex[c >> 4]);
          out.push_back(kHex[c & 15]);
        }
    }
    plain = ++i;
  }
  flush(text.size());
  out.push_back('"');
}

Result<std::string> decode_base64(std::string_view text) {
  auto const bad = [] { return fail(ErrorClass::user, "bad_json", "is not base64 (RFC 4648, with padding)"); };
  if (text.empty()) return std::string{};
  if (text.size() % 4 != 0 || text.size() > kBase64Max) return bad();
  // OpenSSL forgives white space at the ends, and does not say how much was padding.
  std::size_t const padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  if (text.substr(0, text.size() - padding).find_first_of(" \t\r\n=") != std::string_view::npos) return bad();
  std::string out(text.size() / 4 * 3, '\0');
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
  int const length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<unsigned char const*>(text.data()),
                      static_cast<int>(text.size()));
  if (length < 0) return bad();
  out.resize(static_cast<std::size_t>(length) - padding);
  return out;
}

std::string encode_base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // And the NUL that OpenSSL writes.
  int const length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<unsigned char const*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

namespace detail {

std::unexpected<Error> misfit(std::string_view wanted) {
  return fail(ErrorClass::user, "bad_json", "is not " + std::string{wanted});
}

Error in_field(Error error, std::string_view name) {
  error.field = error.field.empty() ? std::string{name} : std::string{name} + "." + error.field;
  return error;
}

void write_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  std::array<char, 32> digits;
  auto const [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  out.append(digits.data(), end);
}

Error bad_payload(Error error) {
  error.message = describe(error);
  error.code = "bad_payload";
  error.error_class = ErrorClass::user;
  return error;
}

}  // namespace detail
}  // namespace workmill::client
