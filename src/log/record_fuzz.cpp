#include "log/record.h"

#include "base/assert.h"
#include "model/cache_set.h"
#include "model/reply.h"

// Any bytes as a batch: each record is refused, or is what would be written for what it says; and so are the specs,
// histories and answers inside.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill;
  BytesView const payload{reinterpret_cast<char const*>(data), size};
  Bytes again;
  (void)log::for_each_record(payload, [&](Effect const& effect, std::uint32_t offset, std::uint32_t bytes) {
    again.clear();
    WM_ASSERT(log::append_record(effect, again) == bytes);
    WM_ASSERT(again == payload.substr(offset, bytes));

    auto const check_spec_bytes = [&](BytesView in) {
      JobSpecView view;
      if (!decode_spec(in, view)) return;
      (void)check_spec(view);
      again.clear();
      encode_spec(view, again);
      WM_ASSERT(again == in);
      WM_ASSERT(names_batch(in) == !view.batch.empty());
    };
    if (auto const* enqueued = std::get_if<effect::JobEnqueued>(&effect)) check_spec_bytes(enqueued->spec);
    if (auto const* made = std::get_if<effect::BatchMade>(&effect)) {
      check_spec_bytes(made->on_success);
      check_spec_bytes(made->on_finish);
    }
    if (auto const* copied = std::get_if<effect::BatchCopied>(&effect)) {
      for (auto const& callback : copied->callbacks) check_spec_bytes(callback.spec);
    }
    if (auto const* snapshot = std::get_if<effect::JobSnapshot>(&effect)) {
      check_spec_bytes(snapshot->spec);
      if (auto const history = decode_history(snapshot->history)) {
        again.clear();
        encode_history(*history, again);
        WM_ASSERT(again == snapshot->history);
      }
    }
    if (auto const* stored = std::get_if<effect::CacheStored>(&effect)) {
      std::vector<std::string_view> tags;
      if (decode_cache_tags(stored->tags, tags)) {
        again.clear();
        encode_cache_tags(tags, again);
        WM_ASSERT(again == stored->tags);
      }
    }
    if (auto const* remembered = std::get_if<effect::RequestRemembered>(&effect)) {
      if (auto const reply = decode_enqueue_reply(remembered->reply)) {
        again.clear();
        encode_enqueue_reply(*reply, again);
        WM_ASSERT(again == remembered->reply);
      }
    }
    return Result<>{};
  });
  return 0;
}
