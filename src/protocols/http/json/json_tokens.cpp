#include "protocols/http/json/json_tokens.h"

#include <simdjson.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/assert.h"
#include "base/digits.h"

namespace workmill::http {
namespace {

// simdjson keeps four bytes for each byte of the longest text. A thread that once had a large one gives that back.
constexpr std::size_t kCapacityMin = std::size_t{64} << 10;
constexpr std::size_t kCapacityKept = std::size_t{4} << 20;

constexpr bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool has_backslash(std::string_view text) {
  return !text.empty() && std::memchr(text.data(), '\\', text.size()) != nullptr;
}

bool is_number(std::string_view text) {
  char const* at = text.data();
  char const* const end = at + text.size();
  auto const digits = [&] {
    char const* const first = at;
    while (at < end && is_digit(*at)) ++at;
    return at - first;
  };
  if (at < end && *at == '-') ++at;
  bool const leading_zero = at < end && *at == '0';
  auto const whole = digits();
  if (whole == 0 || (leading_zero && whole > 1)) return false;
  if (at < end && *at == '.') {
    ++at;
    if (digits() == 0) return false;
  }
  if (at < end && (*at == 'e' || *at == 'E')) {
    ++at;
    if (at < end && (*at == '+' || *at == '-')) ++at;
    if (digits() == 0) return false;
  }
  return at == end;
}

// The four hex digits at the front of `text`.
std::optional<std::uint32_t> hex_unit(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  std::uint32_t unit = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    std::uint8_t const digit = hex_value(text[i]);
    if (digit == kNotHex) return std::nullopt;
    unit = unit << 4 | digit;
  }
  return unit;
}

void append_utf8(std::uint32_t code_point, std::string& out) {
  auto const push = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xc0 | code_point >> 6);
    push(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    push(0xe0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3f));
    push(0x80 | (code_point & 0x3f));
  } else {
    push(0xf0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3f));
    push(0x80 | (code_point >> 6 & 0x3f));
    push(0x80 | (code_point & 0x3f));
  }
}

// The character that an escape of one letter stands for.
std::optional<char> short_escape(char letter) {
  switch (letter) {
    case '"':
    case '\\':
    case '/': return letter;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return std::nullopt;
  }
}

// Takes what stands behind `\u` off the front of `rest`: one unit, or the two of a surrogate pair.
std::optional<std::uint32_t> take_code_point(std::string_view& rest) {
  auto const unit = hex_unit(rest);
  if (!unit) return std::nullopt;
  rest.remove_prefix(4);
  if (*unit < 0xd800 || *unit > 0xdfff) return unit;
  if (*unit > 0xdbff || !rest.starts_with("\\u")) return std::nullopt;
  auto const low = hex_unit(rest.substr(2));
  if (!low || *low < 0xdc00 || *low > 0xdfff) return std::nullopt;
  rest.remove_prefix(6);
  return 0x10000 + ((*unit - 0xd800) << 10) + (*low - 0xdc00);
}

char const* problem_of(simdjson::error_code code) {
  switch (code) {
    case simdjson::EMPTY: return "there is no JSON here";
    case simdjson::UTF8_ERROR: return "the text is not valid UTF-8";
    case simdjson::UNCLOSED_STRING: return "a string is not closed";
    case simdjson::UNESCAPED_CHARS: return "a string holds a control character that is not escaped";
    case simdjson::MEMALLOC: return "there is no memory to read the text";
    default: return "the text cannot be parsed";
  }
}

}  // namespace

// What simdjson calls its first stage. The rest of it is not used.
struct JsonTokens::Simd {
  std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;

  simdjson::error_code index(std::string_view text) {
    bool const too_small = !parser || parser->capacity() < text.size();
    bool const too_large = parser && parser->capacity() > kCapacityKept && text.size() <= kCapacityKept;
    if (too_small || too_large) {
      std::size_t const capacity = std::max(text.size(), kCapacityMin);
      if (auto const error =
              simdjson::get_active_implementation()->create_dom_parser_implementation(capacity, 1, parser)) {
        parser.reset();
        return error;
      }
    }
    return parser->stage1(reinterpret_cast<std::uint8_t const*>(text.data()), text.size(),
                          simdjson::stage1_mode::regular);
  }
};

JsonTokens::JsonTokens() : simd_(std::make_unique<Simd>()) {}
JsonTokens::~JsonTokens() = default;

bool JsonTokens::index(std::string_view text) {
  text_ = text;
  next_ = end_ = nullptr;
  out_of_memory_ = false;
  unescaped_.clear();
  if (unescaped_.capacity() > kCapacityKept) unescaped_.shrink_to_fit();
  if (text.empty()) return malformed(problem_of(simdjson::EMPTY));
  auto const error = simd_->index(text);
  out_of_memory_ = error == simdjson::MEMALLOC;
  if (error) return malformed(problem_of(error));
  next_ = simd_->parser->structural_indexes.get();
  end_ = next_ + simd_->parser->n_structural_indexes;
  return true;
}

bool JsonTokens::done() { return next_ == end_ || malformed("something follows behind the end"); }

std::string_view JsonTokens::token() const {
  if (next_ == end_) return {};
  std::size_t end = next_ + 1 < end_ ? *(next_ + 1) : text_.size();
  while (is_space(text_[end - 1])) --end;  // Ends at the token itself, which is no space.
  return text_.substr(*next_, end - *next_);
}

bool JsonTokens::string(std::string_view& value) {
  std::string_view const quoted = token();
  if (quoted.size() < 2 || quoted.back() != '"') return malformed("a string is not closed");
  std::string_view const raw = quoted.substr(1, quoted.size() - 2);
  if (!has_backslash(raw)) {
    value = raw;
  } else {
    if (unescaped_.empty()) unescaped_.reserve(text_.size());
    std::size_t const before = unescaped_.size();
    if (!unescape(raw, unescaped_)) return false;
    value = std::string_view{unescaped_}.substr(before);
  }
  ++next_;
  return true;
}

bool JsonTokens::key(std::string_view& name) {
  if (peek() != '"') return malformed("the name of a member was expected");
  return string(name) && expect(':');
}

bool JsonTokens::value(std::string_view& span) {
  std::size_t const start = offset();
  if (!skip(0)) return false;
  std::size_t end = offset();
  while (is_space(text_[end - 1])) --end;
  span = text_.substr(start, end - start);
  return true;
}

bool JsonTokens::expected_something_else(char c) {
  switch (c) {
    case ':': return malformed("a colon was expected");
    case ']': return malformed("a comma or ] was expected");
    case '}': return malformed("a comma or } was expected");
    default: return malformed("something else was expected");
  }
}

bool JsonTokens::skip(int depth) {
  switch (peek()) {
    case '{': return skip_members(depth + 1);
    case '[': return skip_elements(depth + 1);
    case '"': return skip_string();
    default: return skip_scalar();
  }
}

bool JsonTokens::skip_members(int depth) {
  if (depth > kJsonDepthMax) return malformed("brackets are nested too deep");
  ++next_;
  if (take('}')) return true;
  do {
    if (peek() != '"') return malformed("the name of a member was expected");
    if (!skip_string() || !expect(':') || !skip(depth)) return false;
  } while (take(','));
  return expect('}');
}

bool JsonTokens::skip_elements(int depth) {
  if (depth > kJsonDepthMax) return malformed("brackets are nested too deep");
  ++next_;
  if (take(']')) return true;
  do {
    if (!skip(depth)) return false;
  } while (take(','));
  return expect(']');
}

bool JsonTokens::skip_string() {
  std::string_view const quoted = token();
  if (quoted.size() < 2 || quoted.back() != '"') return malformed("a string is not closed");
  if (has_backslash(quoted)) {
    std::size_t const before = unescaped_.size();  // Written behind the strings that are lent, and dropped again.
    if (before == 0) unescaped_.reserve(text_.size());
    if (!unescape(quoted.substr(1, quoted.size() - 2), unescaped_)) return false;
    unescaped_.resize(before);
  }
  ++next_;
  return true;
}

bool JsonTokens::skip_scalar() {
  std::string_view const text = token();
  if (!is_number(text) && text != "true" && text != "false" && text != "null") return malformed("a value was expected");
  ++next_;
  return true;
}

bool JsonTokens::unescape(std::string_view raw, std::string& out) {
  WM_ASSERT(out.capacity() - out.size() >= raw.size());  // Nothing is longer unescaped: views into `out` stay good.
  while (!raw.empty()) {
    std::size_t const plain = std::min(raw.find('\\'), raw.size());
    out.append(raw.substr(0, plain));
    raw.remove_prefix(plain);
    if (raw.empty()) break;
    if (raw.size() < 2) return malformed("a string ends in a lone backslash");
    char const letter = raw[1];
    raw.remove_prefix(2);
    if (letter == 'u') {
      auto const code_point = take_code_point(raw);
      if (!code_point) return malformed("a string holds a \\u that stands for no character");
      append_utf8(*code_point, out);
    } else {
      auto const character = short_escape(letter);
      if (!character) return malformed("a string holds an unknown escape");
      out.push_back(*character);
    }
  }
  return true;
}

}  // namespace workmill::http
