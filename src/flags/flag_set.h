#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "flags/flag.h"

// All flags of a store at one moment. Immutable, and shared between threads: the shard makes a new one for each change,
// and I/O threads read the newest that is durable.
namespace workmill::flags {

struct FlagEntry {
  std::string key{};
  Flag flag{};
  std::uint64_t version = 0;  // One more with each change. No flag has the same twice, whatever became of it between.
  Instant updated_at{};
  std::string updated_by{};  // The name of the token that it was changed with, or empty.
  std::string digest{};      // Of the definition: 16 hex digits.
};
using FlagEntryPtr = std::shared_ptr<FlagEntry const>;

class FlagSet {
 public:
  FlagSet() : FlagSet(std::vector<FlagEntryPtr>{}) {}
  // In the order of their keys.
  explicit FlagSet(std::vector<FlagEntryPtr> entries);

  std::vector<FlagEntryPtr> const& entries() const { return entries_; }
  FlagEntry const* find(std::string_view key) const;
  // The first whose key comes after this one; entries().size() where there is none.
  std::size_t first_after(std::string_view key) const;
  // Of all definitions: another one as soon as any flag is not what it was. Also after a restart the same.
  std::uint64_t fingerprint() const { return fingerprint_; }

 private:
  std::vector<FlagEntryPtr> entries_;
  std::uint64_t fingerprint_ = 0;
};
using FlagSetPtr = std::shared_ptr<FlagSet const>;

// An entry from a definition as encode_flag wrote it. log_corrupt where it is none.
Result<FlagEntryPtr> make_entry(std::string_view key, BytesView definition, std::uint64_t version, Instant at,
                                std::string_view by);

// XXH3-64 of `text`, continued from `seed`: for ETags.
std::uint64_t fingerprint_of(std::string_view text, std::uint64_t seed = 0);

// The types of jobs that are gated by a flag which is not open for them, each once, in their order. A type that several
// flags gate is open where all are.
std::vector<std::string> closed_types(FlagSet const& flags);

}  // namespace workmill::flags
