#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

// JSON for the command line: reading what a server answers and what a user gives. base/json_writer.h writes.
//
// Not for hot paths: a value becomes a tree of strings. What it gains is that every value keeps its own text exactly as
// it was written, so a payload or a result is handed on byte by byte, whatever its numbers look like.
namespace workmill::app {

struct JsonValue {
  enum class Kind : std::uint8_t { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string_view raw;            // As written, without the space around it. Lives as long as its JsonDocument.
  std::string text;                // Of a string: what it says.
  std::vector<std::string> names;  // Of an object: one for each of `items`.
  std::vector<JsonValue> items;    // Of an array or an object.

  // The member of that name; nullptr where there is none, or where this is no object.
  JsonValue const* find(std::string_view name) const;
  // The same, but null is as good as absent.
  JsonValue const* find_set(std::string_view name) const;
  bool is_true() const { return kind == Kind::boolean && raw == "true"; }
  // What a person wants to see of it: a string's text, everything else as written.
  std::string_view shown() const { return kind == Kind::string ? std::string_view{text} : raw; }

  // Members that are expected to be there and of that kind; `fallback` where they are not.
  std::string_view string_at(std::string_view name, std::string_view fallback = {}) const;
  std::uint64_t number_at(std::string_view name, std::uint64_t fallback = 0) const;  // Whole and not negative.
  double real_at(std::string_view name, double fallback = 0) const;
  bool flag_at(std::string_view name) const;
};

// A parsed text. It owns the bytes that its values point into; moving it keeps them valid.
class JsonDocument {
 public:
  JsonValue const& root() const { return root_; }
  JsonValue const* operator->() const { return &root_; }

 private:
  friend Result<JsonDocument> parse_json(std::string_view text);
  std::unique_ptr<std::string const> bytes_;
  JsonValue root_;
};

inline constexpr int kJsonDepthMax = 500;

// One JSON value, with nothing but space around it. malformed_json for everything else, for bytes that are not UTF-8
// and for nesting deeper than kJsonDepthMax. The value may be empty of meaning, such as `null`.
Result<JsonDocument> parse_json(std::string_view text);

bool is_utf8(std::string_view text);
// `text`, with U+FFFD in place of each byte that belongs to no character.
std::string repair_utf8(std::string_view text);

}  // namespace workmill::app
