#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "flags/evaluation.h"
#include "flags/flag.h"
#include "flags/flag_set.h"
#include "model/reply.h"

// What the model knows of feature flags: every change that was ever made to those that are there, and what the newest
// definition is for whom, reckoned a second time from docs/reference/flags.md.
namespace workmill::sim {

using TypeIndex = std::uint32_t;  // Of the types of jobs that the model has met.

struct ModelFlagChange {
  std::uint64_t version = 0;
  Instant at{};
  std::string by;
  Bytes definition;

  bool operator==(ModelFlagChange const&) const = default;
};
using FlagHistory = std::vector<ModelFlagChange>;  // Newest first.
FlagHistory as_history(FlagHistoryReply const& reply);

struct ModelFlag {
  std::deque<ModelFlagChange> changes;  // Newest first, all of them.
  flags::Flag flag;                     // The newest.

  // How many of the newest are kept: a hundred, and their definitions take 64 KiB together; the newest always is.
  std::size_t kept() const;
};

// Somebody has looked up all flags, for one who asks.
struct FlagsSeen {
  flags::FlagSet set;
  flags::Context context;
};

struct Verdict {
  std::uint32_t variant = 0;
  flags::Reason reason{};
};
Verdict reckon(std::string_view key, flags::Flag const& flag, flags::Context const& context);
// Does the flag let jobs of this type through?
bool lets_through(std::string_view key, flags::Flag const& flag, std::string_view type);

}  // namespace workmill::sim
