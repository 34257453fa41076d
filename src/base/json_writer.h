#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"

// Writes JSON text (RFC 8259, UTF-8, no white space) to the end of a string that somebody else owns.
//
// The writer sets commas and escapes; that brackets match and that members have keys is up to its caller. It keeps no
// stack and allocates nothing but the growth of the string. What it writes is valid UTF-8 whatever it is given: bytes
// that are not become U+FFFD. Values only; used by one thread.
namespace workmill {

// A JSON string: quoted, escaped.
void append_json_string(std::string_view text, std::string& out);

class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }

  // The name of the next member. Names are ours, so they hold nothing to escape.
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text) {
    separate();
    append_json_string(text, out_);
    return *this;
  }
  JsonWriter& value(char const* text) { return value(std::string_view{text}); }
  JsonWriter& value(std::same_as<bool> auto truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& value(std::unsigned_integral auto number)
    requires(!std::same_as<decltype(number), bool>)
  {
    return unsigned_number(number);
  }
  JsonWriter& value(std::signed_integral auto number) { return signed_number(number); }
  JsonWriter& value(double number);  // Shortest text that reads back the same; null where it is no finite number.
  JsonWriter& value(Instant at);     // As format_rfc3339.
  JsonWriter& null() { return raw("null"); }
  // JSON text that is written already.
  JsonWriter& raw(std::string_view json) {
    separate();
    out_.append(json);
    return *this;
  }
  // A string that is known to need no escaping: names, hex digits, base64.
  JsonWriter& plain(std::string_view text);
  // A string that `append(out)` writes the inside of, and that needs no escaping either.
  template <class Append>
  JsonWriter& plain_from(Append&& append) {
    separate();
    out_.push_back('"');
    append(out_);
    out_.push_back('"');
    return *this;
  }

  template <class T>
  JsonWriter& member(std::string_view name, T const& content) {
    return key(name).value(content);
  }

 private:
  void separate() {
    if (comma_due_) out_.push_back(',');
    comma_due_ = true;
  }
  JsonWriter& open(char bracket) {
    separate();
    out_.push_back(bracket);
    comma_due_ = false;
    return *this;
  }
  JsonWriter& close(char bracket) {
    out_.push_back(bracket);
    comma_due_ = true;
    return *this;
  }
  JsonWriter& unsigned_number(std::uint64_t number);
  JsonWriter& signed_number(std::int64_t number);

  std::string& out_;
  bool comma_due_ = false;  // A value stands before the next one in the same brackets.
};

}  // namespace workmill
