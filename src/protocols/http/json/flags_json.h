#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json_writer.h"
#include "flags/evaluation.h"
#include "flags/flag_set.h"
#include "model/reply.h"

// Flags as JSON: their definitions as the public contract has them (docs/reference/flags.md), and the requests of
// OpenFeature's remote evaluation protocol. Pure: no socket. One reader for each I/O thread.
namespace workmill::http {

class FlagsIn {
 public:
  FlagsIn();
  ~FlagsIn();
  FlagsIn(FlagsIn const&) = delete;
  FlagsIn& operator=(FlagsIn const&) = delete;

  struct Definition {
    flags::Flag flag{};
    std::optional<std::uint64_t> version{};  // That it is to take the place of; 0: of none.
  };
  // The body of PUT /v1/flags/{key}. It may be what GET answered: what only the server can say is left out of account,
  // but for the version and the key. As strict as JsonIn, and with its errors.
  Result<Definition> parse_definition(std::string_view body, std::string_view key);

  // Why a request for an evaluation cannot be answered, in the protocol's words.
  struct BadContext {
    std::string_view code;  // "PARSE_ERROR", "INVALID_CONTEXT" or "TARGETING_KEY_MISSING".
    std::string details;
  };
  // {"context": {"targetingKey": …, …}}. Attributes that are no strings, numbers or booleans, and members beside the
  // context, are passed over. `text`: what of the context counts, to tell one from another; lent until the next call.
  std::optional<BadContext> parse_context(std::string_view body, flags::Context& context, std::string_view& text);

 private:
  class Parser;
  std::unique_ptr<Parser> parser_;
};

// {"key", "variants", "default", "enabled", "rules", "gates", "version", "updated_at", "updated_by"?}.
void append_flag(flags::FlagEntry const& entry, std::string& out);
// {"items": [...], "next": cursor or null}: `limit` at most, behind the key `after`.
void append_flags_page(flags::FlagSet const& set, std::string_view after, std::size_t limit, std::string& out);
// {"items": [...], "next": cursor or null}: changes that are kept, newest first, each as the flag then was.
void append_flag_history(FlagHistoryReply const& history, std::string& out);
// {"key", "reason", "variant", "value", "metadata": {"version"}}.
void append_evaluation(flags::FlagEntry const& entry, flags::Evaluation evaluation, JsonWriter& json);

}  // namespace workmill::http
