#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"

// The names of things. Enums, so that one kind cannot be passed for another.
namespace workmill {

// What the engine calls a job by. 44 bits of milliseconds since 1970 above 20 bits of counter: so a number tells when
// its job was made, grows with every job, and cannot come back after a restart although no counter is stored.
enum class JobNumber : std::uint64_t {};
// What the engine calls a batch by. Out of the same numbers as those of jobs: so the jobs that were put into a batch
// have larger ones than it, and a number is either a job's or a batch's.
enum class BatchNumber : std::uint64_t {};
// Fences a lease: grows with every grant, in the same form as a JobNumber.
enum class LeaseToken : std::uint64_t {};
// Who owns a log: grows by one with each owner.
enum class Epoch : std::uint32_t {};
// Which shard. One for now; ids have room for 1,024.
enum class ShardId : std::uint16_t {};

inline constexpr int kCounterBits = 20;

constexpr Instant created_at(JobNumber number) {
  return instant_from_ms(static_cast<std::int64_t>(std::to_underlying(number) >> kCounterBits));
}
constexpr Instant created_at(BatchNumber number) { return created_at(JobNumber{std::to_underlying(number)}); }
// The number after `last` at time `now`: the first of this millisecond, or one more than the last.
constexpr std::uint64_t next_in_time(std::uint64_t last, Instant now) {
  auto const first = static_cast<std::uint64_t>(to_ms(now)) << kCounterBits;
  return last >= first ? last + 1 : first;
}

// Job ids as text (RFC 9562, UUIDv7): 48 bits of milliseconds, the number's counter in the bits after them, the shard,
// and a check of 44 bits keyed by the store's own salt. The check makes ids hard to guess and tells them from UUIDs
// that clients bring, so that only those need an index. Immutable after construction; any thread may use it.
class JobIdCodec {
 public:
  using Text = std::array<char, 36>;

  // `shard` below 1,024.
  explicit JobIdCodec(std::uint64_t salt, ShardId shard = ShardId{0});

  Text encode(JobNumber number) const;
  // The number, where `text` is an id that this store made; nothing for every other text. Lower or upper case.
  std::optional<JobNumber> decode(std::string_view text) const;

 private:
  std::uint64_t salt_;
  ShardId shard_;
};

// Lease tokens as text: 16 lower-case hex digits and nothing else.
std::string format_token(LeaseToken token);
std::optional<LeaseToken> parse_token(std::string_view text);

inline constexpr std::size_t kNameBytesMax = 128;
// 1 to 128 of `A-Z a-z 0-9 . _ : -`: what the names of queues, types, groups, tags and workers, and ids that clients
// bring, are made of.
bool is_name(std::string_view text);

}  // namespace workmill
