#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "app/health/snapshot.h"

// What `workmill top` shows: two snapshots as lines of text.
//
// A pure function, so that every size and state of a server can be tested without a terminal. What the server does not
// say, and what there is no room for, is left out; nothing is ever wider or longer than it may be.
namespace workmill::app::health {

struct View {
  std::string_view server{};  // Where it is; for the title.
  std::size_t columns = 80;   // 0: no limit. Fewer than 20 are 20.
  std::size_t rows = 24;      // 0: no limit.
  bool colours = false;
};

// Rates are those between the two, which are `seconds` apart; with 0 there are none yet. Lines without their ends.
std::vector<std::string> render(Snapshot const& before, Snapshot const& after, double seconds, View const& view);

}  // namespace workmill::app::health
