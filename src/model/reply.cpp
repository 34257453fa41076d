#include "model/reply.h"

#include <utility>

namespace workmill {
namespace {

// A job's flags byte: its state, and these.
constexpr std::uint8_t kStateBits = 0b111;
constexpr std::uint8_t kDuplicate = 1U << 3;
constexpr std::uint8_t kHasClientId = 1U << 4;

}  // namespace

void encode_enqueue_reply(EnqueueReply const& reply, Bytes& out) {
  ByteWriter writer{out};
  writer.varint(reply.jobs.size());
  std::uint64_t last = 0;  // The jobs of one request have numbers in a row: as differences they take a byte.
  for (EnqueuedJob const& job : reply.jobs) {
    auto const flags =
        std::to_underlying(job.state) | (job.duplicate ? kDuplicate : 0U) | (job.client_id.empty() ? 0U : kHasClientId);
    writer.u8(static_cast<std::uint8_t>(flags));
    std::uint64_t const number = std::to_underlying(job.number);
    writer.zigzag(static_cast<std::int64_t>(number - last));
    last = number;
    if (!job.client_id.empty()) writer.bytes(job.client_id);
  }
}

Result<EnqueueReply> decode_enqueue_reply(BytesView in) {
  ByteReader reader{in};
  EnqueueReply reply;
  bool valid = true;
  std::uint64_t const count = reader.varint();
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < count && reader.ok() && valid; ++i) {  // Ends with the bytes, whatever `count` says.
    EnqueuedJob& job = reply.jobs.emplace_back();
    std::uint8_t const flags = reader.u8();
    std::uint8_t const state = flags & kStateBits;
    valid = state < kJobStates && (flags & ~(kStateBits | kDuplicate | kHasClientId)) == 0;
    job.state = static_cast<JobState>(state);
    job.duplicate = (flags & kDuplicate) != 0;
    last += static_cast<std::uint64_t>(reader.zigzag());
    job.number = JobNumber{last};
    if (flags & kHasClientId) {
      job.client_id = reader.bytes();
      valid = valid && !job.client_id.empty();
    }
  }
  if (!valid || !reader.done()) return fail(ErrorCode::log_corrupt, "a remembered answer is damaged");
  return reply;
}

}  // namespace workmill
