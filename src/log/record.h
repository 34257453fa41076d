#pragma once
#include <cstdint>
#include <functional>

#include "base/bytes.h"
#include "base/error.h"
#include "model/effect.h"
#include "model/reply.h"

// The byte layout of each effect: what stands in the payload of a batch. Written down in docs/log-format.md and
// tested byte for byte. Pure functions over bytes; damaged bytes give log_corrupt, never more.
//
// A record is a header of four bytes (kind in the low 8 bits, length of the body in the high 24, little endian) and a
// body. Records stand behind each other without gaps.
namespace workmill::log {

inline constexpr std::size_t kRecordHeaderBytes = 4;
inline constexpr std::size_t kRecordBodyBytesMax = (std::size_t{1} << 24) - 1;

// Appends one record. Returns its length, header included.
std::uint32_t append_record(Effect const& effect, Bytes& out);

// The length of the whole record whose first kRecordHeaderBytes bytes are `header`.
std::uint32_t record_bytes(BytesView header);

// The effect in one whole record, header included. Its views borrow from `record`.
Result<Effect> parse_record(BytesView record);

// Calls `visit` for each record of a batch payload, with its offset in the payload and its length; stops at the first error.
Result<> for_each_record(BytesView payload,
                         std::function<Result<>(Effect const&, std::uint32_t offset, std::uint32_t bytes)> const& visit);

// The spec in a JobEnqueued or JobSnapshot record, borrowed; log_corrupt for any other.
Result<BytesView> spec_of(BytesView record);

// The answer that effect::RequestRemembered keeps.
void encode_enqueue_reply(EnqueueReply const& reply, Bytes& out);
Result<EnqueueReply> decode_enqueue_reply(BytesView in);

}  // namespace workmill::log
