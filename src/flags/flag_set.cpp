#include "flags/flag_set.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "flags/evaluation.h"

namespace workmill::flags {
namespace {

std::string hex_of(std::uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit, value >>= 4) *digit = kDigits[value & 0xf];
  return text;
}

}  // namespace

FlagSet::FlagSet(std::vector<FlagEntryPtr> entries) : entries_(std::move(entries)) {
  WM_ASSERT(std::is_sorted(entries_.begin(), entries_.end(),
                           [](FlagEntryPtr const& a, FlagEntryPtr const& b) { return a->key < b->key; }));
  for (FlagEntryPtr const& entry : entries_) {
    fingerprint_ = fingerprint_of(entry->key, fingerprint_);
    fingerprint_ = fingerprint_of(entry->digest, fingerprint_);
    fingerprint_ = fingerprint_of(std::to_string(entry->version), fingerprint_);
  }
}

FlagEntry const* FlagSet::find(std::string_view key) const {
  auto const found =
      std::lower_bound(entries_.begin(), entries_.end(), key,
                       [](FlagEntryPtr const& entry, std::string_view name) { return entry->key < name; });
  return found != entries_.end() && (*found)->key == key ? found->get() : nullptr;
}

std::size_t FlagSet::first_after(std::string_view key) const {
  auto const found =
      std::upper_bound(entries_.begin(), entries_.end(), key,
                       [](std::string_view name, FlagEntryPtr const& entry) { return name < entry->key; });
  return static_cast<std::size_t>(found - entries_.begin());
}

Result<FlagEntryPtr> make_entry(std::string_view key, BytesView definition, std::uint64_t version, Instant at,
                                std::string_view by) {
  WM_TRY(Flag flag, decode_flag(definition));
  return std::make_shared<FlagEntry const>(FlagEntry{.key = std::string{key},
                                                     .flag = std::move(flag),
                                                     .version = version,
                                                     .updated_at = at,
                                                     .updated_by = std::string{by},
                                                     .digest = hex_of(fingerprint_of(definition))});
}

std::uint64_t fingerprint_of(std::string_view text, std::uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

std::vector<std::string> closed_types(FlagSet const& flags) {
  std::vector<std::string> closed;
  for (FlagEntryPtr const& entry : flags.entries()) {
    for (std::string const& type : entry->flag.gates) {
      if (!is_open_for(entry->key, entry->flag, type)) closed.push_back(type);
    }
  }
  std::sort(closed.begin(), closed.end());
  closed.erase(std::unique(closed.begin(), closed.end()), closed.end());
  return closed;
}

}  // namespace workmill::flags
