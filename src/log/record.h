#pragma once
#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "base/error.h"
#include "model/effect.h"

// The byte layout of each effect: what stands in the payload of a batch. Written down in docs/log-records.md and
// tested byte for byte. Pure functions over bytes; damaged bytes give log_corrupt, never more. Every effect has one
// spelling: what parses is what append_record writes for the same effect.
//
// A record is a header of four bytes (kind in the low 8 bits, length of the body in the high 24, little endian) and a
// body. Records stand behind each other without gaps.
namespace workmill::log {

inline constexpr std::size_t kRecordHeaderBytes = 4;
inline constexpr std::size_t kRecordBodyBytesMax = (std::size_t{1} << 24) - 1;

// Appends one record. Returns its length, header included. The caller keeps bodies below kRecordBodyBytesMax (see
// kPayloadBytesMax in model/job.h); more is a bug of ours.
std::uint32_t append_record(Effect const& effect, Bytes& out);

// The length of the whole record whose first kRecordHeaderBytes bytes `header` begins with.
std::uint32_t record_bytes(BytesView header);

// The effect in one whole record, header included. Its views borrow from `record`.
Result<Effect> parse_record(BytesView record);

// The whole record that this part of a batch payload begins with; log_corrupt where it ends inside of that.
Result<BytesView> first_record(BytesView payload);

// Calls `visit` for each record of a batch payload, with its offset in the payload and its length; stops at the first
// error.
Result<> for_each_record(
    BytesView payload, std::function<Result<>(Effect const&, std::uint32_t offset, std::uint32_t bytes)> const& visit);

// The spec in a JobEnqueued or JobSnapshot record, borrowed; log_corrupt for any other.
Result<BytesView> spec_of(BytesView record);

}  // namespace workmill::log
