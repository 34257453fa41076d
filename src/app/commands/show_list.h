#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "app/commands/context.h"
#include "app/http_client.h"
#include "app/json.h"
#include "app/terminal.h"

// A list of the server's as a command shows it: a table, or JSON; a page, or all of them.
namespace workmill::app {

struct Listing {
  std::string path;        // With its query, but for `limit` and `cursor`.
  std::string_view one;    // What it is of: "job",
  std::string_view many;   // "jobs".
  std::string_view none;   // What is said where there is none.
  bool all = true;         // Page by page. Else
  unsigned limit = 50;     // so many at most,
  std::string cursor{};    // from where another list ended.
  bool cuts_lines = true;  // To the width of the terminal.
};

// Asks and prints; answers the exit code. `add_row` is for a table whose columns `table` has.
int show_list(HttpClient& client, Listing const& listing, TextTable table,
              std::function<void(TextTable&, JsonValue const&)> const& add_row, Context const& context);

}  // namespace workmill::app
