#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"
#include "model/batch.h"
#include "model/job.h"
#include "protocols/http/codec.h"
#include "protocols/http/router.h"

// What the heads and queries of requests say, into values: each is checked, and refused as invalid_field with the name
// of its header or parameter. Pure.
namespace workmill::http {

bool equals_ignoring_case(std::string_view a, std::string_view b);

Result<std::string> parse_idempotency_key(std::string_view text);
// Tells one body from another under the same key. Not a defence against somebody who wants a collision with himself.
std::uint64_t fingerprint(std::string_view body);
// The field of the Internet draft of that name, which has whole seconds; we take a fraction, too. Up to a day.
Result<Duration> parse_request_timeout(std::string_view text);
bool is_tracestate(std::string_view text);

bool is_from_web_page(Request const& request);
// unsupported_media_type where the body is packed, or a web page sends one that does not say that it is JSON.
Result<> check_body(Request const& request);

// A condition that the call does not keep to is refused, by the name of its header: who sends one wants nothing done
// where it does not hold (RFC 9110, 13.1), and to leave it out of account would do it.
Result<> check_conditions(Request const& request, Route route);

// Of a query; what is sent without being there is the default. `limit`: 1 to 1,000, 50 by default.
Result<std::uint32_t> parse_limit(Query const& query);
// `wait`: up to kWaitMax, 0 by default.
Result<Duration> parse_wait(Query const& query);
// `seconds` of a profile: whole ones, 1 to 60, 10 by default.
Result<Duration> parse_profile_seconds(Query const& query);
Result<std::optional<JobState>> parse_state(Query const& query);
Result<std::optional<BatchState>> parse_batch_state(Query const& query);
// How long what is cached is fresh, where nothing is said.
inline constexpr Duration kFreshDefault = std::chrono::minutes{1};
// What is said of a key that is none (is_cache_key).
inline constexpr std::string_view kBadCacheKey = "must be 1 to 512 bytes of UTF-8 without control characters";
// The name of a queue in a path or a query, percent-encoded.
Result<std::string> parse_name(std::string_view field, std::string_view encoded);

}  // namespace workmill::http
