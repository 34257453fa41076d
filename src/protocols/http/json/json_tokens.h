#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

// One JSON text as a sequence of tokens, to be walked once from its front to its end.
//
// simdjson finds where the tokens begin, and checks that the text is UTF-8 and its strings are closed and free of
// control characters; this checks the rest of the grammar (RFC 8259) as it goes, so that a text which was walked to
// done() is valid JSON, whatever was skipped. Its own document classes are not used: they do not check what is skipped,
// or do not say where in the text a value stands, and we hand payloads on as they were sent.
//
// Functions that answer bool answer false where the text is malformed, and then problem() says what and where; after
// that nothing else may be called but index(). One thread. Used again for text after text, it allocates nothing.
namespace workmill::http {

// How deep brackets may be nested.
inline constexpr int kJsonDepthMax = 128;

class JsonTokens {
 public:
  JsonTokens();
  ~JsonTokens();
  JsonTokens(JsonTokens const&) = delete;
  JsonTokens& operator=(JsonTokens const&) = delete;

  // Begins with a text, which is lent until the next one.
  bool index(std::string_view text);
  // Everything was walked, and nothing comes behind it.
  bool done();

  // The first character of the next token: one of {}[]:," or that of a number or a literal. 0 at the end.
  char peek() const { return next_ < end_ ? text_[*next_] : '\0'; }
  // Takes the next token if it is this bracket, comma or colon.
  bool take(char c) {
    if (peek() != c) return false;
    ++next_;
    return true;
  }
  // Takes it, or the text is malformed.
  bool expect(char c) { return take(c) || expected_something_else(c); }
  // The next token's text: a number or a literal. Does not take it.
  std::string_view token() const;

  // Takes a string: peek() is '"'. The view borrows from the text, or from this until the next text.
  bool string(std::string_view& value);
  // The same for the name of a member, and the colon behind it.
  bool key(std::string_view& name);
  // Takes a value of any kind, and says where it stood.
  bool value(std::string_view& span);

  // Where a problem is, or the next token: bytes from the start of the text.
  std::size_t offset() const { return next_ < end_ ? *next_ : text_.size(); }
  char const* problem() const { return problem_; }
  // The problem is not the text's: there was no memory to read it.
  bool out_of_memory() const { return out_of_memory_; }

 private:
  struct Simd;

  bool malformed(char const* problem) {
    problem_ = problem;
    return false;
  }
  bool expected_something_else(char c);
  bool skip(int depth);
  bool skip_members(int depth);
  bool skip_elements(int depth);
  bool skip_string();
  bool skip_scalar();
  bool unescape(std::string_view raw, std::string& out);

  std::unique_ptr<Simd> simd_;
  std::string_view text_;
  std::uint32_t const* next_ = nullptr;
  std::uint32_t const* end_ = nullptr;
  std::string
      unescaped_;  // Strings that had escapes. As large as the text before the first one, so that it never moves.
  char const* problem_ = "";
  bool out_of_memory_ = false;
};

}  // namespace workmill::http
