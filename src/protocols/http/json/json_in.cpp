#include "protocols/http/json/json_in.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/time.h"
#include "model/job.h"
#include "protocols/http/field_names.h"
#include "protocols/http/json/json_in_parser.h"

namespace workmill::http {
namespace {

constexpr std::uint64_t kWeightMax = 1'000'000;
constexpr std::uint64_t kMaxDepthMax = std::uint64_t{1} << 53;  // What every client's JSON can say exactly.

std::optional<BulkAction> parse_bulk_action(std::string_view text) {
  if (text == "retry") return BulkAction::retry;
  if (text == "cancel") return BulkAction::cancel;
  if (text == "delete") return BulkAction::remove;
  return std::nullopt;
}

// The members of each object: names, and what they are called below (keywords get a second word), in the same order.

enum class LeaseField : std::uint8_t { queues, max, wait, lease, worker, reports };
constexpr FieldNames<6> kLeaseFields{{"queues", "max", "wait", "lease", "worker", "reports"}};

enum class StreamField : std::uint8_t { subscribe, credit, reports, drain };
constexpr FieldNames<4> kStreamFields{{"subscribe", "credit", "reports", "drain"}};

enum class SubscribeField : std::uint8_t { queues, credit, lease, worker, resume, held, from };
constexpr FieldNames<7> kSubscribeFields{{"queues", "credit", "lease", "worker", "resume", "held", "from"}};

enum class QueueChoiceField : std::uint8_t { name, weight };
constexpr FieldNames<2> kQueueChoiceFields{{"name", "weight"}};

enum class PatchQueueField : std::uint8_t {
  paused,
  max_depth,
  when_full,
  max_running,
  rate,
  defaults,
  dead_queue,
  push
};
constexpr FieldNames<8> kPatchQueueFields{
    {"paused", "max_depth", "when_full", "max_running", "rate", "defaults", "dead_queue", "push"}};

enum class BulkField : std::uint8_t { action, where };
constexpr FieldNames<2> kBulkFields{{"action", "where"}};

enum class FilterField : std::uint8_t { state, queue, type, tag, group, batch };
constexpr FieldNames<6> kFilterFields{{"state", "queue", "type", "tag", "group", "batch"}};

}  // namespace

// --- Work.

bool JsonIn::Parser::lease(Lease& lease) {
  Seen seen;
  std::optional<Duration> wait;
  bool const well = members(kLeaseFields, seen, [&](std::size_t place) {
    switch (static_cast<LeaseField>(place)) {
      case LeaseField::queues: return queue_choices(lease.queues);
      case LeaseField::max: {
        std::uint64_t max = 0;
        if (!whole_number(max, kJobsPerLeaseMax)) return false;
        lease.max = static_cast<std::uint32_t>(max);
        return max != 0 || invalid("must not be 0");
      }
      case LeaseField::wait: return duration(wait, Duration{0}, kWaitMax);
      case LeaseField::lease: return duration(lease.lease, kLeaseMin, kLeaseMax);
      case LeaseField::worker: return name(lease.worker);
      case LeaseField::reports: return reports(lease.reports);
    }
    return false;
  });
  lease.wait = wait.value_or(Duration{0});
  return well && (seen.has(LeaseField::queues) || missing("queues"));
}

bool JsonIn::Parser::queue_choices(std::vector<QueueChoice>& queues) {
  bool const well = elements(kQueuesPerLeaseMax, [&] {
    QueueChoice choice;
    if (!queue_choice(choice)) return false;
    for (QueueChoice const& other : queues) {
      if (other.name == choice.name) return invalid("names a queue that is named before");
    }
    queues.push_back(std::move(choice));
    return true;
  });
  return well && (!queues.empty() || invalid("must not be empty"));
}

bool JsonIn::Parser::queue_choice(QueueChoice& choice) {
  if (peek() == '"') return name(choice.name);
  if (peek() != '{') return wrong_type("must be a queue's name, or an object with name and weight");
  Seen seen;
  bool const well = members(kQueueChoiceFields, seen, [&](std::size_t place) {
    if (static_cast<QueueChoiceField>(place) == QueueChoiceField::name) return name(choice.name);
    std::uint64_t weight = 0;
    if (!whole_number(weight, kWeightMax)) return false;
    choice.weight = static_cast<std::uint32_t>(weight);
    return weight != 0 || invalid("must not be 0");
  });
  return well && (seen.has(QueueChoiceField::name) || missing("name"));
}

// --- The worker stream.

bool JsonIn::Parser::stream(StreamMessage& message) {
  Seen seen;
  bool any = false;
  bool const well = members(kStreamFields, seen, [&](std::size_t place) {
    if (std::exchange(any, true)) return invalid("cannot stand beside another member: a message has one");
    switch (static_cast<StreamField>(place)) {
      case StreamField::subscribe: return subscribe(message.emplace<Subscription>());
      case StreamField::credit: return credit(message.emplace<TellStream>().credit.emplace());
      case StreamField::reports: {
        auto& batch = message.emplace<ReportBatch>();
        return reports(batch.reports) && (!batch.reports.empty() || invalid("must not be empty"));
      }
      case StreamField::drain: {
        bool& drain = message.emplace<TellStream>().drain;
        return boolean(drain) && (drain || invalid("must be true"));
      }
    }
    return false;
  });
  return well && (any || invalid("must be an object with one member: subscribe, credit, reports or drain"));
}

bool JsonIn::Parser::subscribe(Subscription& subscription) {
  OpenStream& open = subscription.open;
  Seen seen;
  bool const well = members(kSubscribeFields, seen, [&](std::size_t place) {
    std::string_view text;
    switch (static_cast<SubscribeField>(place)) {
      case SubscribeField::queues: return queue_choices(open.lease.queues);
      case SubscribeField::credit: return credit(open.credit);
      case SubscribeField::lease: return duration(open.lease.lease, kLeaseMin, kLeaseMax);
      case SubscribeField::worker: return name(open.lease.worker);
      case SubscribeField::resume:
        if (!string(text)) return false;
        open.resume = parse_resume_token(text).value_or(ResumeToken{});  // Which no stream has: it is not known.
        return true;
      case SubscribeField::held:
        return elements(kStreamCreditMax, [&] {
          if (!name(text)) return false;
          open.held.push_back(service_.job_ref(text));
          return true;
        });
      case SubscribeField::from:
        if (!string(text)) return false;
        subscription.from = net::parse_socket_address(text);
        return subscription.from ||
               invalid("must be an address with its port, as 192.0.2.7:51234 or [2001:db8::7]:51234");
    }
    return false;
  });
  if (!well) return false;
  if (!seen.has(SubscribeField::queues)) return missing("queues");
  return seen.has(SubscribeField::credit) || missing("credit");
}

bool JsonIn::Parser::credit(std::uint32_t& credit) {
  std::uint64_t wide = 0;
  if (!whole_number(wide, kStreamCreditMax)) return false;
  credit = static_cast<std::uint32_t>(wide);
  return true;
}

// --- Changes.

bool JsonIn::Parser::patch_queue(PatchQueue& patch) {
  Seen seen;
  return members(kPatchQueueFields, seen, [&](std::size_t place) {
    switch (static_cast<PatchQueueField>(place)) {
      case PatchQueueField::paused: return boolean(patch.paused.emplace());
      case PatchQueueField::max_depth: {
        auto& max_depth = patch.max_depth.emplace();
        if (take_null()) return true;  // No limit any more.
        return whole_number(max_depth.emplace(), kMaxDepthMax);
      }
      case PatchQueueField::when_full:
        return choice(patch.when_full.emplace(), &parse_when_full, "must be refuse or drop_oldest");
      case PatchQueueField::max_running:
      case PatchQueueField::rate:
      case PatchQueueField::defaults:
      case PatchQueueField::dead_queue:
      case PatchQueueField::push: return not_yet();
    }
    return false;
  });
}

bool JsonIn::Parser::bulk(BulkJobs& bulk) {
  Seen seen;
  bool const well = members(kBulkFields, seen, [&](std::size_t place) {
    if (static_cast<BulkField>(place) == BulkField::where) return filter(bulk.filter);
    return choice(bulk.action, &parse_bulk_action, "must be retry, cancel or delete");
  });
  if (!well) return false;
  if (!seen.has(BulkField::action)) return missing("action");
  return seen.has(BulkField::where) || missing("where");
}

bool JsonIn::Parser::filter(JobFilter& filter) {
  Seen seen;
  return members(kFilterFields, seen, [&](std::size_t place) {
    switch (static_cast<FilterField>(place)) {
      case FilterField::state:
        return choice(filter.state.emplace(), &parse_job_state,
                      "must be scheduled, ready, leased, completed, dead or cancelled");
      case FilterField::queue: return name(filter.queue);
      case FilterField::type: return name(filter.type);
      case FilterField::tag: return name(filter.tag);
      case FilterField::group: return name(filter.group);
      case FilterField::batch: return name(filter.batch);
    }
    return false;
  });
}

// --- The outside.

JsonIn::JsonIn(service::Service const& service) : parser_(std::make_unique<Parser>(service)) {}
JsonIn::~JsonIn() = default;

Result<JsonIn::EnqueueRequest> JsonIn::parse_enqueue(std::string_view body, TraceContext const& trace) {
  return parser_->run<EnqueueRequest>(body, [&](auto& request) { return parser_->enqueue(request, trace); });
}
Result<JsonIn::ComputeRequest> JsonIn::parse_compute(std::string_view body, std::string_view key,
                                                     TraceContext const& trace) {
  return parser_->run<ComputeRequest>(body, [&](auto& request) { return parser_->compute(request, key, trace); });
}
Result<Lease> JsonIn::parse_lease(std::string_view body) {
  return parser_->run<Lease>(body, [&](auto& lease) { return parser_->lease(lease); });
}
Result<ReportBatch> JsonIn::parse_reports(std::string_view body) {
  return parser_->run<ReportBatch>(body, [&](auto& batch) { return parser_->reports_body(batch); });
}
Result<JsonIn::StreamMessage> JsonIn::parse_stream(std::string_view message) {
  return parser_->run<StreamMessage>(message, [&](auto& parsed) { return parser_->stream(parsed); });
}
Result<JobChanges> JsonIn::parse_patch_job(std::string_view body) {
  return parser_->run<JobChanges>(body, [&](auto& changes) { return parser_->patch_job(changes); });
}
Result<PatchQueue> JsonIn::parse_patch_queue(std::string_view body) {
  return parser_->run<PatchQueue>(body, [&](auto& patch) { return parser_->patch_queue(patch); });
}
Result<BulkJobs> JsonIn::parse_bulk_jobs(std::string_view body) {
  return parser_->run<BulkJobs>(body, [&](auto& bulk) { return parser_->bulk(bulk); });
}
Result<MakeBatch> JsonIn::parse_make_batch(std::string_view body) {
  return parser_->run<MakeBatch>(body, [&](auto& batch) { return parser_->make_batch(batch); });
}

}  // namespace workmill::http
