#include "protocols/http/json/flags_json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/base64.h"
#include "model/ids.h"
#include "protocols/http/json/json_values.h"

namespace workmill::http {
namespace {

enum class FlagField : std::uint8_t {
  key,
  variants,
  default_variant,
  enabled,
  rules,
  gates,
  version,
  updated_at,
  updated_by,
};
constexpr FieldNames<9> kFlagFields{
    {"key", "variants", "default", "enabled", "rules", "gates", "version", "updated_at", "updated_by"}};
enum class RuleField : std::uint8_t { conditions, variant, rollout };
constexpr FieldNames<3> kRuleFields{{"if", "variant", "rollout"}};

constexpr std::size_t kStringBytesMax = flags::kFlagBytesMax;

// A rule whose variants are names still, since they may come before the variants themselves.
struct NamedRule {
  flags::Rule rule;
  std::string variant;
  std::vector<std::pair<std::string, std::uint32_t>> shares;
};

}  // namespace

class FlagsIn::Parser : private JsonValues {
 public:
  Result<Definition> definition(std::string_view body, std::string_view key) {
    Definition parsed;
    if (begin(body) && flag(parsed, key) && end()) return parsed;
    return std::unexpected(take_error());
  }

  std::optional<BadContext> context(std::string_view body, flags::Context& context, std::string_view& text) {
    text_.clear();
    has_key_ = false;
    bad_.reset();
    bool has_context = false;
    std::string_view span;
    if (!begin(body)) return no_json();
    if (peek() != '{') {
      if (!json(span) || !end()) return no_json();
      return BadContext{.code = "INVALID_CONTEXT", .details = "the body must be an object with a context"};
    }
    bool const well = dictionary(SIZE_MAX, [&](std::string_view name) {
      if (name != "context" || has_context) return json(span);
      has_context = true;
      return attributes(context);
    });
    if (!well || !end()) return no_json();
    if (!has_context) return BadContext{.code = "INVALID_CONTEXT", .details = "context is required"};
    if (bad_) return std::move(bad_);
    if (!has_key_) return BadContext{.code = "TARGETING_KEY_MISSING", .details = "context.targetingKey is required"};
    text = text_;
    return std::nullopt;
  }

 private:
  bool flag(Definition& parsed, std::string_view key) {
    std::string default_variant;
    std::vector<NamedRule> rules;
    Seen seen;
    bool const well = members(kFlagFields, seen, [&](std::size_t place) {
      std::string_view text;
      switch (static_cast<FlagField>(place)) {
        case FlagField::key: return string(text) && (text == key || invalid("is another one than that of the path"));
        case FlagField::variants: return variants(parsed.flag);
        case FlagField::default_variant: return name(default_variant);
        case FlagField::enabled: return boolean(parsed.flag.enabled);
        case FlagField::rules: return elements(flags::kRulesMax, [&] { return rule(rules.emplace_back()); });
        case FlagField::gates:
          return elements(flags::kGatesMax, [&] { return name(parsed.flag.gates.emplace_back()); });
        case FlagField::version: return whole_number(parsed.version);
        case FlagField::updated_at:
        case FlagField::updated_by: return json(text);
      }
      return false;
    });
    if (!well) return false;
    if (!seen.has(FlagField::variants)) return missing("variants");
    if (!seen.has(FlagField::default_variant)) return missing("default");
    if (parsed.flag.variants.empty()) return invalid("must not be empty", "variants");
    return resolve(parsed.flag, default_variant, std::move(rules));
  }

  bool variants(flags::Flag& flag) {
    return dictionary(flags::kVariantsMax, [&](std::string_view variant) {
      if (!is_name(variant)) return bad_name();
      flags::Variant& made = flag.variants.emplace_back();
      made.name = variant;
      return value(made.value, true);
    });
  }

  bool value(flags::Value& value, bool may_be_object) {
    std::string_view text;
    switch (peek()) {
      case '"':
        if (!string(text)) return false;
        if (text.size() > kStringBytesMax) return invalid("is too long");
        value = flags::string_value(text);
        return true;
      case 't':
      case 'f': {
        bool truth = false;
        if (!boolean(truth)) return false;
        value = flags::boolean_value(truth);
        return true;
      }
      case '{':
        if (!may_be_object) return wrong_type("must be a boolean, a string or a number");
        if (!json(text)) return false;
        value = {.kind = flags::ValueKind::object, .text = std::string{text}};
        return true;
      default: break;
    }
    char const first = peek();
    if (first != '-' && (first < '0' || first > '9')) return wrong_type("must be a boolean, a string or a number");
    return json(text) && (flags::parse_number(text, value) || invalid("must be a number that a double can hold"));
  }

  bool rule(NamedRule& parsed) {
    Seen seen;
    bool const well = members(kRuleFields, seen, [&](std::size_t place) {
      switch (static_cast<RuleField>(place)) {
        case RuleField::conditions: return conditions(parsed.rule);
        case RuleField::variant: return name(parsed.variant);
        case RuleField::rollout: return rollout(parsed);
      }
      return false;
    });
    if (!well) return false;
    parsed.rule.is_rollout = seen.has(RuleField::rollout);
    if (seen.has(RuleField::variant) == parsed.rule.is_rollout) {
      return invalid("needs a variant or a rollout, and not both");
    }
    return true;
  }

  bool conditions(flags::Rule& rule) {
    return dictionary(flags::kConditionsMax, [&](std::string_view attribute) {
      flags::Condition& condition = rule.conditions.emplace_back();
      condition.attribute = attribute;
      return elements(flags::kOperandsMax, [&] { return value(condition.values.emplace_back(), false); });
    });
  }

  bool rollout(NamedRule& parsed) {
    return dictionary(flags::kVariantsMax, [&](std::string_view variant) {
      std::uint64_t weight = 0;
      if (!whole_number(weight, flags::kWeightMax)) return false;
      auto const is_same = [&](auto const& share) { return share.first == variant; };
      if (std::any_of(parsed.shares.begin(), parsed.shares.end(), is_same)) return invalid("must not come twice");
      parsed.shares.emplace_back(variant, static_cast<std::uint32_t>(weight));
      return true;
    });
  }

  // Names into places, and then the rules of the contract.
  bool resolve(flags::Flag& flag, std::string const& default_variant, std::vector<NamedRule> rules) {
    auto const place_of = [&](std::string_view variant, std::uint32_t& place) {
      auto const found = std::find_if(flag.variants.begin(), flag.variants.end(),
                                      [&](flags::Variant const& it) { return it.name == variant; });
      place = static_cast<std::uint32_t>(found - flag.variants.begin());
      return found != flag.variants.end();
    };
    if (!place_of(default_variant, flag.default_variant)) return invalid("names no variant", "default");
    for (std::size_t i = 0; i < rules.size(); ++i) {
      NamedRule& named = rules[i];
      std::string const field = fmt::format("rules[{}].", i);
      if (!named.rule.is_rollout && !place_of(named.variant, named.rule.variant)) {
        return invalid("names no variant", field + "variant");
      }
      for (auto const& [variant, weight] : named.shares) {
        std::uint32_t place = 0;
        if (!place_of(variant, place)) return invalid("names no variant", field + "rollout");
        named.rule.shares.push_back({.variant = place, .weight = weight});
      }
      flag.rules.push_back(std::move(named.rule));
    }
    if (auto checked = flags::check_flag(flag); !checked) return broken_rule(std::move(checked).error());
    return true;
  }

  BadContext no_json() { return {.code = "PARSE_ERROR", .details = take_error().message}; }
  void refuse(char const* details) {
    if (!bad_) bad_ = BadContext{.code = "INVALID_CONTEXT", .details = details};
  }

  // The value of "context". What is wrong with it is noted, and the walk goes on: the body must be JSON first.
  bool attributes(flags::Context& context) {
    std::string_view span;
    if (peek() != '{') {
      refuse("context must be an object");
      return json(span);
    }
    return dictionary(SIZE_MAX, [&](std::string_view name) {
      bool const is_key = name == "targetingKey";
      flags::Value value;
      if (peek() == '"') {
        if (!string(span)) return false;
        value = flags::string_value(span);
      } else if (!json(span)) {
        return false;
      } else if (span == "true" || span == "false") {
        value = flags::boolean_value(span == "true");
      } else if (!flags::parse_number(span, value)) {
        if (is_key && span != "null") refuse("context.targetingKey must be a string");
        return true;  // Null, a list or an object: no rule can name it.
      }
      if (is_key && value.kind != flags::ValueKind::string) refuse("context.targetingKey must be a string");
      if (is_key) has_key_ = !value.text.empty();
      if (context.size() == flags::kContextAttributesMax) refuse("a context has 256 attributes at most");
      if (bad_) return true;
      text_.append(name).append(1, '\x1f').append(to_string(value.kind)).append(value.text).append(1, '\x1e');
      context.add(name, std::move(value));
      return true;
    });
  }

  // Of the context under way.
  std::string text_;
  bool has_key_ = false;
  std::optional<BadContext> bad_;
};

FlagsIn::FlagsIn() : parser_(std::make_unique<Parser>()) {}
FlagsIn::~FlagsIn() = default;

Result<FlagsIn::Definition> FlagsIn::parse_definition(std::string_view body, std::string_view key) {
  return parser_->definition(body, key);
}
std::optional<FlagsIn::BadContext> FlagsIn::parse_context(std::string_view body, flags::Context& context,
                                                          std::string_view& text) {
  return parser_->context(body, context, text);
}

namespace {

void write_value(flags::Value const& value, JsonWriter& json) {
  if (value.kind == flags::ValueKind::string) {
    json.value(value.text);
  } else {
    json.raw(value.text);
  }
}

// Attributes have any name, so theirs are escaped.
void write_conditions(flags::Rule const& rule, JsonWriter& json) {
  std::string text{"{"};
  for (flags::Condition const& condition : rule.conditions) {
    if (text.size() > 1) text.push_back(',');
    append_json_string(condition.attribute, text);
    text.push_back(':');
    JsonWriter values{text};
    values.begin_array();
    for (flags::Value const& value : condition.values) write_value(value, values);
    values.end_array();
  }
  text.push_back('}');
  json.key("if").raw(text);
}

void write_rule(flags::Flag const& flag, flags::Rule const& rule, JsonWriter& json) {
  json.begin_object();
  if (!rule.conditions.empty()) write_conditions(rule, json);
  if (rule.is_rollout) {
    json.key("rollout").begin_object();
    for (flags::Share const& share : rule.shares) json.member(flag.variants[share.variant].name, share.weight);
    json.end_object();
  } else {
    json.member("variant", flag.variants[rule.variant].name);
  }
  json.end_object();
}

void write_flag(flags::FlagEntry const& entry, JsonWriter& json) {
  flags::Flag const& flag = entry.flag;
  json.begin_object().key("key").plain(entry.key).key("variants").begin_object();
  for (flags::Variant const& variant : flag.variants) {
    json.key(variant.name);
    write_value(variant.value, json);
  }
  json.end_object().member("default", flag.variants[flag.default_variant].name).member("enabled", flag.enabled);
  json.key("rules").begin_array();
  for (flags::Rule const& rule : flag.rules) write_rule(flag, rule, json);
  json.end_array().key("gates").begin_array();
  for (std::string const& type : flag.gates) json.value(type);
  json.end_array().member("version", entry.version).member("updated_at", entry.updated_at);
  if (!entry.updated_by.empty()) json.member("updated_by", entry.updated_by);
  json.end_object();
}

}  // namespace

void append_flag(flags::FlagEntry const& entry, std::string& out) {
  JsonWriter json{out};
  write_flag(entry, json);
}

void append_flags_page(flags::FlagSet const& set, std::string_view after, std::size_t limit, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("items").begin_array();
  std::size_t const begin = set.first_after(after);
  std::size_t const end = std::min(begin + limit, set.entries().size());
  for (std::size_t i = begin; i < end; ++i) write_flag(*set.entries()[i], json);
  json.end_array().key("next");
  end<set.entries().size() && end> begin ? json.plain(base64url(set.entries()[end - 1]->key)) : json.null();
  json.end_object();
}

void append_flag_history(FlagHistoryReply const& history, std::string& out) {
  JsonWriter json{out};
  json.begin_object().key("items").begin_array();
  for (FlagChange const& change : history.changes) {
    auto const entry = flags::make_entry(history.key, change.definition, change.version, change.at, change.by);
    WM_ASSERT(entry.has_value());  // The engine has read them all.
    write_flag(**entry, json);
  }
  json.end_array().key("next");
  history.next != 0 ? json.plain(base64url(std::to_string(history.next))) : json.null();
  json.end_object();
}

void append_evaluation(flags::FlagEntry const& entry, flags::Evaluation evaluation, JsonWriter& json) {
  flags::Variant const& variant = entry.flag.variants[evaluation.variant];
  json.begin_object().key("key").plain(entry.key).key("reason").plain(flags::to_string(evaluation.reason));
  json.member("variant", variant.name).key("value");
  write_value(variant.value, json);
  json.key("metadata").begin_object().member("version", entry.version).end_object().end_object();
}

}  // namespace workmill::http
