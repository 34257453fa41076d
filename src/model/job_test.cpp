#include "model/job.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <utility>

#include "model/cache.h"
#include "model/queue.h"
#include "model/reply.h"

namespace workmill {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using namespace std::string_literals;

Bytes encoded(JobSpecView const& spec) {
  Bytes out;
  encode_spec(spec, out);
  return out;
}
Bytes encoded(JobHistory const& history) {
  Bytes out;
  encode_history(history, out);
  return out;
}

// --- States.

TEST(JobStates, HaveNamesThatReadBack) {
  for (int i = 0; i < kJobStates; ++i) {
    auto const state = static_cast<JobState>(i);
    EXPECT_EQ(parse_job_state(to_string(state)), state);
  }
  EXPECT_EQ(to_string(JobState::cancelled), "cancelled");
  EXPECT_EQ(parse_job_state("Ready"), std::nullopt);
  EXPECT_EQ(parse_job_state(""), std::nullopt);
}

TEST(JobStates, MoveAlongTheArrowsOnly) {
  using enum JobState;
  std::vector<std::pair<JobState, JobState>> const arrows{
      {scheduled, ready}, {scheduled, dead},   {scheduled, cancelled}, {ready, scheduled}, {ready, leased},
      {ready, dead},      {ready, cancelled},  {leased, scheduled},    {leased, ready},    {leased, completed},
      {leased, dead},     {leased, cancelled}, {dead, ready},          {cancelled, ready},
  };
  for (int from = 0; from < kJobStates; ++from) {
    for (int to = 0; to < kJobStates; ++to) {
      std::pair const move{static_cast<JobState>(from), static_cast<JobState>(to)};
      bool const drawn = std::find(arrows.begin(), arrows.end(), move) != arrows.end();
      EXPECT_EQ(is_legal_move(move.first, move.second), drawn)
          << to_string(move.first) << " to " << to_string(move.second);
    }
  }
}

TEST(UniqueWhileAndWhenFull, HaveNamesThatReadBack) {
  for (auto const value : {UniqueWhile::scheduled, UniqueWhile::queued, UniqueWhile::unfinished}) {
    EXPECT_EQ(parse_unique_while(to_string(value)), value);
  }
  for (auto const value : {WhenFull::refuse, WhenFull::drop_oldest}) {
    EXPECT_EQ(parse_when_full(to_string(value)), value);
  }
  EXPECT_EQ(parse_unique_while("ever"), std::nullopt);
  EXPECT_EQ(parse_when_full("panic"), std::nullopt);
}

// --- Specs as bytes.

TEST(JobSpecBytes, AnOrdinaryJobCostsItsTypeItsPayloadAndTwoBytes) {
  JobSpecView const spec{.type = "mail", .payload_kind = PayloadKind::json, .payload = R"({"to":1})"};

  EXPECT_EQ(encoded(spec), "\x01\x04mail{\"to\":1}");
}

TEST(JobSpecBytes, AQueueOfItsOwnCostsItsNameAndAByte) {
  JobSpecView const spec{.type = "t", .queue = "q", .payload_kind = PayloadKind::raw, .payload = "\xff"};

  EXPECT_EQ(encoded(spec), "\x06\x01t\x01q\xff");
}

JobSpecView full_spec() {
  return {.type = "t",
          .queue = "q",
          .id = "i",
          .payload_kind = PayloadKind::json,
          .payload = "1",
          .priority = 9,
          .delay = Duration{1},
          .run_at = instant_from_ms(2),
          .expires_in = Duration{3},
          .max_attempts = 4,
          .backoff = Backoff{.first = Duration{5}, .factor_permille = 6, .cap = Duration{7}, .jitter_permille = 8},
          .lease = Duration{9},
          .unique_key = "u",
          .unique_while = UniqueWhile::queued,
          .unique_for = Duration{10},
          .group = "g",
          .tags = {"a", "b"},
          .keep_result = Duration{11},
          .meta = "{}",
          .traceparent = "tp",
          .tracestate = "ts",
          .batch = "z",
          .cache_key = "k",
          .cache_fresh = Duration{12},
          .cache_stale = Duration{13},
          .cache_error_for = Duration{14},
          .cache_tags = {"c"}};
}

TEST(JobSpecBytes, EveryFieldHasItsPlace) {
  EXPECT_EQ(encoded(full_spec()),
            "\xfd\xff\xff\x01"  // mask: 22 fields, payload kind json
            "\x01t"
            "\x01q"
            "\x02tp"
            "\x01i"
            "\x09"
            "\x04"  // priority, max_attempts
            "\x02"
            "\x04"
            "\x06"              // delay, run_at, expires_in, zigzag
            "\x0a\x06\x0e\x08"  // backoff
            "\x12"              // lease
            "\x01u"
            "\x01"
            "\x14"  // unique
            "\x01g"
            "\x02\x01"
            "a\x01"
            "b"
            "\x16"
            "\x02{}"
            "\x02ts"  // keep_result, meta, tracestate
            "\x01k"
            "\x18\x1a\x1c"
            "\x01\x01"
            "c"      // cache
            "\x01z"  // batch
            "1"s);
}

TEST(JobSpecBytes, EveryFieldReadsBack) {
  Bytes const bytes = encoded(full_spec());
  JobSpecView view;

  ASSERT_TRUE(decode_spec(bytes, view));

  EXPECT_EQ(view, full_spec());
}

TEST(JobSpecBytes, AViewThatIsUsedAgainKeepsNothingOfTheLastJob) {
  JobSpecView view;
  Bytes const full = encoded(full_spec());
  ASSERT_TRUE(decode_spec(full, view));
  Bytes const plain = encoded(JobSpecView{.type = "t"});

  ASSERT_TRUE(decode_spec(plain, view));

  EXPECT_EQ(view, JobSpecView{.type = "t"});
}

TEST(JobSpecBytes, ThatAPayloadIsLostIsKept) {
  Bytes bytes;
  encode_spec({.type = "t", .payload_kind = PayloadKind::lost, .group = "g"}, bytes);
  JobSpecView view;

  ASSERT_TRUE(decode_spec(bytes, view));

  EXPECT_EQ(view.payload_kind, PayloadKind::lost);
  EXPECT_EQ(view.group, "g");
  EXPECT_TRUE(is_payload_lost(bytes));
  bytes.clear();
  encode_spec({.type = "t", .payload_kind = PayloadKind::raw, .payload = "x"}, bytes);
  EXPECT_FALSE(is_payload_lost(bytes));
}

TEST(JobSpecBytes, BytesThatNobodyWouldHaveWrittenAreRefused) {
  for (Bytes const& bytes : {
           ""s,                                       // nothing at all
           "\x03\x01tx"s,                             // the payload of one that is lost
           "\x00\x01tx"s,                             // a payload of no kind
           "\x80\x80\x80\x01\x01t"s,                  // a field from the future
           "\x80\x80\x40\x01t\x00\x00\x00\x00\x00"s,  // a flight without a key
           "\x04\x01t\x07"
           "default"s,            // the default, spelt out
           "\x20\x01t\x05"s,      // the same
           "\x10\x01t\x00"s,      // an id without characters
           "\x00\x05tt"s,         // cut off
           "\x80\x40\x01t\x02"s,  // unique_while unfinished, spelt out
       }) {
    JobSpecView view;
    auto const result = decode_spec(bytes, view);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::log_corrupt);
  }
}

// Owns what a spec's views point to.
struct OwnedSpec {
  std::vector<std::string> texts;
  JobSpecView view;
};

template <class T>
std::optional<T> maybe(T value) {
  return *rc::gen::arbitrary<bool>() ? std::optional<T>{value} : std::nullopt;
}
Duration any_duration() { return Duration{*rc::gen::arbitrary<std::int64_t>()}; }

OwnedSpec any_spec() {
  OwnedSpec spec;
  spec.texts.reserve(32);
  auto const text = [&] {
    spec.texts.push_back(*rc::gen::arbitrary<std::string>());
    return std::string_view{spec.texts.back()};
  };
  spec.view.type = text();
  if (*rc::gen::arbitrary<bool>()) spec.view.queue = text();
  spec.view.id = text();
  spec.view.payload_kind = *rc::gen::element(PayloadKind::none, PayloadKind::json, PayloadKind::raw);
  if (spec.view.payload_kind != PayloadKind::none) spec.view.payload = text();
  spec.view.priority = *rc::gen::arbitrary<std::uint8_t>();
  spec.view.delay = maybe(any_duration());
  spec.view.run_at = maybe(Instant{any_duration()});
  spec.view.expires_in = maybe(any_duration());
  spec.view.max_attempts = maybe(*rc::gen::arbitrary<std::uint32_t>());
  spec.view.backoff = maybe(Backoff{any_duration(), *rc::gen::arbitrary<std::uint32_t>(), any_duration(),
                                    *rc::gen::arbitrary<std::uint32_t>()});
  spec.view.lease = maybe(any_duration());
  spec.view.unique_key = text();
  spec.view.unique_while = *rc::gen::element(UniqueWhile::scheduled, UniqueWhile::queued, UniqueWhile::unfinished);
  spec.view.unique_for = maybe(any_duration());
  spec.view.group = text();
  auto const tags = *rc::gen::inRange(0, 4);
  for (int i = 0; i < tags; ++i) spec.view.tags.push_back(text());
  spec.view.keep_result = maybe(any_duration());
  spec.view.meta = text();
  spec.view.traceparent = text();
  spec.view.tracestate = text();
  spec.view.batch = text();
  spec.view.cache_key = text();
  if (spec.view.cache_key.empty()) return spec;
  spec.view.cache_fresh = any_duration();
  spec.view.cache_stale = any_duration();
  spec.view.cache_error_for = any_duration();
  auto const cache_tags = *rc::gen::inRange(0, 4);
  for (int i = 0; i < cache_tags; ++i) spec.view.cache_tags.push_back(text());
  return spec;
}

RC_GTEST_PROP(JobSpecBytes, WhatIsWrittenReadsBack, ()) {
  OwnedSpec const spec = any_spec();
  Bytes const bytes = "before" + encoded(spec.view);
  RC_ASSERT(names_batch(BytesView{bytes}.substr(6)) == !spec.view.batch.empty());
  JobSpecView view;

  RC_ASSERT(decode_spec(BytesView{bytes}.substr(6), view).has_value());

  RC_ASSERT(view == spec.view);
}

// What a damaged disk or a hostile hand makes of good bytes: cut short, or changed in some places.
Bytes damaged(Bytes bytes) {
  auto const changes = *rc::gen::inRange(0, 4);
  for (int i = 0; i < changes && !bytes.empty(); ++i) {
    bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
  }
  if (*rc::gen::arbitrary<bool>()) bytes.resize(*rc::gen::inRange<std::size_t>(0, bytes.size() + 1));
  return bytes;
}

RC_GTEST_PROP(JobSpecBytes, DamagedOnesAreRefusedOrMeanWhatTheySay, ()) {
  Bytes const bytes = damaged(encoded(any_spec().view));
  JobSpecView view;

  if (decode_spec(bytes, view)) RC_ASSERT(encoded(view) == bytes);
}

// --- Histories as bytes.

JobHistory full_history() {
  return {.started_at = instant_from_ms(1),
          .finished_at = instant_from_ms(2),
          .worker = "w",
          .errors = {JobError{.error_class = ErrorClass::fatal,
                              .code = "c",
                              .message = "m",
                              .detail = "{}",
                              .attempt = 3,
                              .at = instant_from_ms(4)}},
          .progress = JobProgress{.percent = 50, .message = "p"},
          .result_kind = PayloadKind::json,
          .result = "1",
          .log_lines = {"a", ""}};
}

TEST(JobHistoryBytes, EveryFieldHasItsPlace) {
  EXPECT_EQ(encoded(full_history()),
            "\xfd\x02\x04\x01w"
            "\x01\x02\x01"
            "c\x01m\x02{}\x03\x08"
            "\x32\x01p"
            "\x02\x01"
            "a\x00"
            "1"s);
}

TEST(JobHistoryBytes, ThatNothingHappenedCostsAByte) { EXPECT_EQ(encoded(JobHistory{}), "\0"s); }

TEST(JobHistoryBytes, ACountThatPromisesMoreThanThereIsIsRefused) {
  EXPECT_FALSE(decode_history("\x20\xff\xff\xff\xff\xff\xff\xff\xff\x7f"s));
  EXPECT_FALSE(decode_history("\x80\xff\xff\xff\xff\xff\xff\xff\xff\x7f"s));
}

JobHistory any_history() {
  JobHistory history;
  auto const text = [] { return *rc::gen::arbitrary<std::string>(); };
  history.started_at = maybe(Instant{any_duration()});
  history.finished_at = maybe(Instant{any_duration()});
  history.worker = text();
  auto const errors = *rc::gen::inRange(0, 4);
  for (int i = 0; i < errors; ++i) {
    history.errors.push_back(
        JobError{.error_class = *rc::gen::element(ErrorClass::user, ErrorClass::retryable, ErrorClass::fatal),
                 .code = text(),
                 .message = text(),
                 .detail = text(),
                 .attempt = *rc::gen::arbitrary<std::uint32_t>(),
                 .at = Instant{any_duration()}});
  }
  history.progress = maybe(JobProgress{*rc::gen::inRange<std::uint8_t>(0, 101), text()});
  history.result_kind = *rc::gen::element(PayloadKind::none, PayloadKind::json, PayloadKind::raw);
  if (history.result_kind != PayloadKind::none) history.result = text();
  history.log_lines = *rc::gen::arbitrary<std::vector<std::string>>();
  return history;
}

RC_GTEST_PROP(JobHistoryBytes, WhatIsWrittenReadsBack, ()) {
  JobHistory const history = any_history();

  auto const back = decode_history(encoded(history));

  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == history);
}

RC_GTEST_PROP(JobHistoryBytes, DamagedOnesAreRefusedOrMeanWhatTheySay, ()) {
  Bytes const bytes = damaged(encoded(any_history()));

  auto const history = decode_history(bytes);

  if (history) RC_ASSERT(encoded(*history) == bytes);
}

// --- The rules.

std::string field_at_fault(JobSpecView const& spec) {
  auto const result = check_spec(spec);
  return result ? "none" : result.error().field;
}
std::string field_at_fault(void (*change)(JobSpecView&)) {
  JobSpecView spec{.type = "t"};
  change(spec);
  return field_at_fault(spec);
}

TEST(JobSpecRules, AllowAnOrdinaryJob) {
  EXPECT_TRUE(check_spec({.type = "t"}));
  EXPECT_TRUE(check_spec({.type = "t",
                          .queue = "q",
                          .id = "my-id",
                          .payload_kind = PayloadKind::json,
                          .payload = "null",
                          .priority = 9,
                          .delay = seconds{0},
                          .max_attempts = 10'000,
                          .backoff = Backoff{},
                          .lease = kLeaseMax,
                          .unique_key = "any text at all, \xc3\xbc too",
                          .unique_for = hours{1},
                          .tags = {"a", "b"},
                          .keep_result = seconds{0},
                          .meta = "{}"}));
}

TEST(JobSpecRules, NameTheFieldThatBreaksThem) {
  EXPECT_EQ(field_at_fault(JobSpecView{}), "type");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.type = "a b"; }), "type");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.queue = ""; }), "queue");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.id = "\xff"; }), "id");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.priority = 10; }), "priority");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.delay = Duration{-1}; }), "delay");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.run_at = kInstantMax + Duration{1}; }), "run_at");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) {
              spec.delay = seconds{1};
              spec.run_at = instant_from_ms(0);
            }),
            "run_at");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.expires_in = Duration{0}; }), "expires_in");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.max_attempts = 0; }), "max_attempts");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.max_attempts = 10'001; }), "max_attempts");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.backoff = Backoff{.first = Duration{-1}}; }), "backoff.first");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.backoff = Backoff{.factor_permille = 999}; }),
            "backoff.factor");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.backoff = Backoff{.cap = seconds{14}}; }), "backoff.cap");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.backoff = Backoff{.jitter_permille = 1'001}; }),
            "backoff.jitter");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.lease = Duration{99}; }), "lease");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.unique_for = seconds{1}; }), "unique.key");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.group = "a/b"; }), "group");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.batch = "a/b"; }), "batch");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.tags = {"a", ""}; }), "tags[1]");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.tags.assign(21, "a"); }), "tags");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.keep_result = Duration{-1}; }), "keep_result");
  EXPECT_EQ(field_at_fault([](JobSpecView& spec) { spec.meta = "[]"; }), "meta");
}

TEST(JobSpecRules, OfAFlightNameTheFieldThatBreaksThem) {
  JobSpecView const flight{.type = "t", .cache_key = "a/b \xc3\xbc", .cache_fresh = hours{1}, .cache_tags = {"a"}};
  auto const fault = [&](auto change) {
    JobSpecView spec = flight;
    change(spec);
    return field_at_fault(spec);
  };

  EXPECT_EQ(field_at_fault(flight), "none");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_key = ""; }), "cache.key");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_key = "a\nb"; }), "cache.key");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.unique_key = "u"; }), "unique.key");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.id = "i"; }), "id");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.batch = "b"; }), "batch");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_fresh = Duration{-1}; }), "cache.fresh");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_stale = kCacheWindowMax; }), "cache.stale");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_error_for = hours{25}; }), "cache.error_for");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_tags = {"a", "b c"}; }), "cache.tags[1]");
  EXPECT_EQ(fault([](JobSpecView& spec) { spec.cache_tags.assign(21, "a"); }), "cache.tags");
}

TEST(JobSpecRules, BoundWhatMayBeLong) {
  std::string const key(257, 'k');
  std::string const payload(kPayloadBytesMax + 1, '1');
  std::string const meta(kMetaBytesMax + 1, '{');

  EXPECT_EQ(field_at_fault({.type = "t", .unique_key = key}), "unique.key");
  EXPECT_EQ(field_at_fault({.type = "t", .payload_kind = PayloadKind::raw, .payload = payload}), "payload");
  EXPECT_EQ(field_at_fault({.type = "t", .meta = meta}), "meta");
}

// --- Remembered answers.

Bytes encoded(EnqueueReply const& reply) {
  Bytes out;
  encode_enqueue_reply(reply, out);
  return out;
}

TEST(EnqueueReplyBytes, JobsInARowCostTwoBytesEach) {
  EnqueueReply const reply{.jobs = {{.number = JobNumber{100}, .state = JobState::ready},
                                    {.number = JobNumber{101}, .state = JobState::scheduled, .duplicate = true},
                                    {.number = JobNumber{102}, .client_id = "mine", .state = JobState::ready}}};

  EXPECT_EQ(encoded(reply), "\x03\x01\xc8\x01\x08\x02\x11\x02\x04mine"s);
}

EnqueueReply any_reply() {
  EnqueueReply reply;
  auto const count = *rc::gen::inRange(0, 5);
  for (int i = 0; i < count; ++i) {
    reply.jobs.push_back(EnqueuedJob{.number = JobNumber{*rc::gen::arbitrary<std::uint64_t>()},
                                     .client_id = *rc::gen::arbitrary<std::string>(),
                                     .state = static_cast<JobState>(*rc::gen::inRange(0, kJobStates)),
                                     .duplicate = *rc::gen::arbitrary<bool>()});
  }
  return reply;
}

RC_GTEST_PROP(EnqueueReplyBytes, WhatIsWrittenReadsBack, ()) {
  EnqueueReply const reply = any_reply();

  auto const back = decode_enqueue_reply(encoded(reply));

  RC_ASSERT(back.has_value());
  RC_ASSERT(back->jobs.size() == reply.jobs.size());
  for (std::size_t i = 0; i < reply.jobs.size(); ++i) {
    RC_ASSERT(back->jobs[i].number == reply.jobs[i].number);
    RC_ASSERT(back->jobs[i].client_id == reply.jobs[i].client_id);
    RC_ASSERT(back->jobs[i].state == reply.jobs[i].state);
    RC_ASSERT(back->jobs[i].duplicate == reply.jobs[i].duplicate);
  }
}

RC_GTEST_PROP(EnqueueReplyBytes, DamagedOnesAreRefusedOrMeanWhatTheySay, ()) {
  Bytes const bytes = damaged(encoded(any_reply()));

  auto const reply = decode_enqueue_reply(bytes);

  if (reply) RC_ASSERT(encoded(*reply) == bytes);
}

}  // namespace
}  // namespace workmill
