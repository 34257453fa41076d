#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "app/commands/context.h"
#include "app/http_client.h"
#include "app/json.h"
#include "app/terminal.h"
#include "base/time.h"

// How jobs look on a terminal.
namespace workmill::app {

enum class ShowJob : std::uint8_t {
  details,  // All that is known, a line each.
  result,   // Its result and nothing else: a string's own text, bytes as they are, other JSON as JSON.
};

// Gets a job and prints it; answers the exit code. With `wait`, only when it has finished or that time has passed, and
// then the exit code is that of the job: 0 where it has completed.
int show_job(HttpClient& client, std::string_view id, std::optional<Duration> wait, ShowJob what,
             Context const& context);

// The lines of a `details`.
std::string job_details(JsonValue const& job, Instant now, bool colours);
// Appends a job to a table whose columns job_columns() has made.
void add_job_row(TextTable& table, JsonValue const& job, Instant now);
void job_columns(TextTable& table);
Colour colour_of_state(std::string_view state);

}  // namespace workmill::app
