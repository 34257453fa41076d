#include "cache/ghost_table.h"

#include <algorithm>
#include <utility>

namespace workmill::cache {

void GhostTable::ensure(std::size_t entries) {
  std::size_t const wanted = std::max(entries * 5 / 4 / kWays, std::size_t{1}) * kWays;
  if (ghosts_.size() >= wanted) return;
  // A bit more than that, as it begins anew: a ghost does not know its whole hash. Entries are many when they first go.
  ghosts_.assign(wanted + wanted / 8 / kWays * kWays, Ghost{});
}

GhostTable::Ghost* GhostTable::set_of(std::uint64_t hash) {
  std::uint64_t const sets = ghosts_.size() / kWays;
  return &ghosts_[((hash & 0xffff'ffff) * sets >> 32) * kWays];
}

void GhostTable::add(std::uint64_t hash, std::uint16_t stamp, std::uint16_t now) {
  Ghost* const set = set_of(hash);
  auto const age = [now](Ghost const& ghost) {
    return ghost.fingerprint == 0 ? kStampMask + 1 : (now - ghost.stamp) & kStampMask;
  };
  Ghost* const oldest = std::max_element(set, set + kWays, [&](auto& a, auto& b) { return age(a) < age(b); });
  *oldest = {fingerprint_of(hash), stamp};
}

std::optional<std::uint16_t> GhostTable::take(std::uint64_t hash) {
  if (ghosts_.empty()) return std::nullopt;
  Ghost* const set = set_of(hash);
  Ghost* const found =
      std::find_if(set, set + kWays, [&](Ghost const& g) { return g.fingerprint == fingerprint_of(hash); });
  if (found == set + kWays) return std::nullopt;
  return std::exchange(*found, Ghost{}).stamp;
}

}  // namespace workmill::cache
