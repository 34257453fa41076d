#pragma once
#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/time.h"
#include "model/ids.h"
#include "protocols/http/field_names.h"
#include "protocols/http/json/json_tokens.h"

// The kinds of values that requests are made of, each read strictly off a walk over a JSON text.
//
// Every function takes one value from the tokens and answers whether all is well. Where it is not, error() says why,
// with the full name of the field ("jobs[17].backoff.first"), and whoever called gives up at once. One thread; lent
// strings are good until the next begin().
namespace workmill::http {

// Which fields of an object have been seen.
class Seen {
 public:
  template <class Field>
  bool has(Field field) const {
    return (bits_ >> std::to_underlying(field) & 1) != 0;
  }
  bool add(std::size_t place) {  // False where it was there already.
    std::uint32_t const bit = std::uint32_t{1} << place;
    bool const first = (bits_ & bit) == 0;
    bits_ |= bit;
    return first;
  }
  bool only(std::size_t place) const { return bits_ == std::uint32_t{1} << place; }

 private:
  std::uint32_t bits_ = 0;
};

// The longest beginning of `text`, `bytes_max` at most, that does not end inside of a character.
std::string_view cut(std::string_view text, std::size_t bytes_max);

class JsonValues {
 public:
  bool begin(std::string_view body) {
    depth_ = 0;
    return tokens_.index(body) || malformed();
  }
  bool end() { return tokens_.done() || malformed(); }
  Error take_error() { return std::move(error_); }

  // --- Saying no. Always false. `child` is a field of the object under way, empty for the value under way.
  bool fail(ErrorCode code, std::string message, std::string_view child = {});
  bool invalid(std::string message, std::string_view child = {}) {
    return fail(ErrorCode::invalid_field, std::move(message), child);
  }
  bool missing(std::string_view child) { return fail(ErrorCode::missing_field, "is required", child); }
  bool not_yet() { return invalid("is not supported by this version yet"); }
  bool bad_name() { return invalid("must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"); }
  // The next value is of another type; or it is none at all, and then that is what is wrong.
  bool wrong_type(char const* message);
  // A rule of the model's that the object under way breaks: its field is counted from there.
  bool broken_rule(Error error);

  // --- Containers.
  char peek() const { return tokens_.peek(); }
  bool take_null();  // True where null was there; the text is well-formed either way.
  // Calls `on_field` with the place of each member in `names`.
  template <std::size_t N, class OnField>
  bool members(FieldNames<N> const& names, Seen& seen, OnField&& on_field);
  // An object whose members may have any name: calls `on_member` with each, `max` at most.
  template <class OnMember>
  bool dictionary(std::size_t max, OnMember&& on_member);
  // Calls `on_element` for each element, `max` at most.
  template <class OnElement>
  bool elements(std::size_t max, OnElement&& on_element);

  // --- Values.
  bool json(std::string_view& span) { return tokens_.value(span) || malformed(); }  // Any, as it was sent.
  bool json_object(std::string_view& span) { return peek() == '{' ? json(span) : wrong_type("must be an object"); }
  bool string(std::string_view& value) {
    return peek() == '"' ? tokens_.string(value) || malformed() : wrong_type("must be a string");
  }
  bool filled_string(std::string_view& value) {
    return string(value) && (!value.empty() || invalid("must not be empty"));
  }
  bool name(std::string_view& value);
  bool name(std::string& value);
  bool whole_number(std::uint64_t& value, std::uint64_t max);
  template <class T>
  bool whole_number(std::optional<T>& value) {  // As large as T can hold.
    std::uint64_t wide = 0;
    if (!whole_number(wide, std::numeric_limits<T>::max())) return false;
    value = static_cast<T>(wide);
    return true;
  }
  bool permille(std::uint32_t& value);  // A number with three decimals at most, in thousandths.
  bool boolean(bool& value);
  bool duration(std::optional<Duration>& value);
  bool duration(std::optional<Duration>& value, Duration min, Duration max);
  bool instant(std::optional<Instant>& value);
  bool base64(Bytes& bytes);
  template <class T>
  bool choice(T& value, std::optional<T> (*parse)(std::string_view), char const* message);

 private:
  struct PathPart {
    std::string_view name;
    std::optional<std::size_t> index;
  };
  static constexpr std::size_t kObjectsMax = 8;  // Nested in each other. No request has more.

  bool malformed();
  bool number_token(std::string_view& text);
  std::string path(std::string_view child) const;

  JsonTokens tokens_;
  Error error_{};
  std::array<PathPart, kObjectsMax> path_{};
  std::size_t depth_ = 0;
};

template <std::size_t N, class OnField>
bool JsonValues::members(FieldNames<N> const& names, Seen& seen, OnField&& on_field) {
  if (!tokens_.take('{')) return wrong_type(depth_ == 0 ? "the body must be a JSON object" : "must be an object");
  if (tokens_.take('}')) return true;
  WM_ASSERT(depth_ < path_.size());
  do {
    std::string_view key;
    if (!tokens_.key(key)) return malformed();
    auto const place = names.find(key);
    if (!place) return fail(ErrorCode::unknown_field, "there is no such field", cut(key, kNameBytesMax));
    if (!seen.add(*place)) return invalid("must not come twice", names.name(*place));
    path_[depth_++] = {.name = names.name(*place), .index = {}};
    if (!on_field(*place)) return false;
    --depth_;
  } while (tokens_.take(','));
  return tokens_.expect('}') || malformed();
}

template <class OnMember>
bool JsonValues::dictionary(std::size_t max, OnMember&& on_member) {
  if (!tokens_.take('{')) return wrong_type("must be an object");
  if (tokens_.take('}')) return true;
  WM_ASSERT(depth_ < path_.size());
  std::size_t count = 0;
  do {
    if (count++ == max) return invalid(fmt::format("must be {} at most", max));
    std::string_view key;
    if (!tokens_.key(key)) return malformed();
    path_[depth_++] = {.name = cut(key, kNameBytesMax), .index = {}};
    if (!on_member(key)) return false;
    --depth_;
  } while (tokens_.take(','));
  return tokens_.expect('}') || malformed();
}

template <class OnElement>
bool JsonValues::elements(std::size_t max, OnElement&& on_element) {
  if (!tokens_.take('[')) return wrong_type("must be an array");
  if (tokens_.take(']')) return true;
  WM_ASSERT(depth_ > 0);  // Arrays are members of objects.
  auto& index = path_[depth_ - 1].index;
  std::size_t count = 0;
  do {
    if (count == max) {
      index.reset();
      return invalid(fmt::format("must be {} at most", max));
    }
    index = count++;
    if (!on_element()) return false;
  } while (tokens_.take(','));
  index.reset();
  return tokens_.expect(']') || malformed();
}

template <class T>
bool JsonValues::choice(T& value, std::optional<T> (*parse)(std::string_view), char const* message) {
  std::string_view text;
  if (!string(text)) return false;
  auto const parsed = parse(text);
  if (!parsed) return invalid(message);
  value = *parsed;
  return true;
}

}  // namespace workmill::http
