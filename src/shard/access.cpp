#include "shard/access.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "model/job.h"

namespace workmill::shard {
namespace {

Error forbidden_queue(std::string_view field) {
  return {.code = ErrorCode::forbidden, .message = "the token is limited to other queues", .field = std::string{field}};
}

// Also by the caller's own limits alone, whether the key exists or not.
Error forbidden_key(Allowed const& allowed, std::string_view field) {
  return {.code = ErrorCode::forbidden,
          .message = allowed.keys ? "the token is limited to other keys of the cache"
                                  : "the token is limited to queues, and the cache belongs to none",
          .field = std::string{field}};
}

Error forbidden_flags() {
  return {.code = ErrorCode::forbidden, .message = "the token is limited to queues, and flags belong to none"};
}

// What a limited caller names instead of a batch that he may not see: it is no name, and so that of none. Whatever is
// answered, the engine answers of both alike.
constexpr std::string_view kNoBatch = "/";

// One visit for each command. Every alternative is named here: a new one does not compile until somebody has said
// what a limited caller may do with it.
class Narrow {
 public:
  Narrow(Allowed const& allowed, engine::Engine const& engine) : allowed_(allowed), engine_(engine) {}

  using Verdict = std::optional<Error>;

  Verdict operator()(Enqueue& it) const {
    if (!allowed_.queues) return {};
    JobSpecView spec;
    for (Bytes& bytes : it.specs) {
      bool const is_spec = decode_spec(bytes, spec).has_value();
      WM_ASSERT(is_spec);  // Who made the command encoded it.
      if (!allowed_.has_queue(spec.queue)) return forbidden_queue("queue");
      JobRef ref{.number = JobIdCodec{engine_.salt()}.decode(spec.id), .text = {}};
      if (!ref.number) ref.text = spec.id;
      auto const queue = spec.id.empty() ? std::nullopt : engine_.queue_of(ref);
      if (queue && !allowed_.has_queue(*queue)) {
        return Error{.code = ErrorCode::forbidden, .message = "this id is not to be had", .field = "id"};
      }
      if (!spec.batch.empty() && !may_see_batch(spec.batch)) {
        spec.batch = kNoBatch;
        Bytes without;
        encode_spec(spec, without);
        bytes = std::move(without);
      }
    }
    return {};
  }
  Verdict operator()(Lease& it) const {
    for (QueueChoice const& choice : it.queues) {
      if (!allowed_.has_queue(choice.name)) return forbidden_queue("queues");
    }
    return narrow(it.reports);
  }
  Verdict operator()(ReportBatch& it) const { return narrow(it.reports); }
  Verdict operator()(GetJob& it) const { return narrow(it.job); }
  Verdict operator()(GetJobLog& it) const { return narrow(it.job); }
  Verdict operator()(CancelJob& it) const { return narrow(it.job); }
  Verdict operator()(RetryJob& it) const { return narrow(it.job); }
  Verdict operator()(DeleteJob& it) const { return narrow(it.job); }
  Verdict operator()(PatchJob& it) const {
    // First, as it would be refused for any job: what it says tells nothing of this one.
    if (it.changes.queue && !allowed_.has_queue(*it.changes.queue)) return forbidden_queue("queue");
    return narrow(it.job);
  }
  Verdict operator()(ListJobs& it) const { return narrow(it.filter, "queue"); }
  Verdict operator()(BulkJobs& it) const { return narrow(it.filter, "where.queue"); }
  Verdict operator()(ListQueues&) const { return {}; }  // See list_allowed_queues.
  Verdict operator()(GetQueue& it) const { return check(it.name); }
  Verdict operator()(PatchQueue& it) const { return check(it.name); }
  Verdict operator()(PurgeQueue& it) const { return check(it.name); }
  // Figures of all queues together: the adapters ask for a token without such a limit, and this holds where one forgot.
  Verdict operator()(GetStatus&) const { return whole_server(forbidden_queue({})); }
  Verdict operator()(OpenStream& it) const {
    for (QueueChoice const& choice : it.lease.queues) {
      if (!allowed_.has_queue(choice.name)) return forbidden_queue("queues");
    }
    return {};  // What it held it may only keep to itself.
  }
  Verdict operator()(TellStream&) const { return {}; }  // Of its own queues.
  // A key of the cache belongs to no queue. Who is limited to some, and was given no keys, may compute there, and so
  // learns and sets the value of a key that it can name; nothing else.
  Verdict operator()(ComputeCached& it) const {
    if (!allowed_.may_compute(it.key)) return forbidden_key(allowed_, "key");
    JobSpecView spec;
    bool const is_spec = decode_spec(it.spec, spec).has_value();
    WM_ASSERT(is_spec);
    if (!allowed_.has_queue(spec.queue)) return forbidden_queue("job.queue");
    return {};
  }
  Verdict operator()(ReadCached& it) const { return check_key(it.key, "key"); }
  Verdict operator()(PutCache& it) const { return check_key(it.key, "key"); }
  Verdict operator()(ForgetCached& it) const { return check_key(it.key, "key"); }
  // A tag is everybody's: of the values that have it, those under his keys are forgotten (ShardLoop::forget_cached_by).
  Verdict operator()(ForgetCachedBy& it) const {
    if (it.prefix.empty() && allowed_.keys) return {};
    return check_key(it.prefix, "prefix");
  }
  // Flags are everybody's. What they are for a user of his, a limited caller may ask; that goes another way.
  Verdict operator()(SetFlag&) const { return whole_server(forbidden_flags()); }
  Verdict operator()(RemoveFlag&) const { return whole_server(forbidden_flags()); }
  Verdict operator()(GetFlagHistory&) const { return whole_server(forbidden_flags()); }
  Verdict operator()(MakeBatch& it) const {
    if (!allowed_.queues) return {};
    for (CallbackKind const kind : kAllCallbackKinds) {
      Bytes const& bytes = kind == CallbackKind::success ? it.on_success : it.on_finish;
      if (bytes.empty()) continue;
      JobSpecView spec;
      bool const is_spec = decode_spec(bytes, spec).has_value();
      WM_ASSERT(is_spec);  // Who made the command encoded it.
      if (!allowed_.has_queue(spec.queue)) return forbidden_queue(std::string{to_string(kind)} + ".queue");
    }
    if (!may_see_batch(it.id)) {
      return Error{.code = ErrorCode::forbidden, .message = "this id is not to be had", .field = "id"};
    }
    return {};
  }
  Verdict operator()(CloseBatch& it) const { return narrow_batch(it.id); }
  Verdict operator()(ForgetBatch& it) const { return narrow_batch(it.id); }
  Verdict operator()(GetBatch& it) const { return narrow_batch(it.id); }
  Verdict operator()(ListBatches& it) const {
    it.among = allowed_.queues;
    return {};
  }

 private:
  // A batch is for those who are for the queues of all its callbacks. True where there is none.
  bool may_see_batch(std::string_view id) const {
    auto const queues = engine_.batch_queues(id);
    return !queues || std::all_of(queues->begin(), queues->end(),
                                  [this](std::string_view queue) { return allowed_.has_queue(queue); });
  }
  Verdict narrow_batch(std::string& id) const {
    if (!may_see_batch(id)) id = kNoBatch;
    return {};
  }
  Verdict check(std::string_view queue) const {
    if (allowed_.has_queue(queue)) return {};
    return forbidden_queue("queue");
  }
  Verdict check_key(std::string_view key, std::string_view field) const {
    if (allowed_.has_key(key)) return {};
    return forbidden_key(allowed_, field);
  }
  Verdict whole_server(Error refusal) const {
    if (!allowed_.queues) return {};
    return refusal;
  }
  Verdict narrow(JobRef& job) const {
    auto const queue = engine_.queue_of(job);
    if (queue && !allowed_.has_queue(*queue)) job = JobRef{};
    return {};
  }
  // The adapters refuse single reports that would set keys of the cache; this holds where one forgot.
  Verdict narrow(std::vector<Report>& reports) const {
    for (Report& report : reports) {
      auto const* const completed = std::get_if<Completed>(&report.outcome);
      if (completed != nullptr && !allowed_.has_keys(completed->cache)) return forbidden_key(allowed_, "cache");
      narrow(report.job);
    }
    return {};
  }
  Verdict narrow(JobFilter& filter, std::string_view field) const {
    if (!filter.queue.empty() && !allowed_.has_queue(filter.queue)) return forbidden_queue(field);
    filter.among = allowed_.queues;
    if (allowed_.queues && !filter.batch.empty() && !may_see_batch(filter.batch)) filter.batch = kNoBatch;
    return {};
  }

  Allowed const& allowed_;
  engine::Engine const& engine_;
};

}  // namespace

std::optional<Error> narrow(Command& command, Allowed const& allowed, engine::Engine const& engine) {
  WM_ASSERT(allowed.is_limited());
  return std::visit(Narrow{allowed, engine}, command);
}

Reply list_allowed_queues(ListQueues const& list, QueueSet const& allowed, engine::Engine const& engine) {
  QueuesReply reply;
  for (std::string const& name : allowed.names()) {
    if (name <= list.after) continue;
    auto queue = engine.queue_view(name);
    if (!queue) continue;
    if (reply.queues.size() == list.limit) {
      reply.next = reply.queues.back().name;
      break;
    }
    reply.queues.push_back(*std::move(queue));
  }
  return reply;
}

bool may_see(QueueSet const& allowed, JobNumber job, engine::Engine const& engine) {
  auto const queue = engine.queue_of({.number = job, .text = {}});
  return queue && allowed.contains(*queue);
}

}  // namespace workmill::shard
