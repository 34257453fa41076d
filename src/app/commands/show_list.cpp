#include "app/commands/show_list.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>

#include "base/json_writer.h"

namespace workmill::app {
namespace {

constexpr unsigned kLargestPage = 1'000;

std::string path_of_page(Listing const& listing, std::string const& cursor) {
  std::string path = listing.path;
  path.append(path.find('?') == std::string::npos ? "?" : "&");
  path.append(fmt::format("limit={}", listing.all ? kLargestPage : listing.limit));
  if (!cursor.empty()) path.append("&cursor=").append(url_encoded(cursor));
  return path;
}

}  // namespace

int show_list(HttpClient& client, Listing const& listing, TextTable table,
              std::function<void(TextTable&, JsonValue const&)> const& add_row, Context const& context) {
  std::string cursor = listing.cursor;
  std::string items;
  std::uint64_t count = 0;
  do {
    auto const page = client.call({.path = path_of_page(listing, cursor)});
    if (!page) return fail_with(page.error(), context);
    auto const* const found = page->root().find("items");
    if (found == nullptr) {
      return fail_with(
          {.code = ErrorCode::protocol_error, .message = fmt::format("the list of {} has no items", listing.many)},
          context);
    }
    for (JsonValue const& item : found->items) {
      ++count;
      if (context.json) {
        items.append(items.empty() ? "" : ",\n").append(item.raw);
      } else {
        add_row(table, item);
      }
    }
    cursor = page->root().string_at("next");
  } while (listing.all && !cursor.empty());

  if (context.json) {
    std::string next = "null";
    if (!cursor.empty()) {
      next.clear();
      append_json_string(cursor, next);
    }
    return print_line(fmt::format("{{\"items\":[{}],\"next\":{}}}", items, next)) ? kExitOk : kExitFailed;
  }
  if (table.empty()) {
    fmt::print(stderr, "{}\n", listing.none);
  } else {
    auto const text = table.render(wants_colour(stdout), listing.cuts_lines ? terminal_width(stdout) : 0);
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  if (!cursor.empty()) {
    fmt::print(stderr, "{} {}, and there are more: --all, --limit N, or --cursor {}\n", with_commas(count),
               count == 1 ? listing.one : listing.many, cursor);
  }
  return kExitOk;
}

}  // namespace workmill::app
