#pragma once
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "workmill/workmill.h"

// What the driver of the shared suite reads and writes: the suite's JSON into the values of this client, and back.
// clients/conformance/README.md has the forms.
namespace workmill::client::driver {

// Held for each line, on standard output and standard error.
std::mutex& output_mutex();
// Writes a line to standard output. Any thread.
void say(Json::Object members);

Json error_json(Error const& error);
Json enqueued_json(Enqueued const& job);
Result<Json> cached_json(CachedValue const& found);

std::string text_of(Json const& json, std::string_view name);  // Empty where it is not there.
std::optional<Duration> duration_of(Json const& json, std::string_view name);
std::optional<unsigned> number_of(Json const& json, std::string_view name);
Bytes bytes_of(Json const& json);  // Its value_base64.
CacheOptions cache_options(Json const& json);
// A job as the API has it, as this client has it.
NewJob job_of(Json const& json);

}  // namespace workmill::client::driver
