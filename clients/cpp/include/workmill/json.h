#pragma once
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "workmill/error.h"

// Payloads and results: from your types to JSON and back.
//
//   struct Resize {
//     std::string image;
//     int width = 0;
//     static constexpr auto json_fields() {
//       return std::tuple{workmill::client::field("image", &Resize::image),
//                         workmill::client::field("width", &Resize::width)};
//     }
//   };
//
// That makes Resize a payload. Fields may be numbers, bool, std::string, std::optional, std::vector, std::map by
// string, Json, and other such types. A field that is missing keeps the value that the type gives it; one of another
// type is `bad_json`; members that are not listed are ignored. For a type of somebody else, or another form, specialise
// Codec.
namespace workmill::client {

// A JSON value that owns what it holds. Objects keep their order.
class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Json(T value) {
    if constexpr (std::is_signed_v<T>)
      value_ = static_cast<std::int64_t>(value);
    else
      value_ = static_cast<std::uint64_t>(value);
  }
  Json(double value) : value_(value) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string{value}) {}
  Json(char const* value) : value_(std::string{value}) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  // bad_json where `text` is none: RFC 8259, UTF-8, nested at most 128 deep.
  static Result<Json> parse(std::string_view text);
  void write(std::string& out) const;  // Appends, without white space. NaN and infinity are written as null.
  std::string dump() const {
    std::string out;
    write(out);
    return out;
  }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  // Null where it is of another type.
  bool const* as_bool() const { return std::get_if<bool>(&value_); }
  std::string const* as_string() const { return std::get_if<std::string>(&value_); }
  Array const* as_array() const { return std::get_if<Array>(&value_); }
  Object const* as_object() const { return std::get_if<Object>(&value_); }
  bool is_number() const;
  std::optional<std::int64_t> as_int() const;    // Where it is a whole number in range.
  std::optional<std::uint64_t> as_uint() const;  // Likewise.
  std::optional<double> as_double() const;       // Of any number.
  // A member of an object; null where there is none, or this is no object.
  Json const* find(std::string_view name) const;
  // "" where there is no such member or it is no string.
  std::string_view text(std::string_view name) const;
  bool operator==(Json const&) const = default;

 private:
  std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Array, Object> value_;
};

// JSON text that is handed on as it is: no parsing, no copy of its parts.
struct RawJson {
  std::string text = "null";
};
// Bytes that are no JSON: `payload_base64` in the API.
struct Bytes {
  std::string data{};
};
// Of a job whose payload does not matter.
struct NoPayload {};

void write_json_string(std::string_view text, std::string& out);  // With quotes. Bytes that are no UTF-8 become U+FFFD.
Result<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

template <class Class, class Value>
struct Field {
  std::string_view name;
  Value Class::* member;
};
template <class Class, class Value>
constexpr Field<Class, Value> field(std::string_view name, Value Class::* member) {
  return {name, member};
}

template <class T>
concept HasJsonFields = requires { T::json_fields(); };

// How a type becomes JSON and comes back. Specialise it with these two.
template <class T>
struct Codec {
  static void write(T const& value, std::string& out);  // Appends one JSON value.
  static Result<> read(Json const& json, T& value);     // bad_json where it does not fit.
};

namespace detail {
std::unexpected<Error> misfit(std::string_view wanted);
Error in_field(Error error, std::string_view name);
void write_double(double value, std::string& out);

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsMap = false;
template <class T, class Less>
inline constexpr bool kIsMap<std::map<std::string, T, Less>> = true;
template <class>
inline constexpr bool kNever = false;

template <class T>
Result<> read_fields(Json const& json, T& value) {
  if (json.as_object() == nullptr) return misfit("an object");
  Result<> result;
  auto const one = [&](auto const& each) {
    Json const* const found = json.find(each.name);
    if (found == nullptr) return true;
    auto& member = value.*each.member;
    auto read = Codec<std::remove_cvref_t<decltype(member)>>::read(*found, member);
    if (!read) result = std::unexpected(in_field(std::move(read).error(), each.name));
    return result.has_value();
  };
  std::apply([&](auto const&... each) { static_cast<void>((one(each) && ...)); }, T::json_fields());
  return result;
}

template <class T>
void write_fields(T const& value, std::string& out) {
  out.push_back('{');
  bool first = true;
  auto const one = [&](auto const& each) {
    auto const& member = value.*each.member;
    using Value = std::remove_cvref_t<decltype(member)>;
    if constexpr (kIsOptional<Value>) {
      if (!member) return;  // Left out, as one does in JSON.
    }
    if (!std::exchange(first, false)) out.push_back(',');
    write_json_string(each.name, out);
    out.push_back(':');
    Codec<Value>::write(member, out);
  };
  std::apply([&](auto const&... each) { (one(each), ...); }, T::json_fields());
  out.push_back('}');
}
}  // namespace detail

template <class T>
void Codec<T>::write(T const& value, std::string& out) {
  if constexpr (std::same_as<T, bool>) {
    out.append(value ? "true" : "false");
  } else if constexpr (std::integral<T>) {
    out.append(std::to_string(value));
  } else if constexpr (std::floating_point<T>) {
    detail::write_double(static_cast<double>(value), out);
  } else if constexpr (std::same_as<T, std::string>) {
    write_json_string(value, out);
  } else if constexpr (std::same_as<T, Json>) {
    value.write(out);
  } else if constexpr (std::same_as<T, RawJson>) {
    out.append(value.text);
  } else if constexpr (detail::kIsOptional<T>) {
    if (value)
      Codec<typename T::value_type>::write(*value, out);
    else
      out.append("null");
  } else if constexpr (detail::kIsVector<T>) {
    out.push_back('[');
    bool first = true;
    for (auto const& each : value) {
      if (!std::exchange(first, false)) out.push_back(',');
      Codec<typename T::value_type>::write(each, out);
    }
    out.push_back(']');
  } else if constexpr (detail::kIsMap<T>) {
    out.push_back('{');
    bool first = true;
    for (auto const& [name, each] : value) {
      if (!std::exchange(first, false)) out.push_back(',');
      write_json_string(name, out);
      out.push_back(':');
      Codec<typename T::mapped_type>::write(each, out);
    }
    out.push_back('}');
  } else if constexpr (HasJsonFields<T>) {
    detail::write_fields(value, out);
  } else {
    static_assert(detail::kNever<T>, "give the type json_fields(), or specialise workmill::client::Codec for it");
  }
}

template <class T>
Result<> Codec<T>::read(Json const& json, T& value) {
  if constexpr (std::same_as<T, bool>) {
    auto const* const found = json.as_bool();
    if (found == nullptr) return detail::misfit("true or false");
    value = *found;
  } else if constexpr (std::signed_integral<T>) {
    auto const found = json.as_int();
    if (!found || !std::in_range<T>(*found)) return detail::misfit("a whole number in range");
    value = static_cast<T>(*found);
  } else if constexpr (std::unsigned_integral<T>) {
    auto const found = json.as_uint();
    if (!found || !std::in_range<T>(*found)) return detail::misfit("a whole number in range, not below zero");
    value = static_cast<T>(*found);
  } else if constexpr (std::floating_point<T>) {
    auto const found = json.as_double();
    if (!found) return detail::misfit("a number");
    value = static_cast<T>(*found);
  } else if constexpr (std::same_as<T, std::string>) {
    auto const* const found = json.as_string();
    if (found == nullptr) return detail::misfit("a string");
    value = *found;
  } else if constexpr (std::same_as<T, Json>) {
    value = json;
  } else if constexpr (std::same_as<T, RawJson>) {
    value.text = json.dump();
  } else if constexpr (detail::kIsOptional<T>) {
    value.reset();
    if (json.is_null()) return {};
    return Codec<typename T::value_type>::read(json, value.emplace());
  } else if constexpr (detail::kIsVector<T>) {
    auto const* const found = json.as_array();
    if (found == nullptr) return detail::misfit("an array");
    value.clear();
    value.reserve(found->size());
    for (Json const& each : *found) {
      typename T::value_type element{};
      if (auto read = Codec<typename T::value_type>::read(each, element); !read) return read;
      value.push_back(std::move(element));
    }
  } else if constexpr (detail::kIsMap<T>) {
    auto const* const found = json.as_object();
    if (found == nullptr) return detail::misfit("an object");
    value.clear();
    for (auto const& [name, each] : *found) {
      typename T::mapped_type element{};
      if (auto read = Codec<typename T::mapped_type>::read(each, element); !read) return read;
      value.insert_or_assign(name, std::move(element));
    }
  } else if constexpr (HasJsonFields<T>) {
    return detail::read_fields(json, value);
  } else {
    static_assert(detail::kNever<T>, "give the type json_fields(), or specialise workmill::client::Codec for it");
  }
  return {};
}

// One JSON text from a value, and back. RawJson takes the text as it is.
template <class T>
std::string to_json(T const& value) {
  std::string out;
  Codec<T>::write(value, out);
  return out;
}
template <class T>
Result<T> from_json(std::string_view text) {
  if constexpr (std::same_as<T, RawJson>) {
    return RawJson{std::string{text}};
  } else {
    auto json = Json::parse(text);
    if (!json) return std::unexpected(std::move(json).error());
    T value{};
    if (auto read = Codec<T>::read(*json, value); !read) return std::unexpected(std::move(read).error());
    return value;
  }
}

}  // namespace workmill::client
