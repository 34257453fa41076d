#include "sim/workloads/batch_callers.h"

#include <fmt/format.h>

#include <iterator>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "model/batch.h"

namespace workmill::sim {

BatchUse BatchCallers::draw_use() {
  std::uint64_t left = below(weight_sum_);
  std::size_t use = 0;
  while (left >= options_.weights[use]) left -= options_.weights[use++];
  return static_cast<BatchUse>(use);
}

// Mostly of one that is there.
std::string BatchCallers::draw_id(Model const& model) {
  if (model.batches().empty() || chance(100)) return "b" + std::to_string(below(options_.ids));
  return std::next(model.batches().begin(), static_cast<std::ptrdiff_t>(below(model.batches().size())))->first;
}

// Mostly one that is open, and with jobs in it or not.
std::string BatchCallers::draw_open_id(Model const& model, bool with_jobs) {
  std::string id = draw_id(model);
  for (int i = 0; i < 8; ++i) {
    auto const batch = model.batches().find(id);
    if (batch != model.batches().end() && !batch->second.closed_at && batch->second.jobs.empty() != with_jobs) break;
    if (chance(200)) break;
    id = draw_id(model);
  }
  return id;
}

// Of those in some batch; mostly one that is dead or cancelled, or is not.
std::optional<JobRef> BatchCallers::draw_job(Model const& model, bool is_ended) {
  auto const batch = model.batches().find(draw_id(model));
  if (batch == model.batches().end() || batch->second.jobs.empty()) return std::nullopt;
  auto const job = std::next(batch->second.jobs.begin(), static_cast<std::ptrdiff_t>(below(batch->second.jobs.size())));
  if (chance(800)) {
    for (std::uint64_t const number : batch->second.jobs) {
      JobState const state = model.jobs().at(number).state;
      bool const has_failed = state == JobState::dead || state == JobState::cancelled;
      if (has_failed == is_ended && state != JobState::completed)
        return JobRef{.number = JobNumber{number}, .text = {}};
    }
  }
  return JobRef{.number = JobNumber{*job}, .text = {}};
}

Command BatchCallers::next(Model const& model) {
  BatchUse use = draw_use();
  if (use == BatchUse::fill && model.unfinished() > 2 * options_.backlog) use = BatchUse::look;
  switch (use) {
    case BatchUse::make: return make(model);
    case BatchUse::repeat: {
      if (!last_) return make(model);
      MakeBatch again = *last_;
      if (chance(300)) again.on_finish = make_callback();
      return again;
    }
    case BatchUse::fill: {
      Enqueue enqueue;
      std::string const batch = draw_open_id(model, chance(500));
      for (std::uint64_t i = 1 + below(4); i > 0; --i) {
        enqueue.specs.push_back(make_job(chance(50) ? draw_id(model) : chance(50) ? std::string{} : batch));
      }
      return enqueue;
    }
    case BatchUse::close: return CloseBatch{.id = draw_open_id(model, !chance(100))};
    case BatchUse::look: return GetBatch{.id = draw_id(model)};
    case BatchUse::forget: return ForgetBatch{.id = draw_id(model)};
    case BatchUse::retry:
      if (auto job = draw_job(model, true)) return RetryJob{*std::move(job)};
      break;
    case BatchUse::cancel:
      if (auto job = draw_job(model, false)) return CancelJob{*std::move(job)};
      break;
    case BatchUse::remove:
      if (auto job = draw_job(model, chance(500))) return DeleteJob{*std::move(job)};
      break;
    case BatchUse::many: {
      BulkJobs bulk{.action = static_cast<BulkAction>(below(3)), .filter = {}, .before = {}};
      bulk.filter.batch = draw_id(model);
      if (chance(300)) bulk.filter.state = static_cast<JobState>(below(kJobStates));
      return bulk;
    }
    case BatchUse::list: {
      ListJobs list{.filter = {}, .limit = static_cast<std::uint32_t>(1 + below(20)), .before = {}};
      list.filter.batch = draw_id(model);
      if (chance(200)) list.filter.queue = "q" + std::to_string(below(options_.queues));
      return list;
    }
    case BatchUse::page: return list();
  }
  return GetBatch{.id = draw_id(model)};
}

// Also over restarts, and whatever becomes of the batches in between. Of two lists at a time one may go on where the
// other has ended.
ListBatches BatchCallers::list() {
  if (next_page_ && chance(800)) {
    listing_.before = std::exchange(next_page_, std::nullopt);
    return listing_;
  }
  listing_ = ListBatches{.limit = static_cast<std::uint32_t>(1 + below(chance(300) ? 20 : 3))};
  if (chance(600)) listing_.state = kAllBatchStates[below(kAllBatchStates.size())];
  if (chance(250)) {
    std::vector<std::string> queues;
    for (std::uint32_t i = 0; i < options_.queues; ++i) {
      if (chance(600)) queues.push_back("q" + std::to_string(i));
    }
    listing_.among = std::make_shared<QueueSet const>(std::move(queues));
  }
  return listing_;
}

void BatchCallers::answered(Reply const& reply) {
  if (auto const* const page = std::get_if<BatchesReply>(&reply)) next_page_ = page->next;
}

MakeBatch BatchCallers::make(Model const& model) {
  MakeBatch command;
  bool const is_named = model.batches().size() >= options_.batches || !chance(options_.unnamed);
  if (is_named) command.id = "b" + std::to_string(below(options_.ids));
  // Mostly a new one.
  for (int i = 0; i < 4 && model.batches().contains(command.id) && !chance(150); ++i) {
    command.id = "b" + std::to_string(below(options_.ids));
  }
  if (chance(700)) command.on_success = make_callback();
  if (command.on_success.empty() || chance(700)) command.on_finish = make_callback();
  if (chance(200)) command.meta = fmt::format("{{\"m\":{}}}", ++serial_);
  if (chance(300)) {
    command.traceparent = fmt::format("00-{:032x}-{:016x}-01", below(1'000) + 1, below(1'000) + 1);
    if (chance(300)) command.tracestate = "v=1";
  }
  if (is_named) last_ = command;
  return command;
}

Bytes BatchCallers::make_callback() {
  JobSpecView spec;
  std::string const type = "t" + std::to_string(below(3));
  std::string const queue = "q" + std::to_string(below(options_.queues));
  std::string const payload = fmt::format("{{\"n\":{}}}", ++serial_);
  std::string const traceparent = fmt::format("00-{:032x}-{:016x}-01", below(1'000) + 1, below(1'000) + 1);
  spec.type = type;
  spec.queue = queue;
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  if (chance(300)) spec.priority = static_cast<std::uint8_t>(below(10));
  if (chance(150)) spec.delay = ms(3'000);
  if (chance(100)) spec.expires_in = Duration{1} + ms(4'000);
  if (chance(200)) spec.traceparent = traceparent;
  if (chance(700)) spec.lease = kLeaseMin + ms(2'000);
  if (chance(options_.keep_result)) spec.keep_result = chance(300) ? Duration{0} : ms(3'000);
  WM_ASSERT(check_callback(CallbackKind::success, spec).has_value());
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

Bytes BatchCallers::make_job(std::string const& batch) {
  JobSpecView spec;
  std::string const type = "t" + std::to_string(below(3));
  std::string const queue = "q" + std::to_string(below(options_.queues));
  std::string const id = "m" + std::to_string(below(20));
  std::string const key = "k" + std::to_string(below(12));
  std::string const payload = fmt::format("{{\"n\":{}}}", ++serial_);
  spec.type = type;
  spec.queue = queue;
  spec.batch = batch;
  spec.payload_kind = PayloadKind::json;
  spec.payload = payload;
  spec.max_attempts = static_cast<std::uint32_t>(1 + below(3));
  if (chance(300)) spec.priority = static_cast<std::uint8_t>(below(10));
  if (chance(100)) spec.delay = ms(2'000);
  if (chance(60)) spec.expires_in = Duration{1} + ms(4'000);
  if (chance(100)) spec.id = id;
  if (chance(60)) spec.unique_key = key;
  if (chance(500)) spec.backoff = Backoff{.first = ms(500), .factor_permille = 1'000, .cap = Duration{1'000}};
  if (chance(700)) spec.lease = kLeaseMin + ms(2'000);
  if (chance(options_.keep_result)) spec.keep_result = chance(300) ? Duration{0} : ms(3'000);
  WM_ASSERT(check_spec(spec).has_value());
  Bytes bytes;
  encode_spec(spec, bytes);
  return bytes;
}

}  // namespace workmill::sim
