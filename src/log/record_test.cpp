#include "log/record.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "model/cache_set.h"

namespace workmill::log {
namespace {

using namespace std::string_literals;
using namespace effect;

constexpr JobNumber number_at(std::int64_t ms, std::uint64_t counter = 0) {
  return JobNumber{static_cast<std::uint64_t>(ms) << kCounterBits | counter};
}

Bytes written(Effect const& effect) {
  Bytes out;
  append_record(effect, out);
  return out;
}

// A job made at 1,000 ms: eight bytes, little-endian.
constexpr JobNumber kJob = number_at(1'000, 1);
Bytes const kJobBytes = "\x01\x00\x80\x3e\x00\x00\x00\x00"s;

Bytes header(std::uint8_t kind, std::size_t body_bytes) {
  return {static_cast<char>(kind), static_cast<char>(body_bytes & 0xff), static_cast<char>(body_bytes >> 8 & 0xff),
          static_cast<char>(body_bytes >> 16)};
}
Bytes record(std::uint8_t kind, Bytes const& body) { return header(kind, body.size()) + body; }

TEST(Record, EveryKindHasItsLayout) {
  EXPECT_EQ(written(StoreCreated{.salt = 0x0102, .last_number = kJob, .last_order = 3, .last_token = LeaseToken{4}}),
            record(1, "\x02\x01\0\0\0\0\0\0"s + kJobBytes + "\x03\0\0\0\0\0\0\0"s + "\x04\0\0\0\0\0\0\0"s));
  EXPECT_EQ(written(StoreCreated{.salt = 1, .last_number = kJob, .last_flag_version = 130}),
            record(1, "\x01\0\0\0\0\0\0\0"s + kJobBytes + Bytes(16, '\0') + "\x82\x01"s));
  EXPECT_EQ(written(ServerResumed{.down = Duration{-1}}), record(2, "\x01"s));
  EXPECT_EQ(written(Alive{}), record(3, ""));
  EXPECT_EQ(written(JobEnqueued{.number = kJob,
                                .order = std::to_underlying(kJob),
                                .ready_at = instant_from_ms(1'000),
                                .scheduled = false,
                                .spec = "spec"}),
            record(4, kJobBytes + "\x00\x00\x00spec"s));
  EXPECT_EQ(written(JobEnqueued{.number = kJob,
                                .order = std::to_underlying(kJob) + 2,
                                .ready_at = instant_from_ms(1'100),
                                .scheduled = true,
                                .spec = ""}),
            record(4, kJobBytes + "\x01\x04\xc8\x01"s));
  EXPECT_EQ(written(JobReady{.number = kJob, .order = std::to_underlying(kJob) + 1}), record(5, kJobBytes + "\x02"));
  EXPECT_EQ(written(JobLeased{.number = kJob,
                              .token = LeaseToken{7},
                              .at = instant_from_ms(1'001),
                              .deadline = instant_from_ms(1'031),
                              .worker = "w",
                              .previous = {.segment = 3, .offset = 0x10}}),
            record(6, kJobBytes + "\x07\x00\x00\x00\x00\x00\x00\x00\x02\x3c\x03\x10\x00\x00\x00w"s));
  EXPECT_EQ(written(LeaseExtended{.number = kJob, .deadline = instant_from_ms(1'002)}), record(7, kJobBytes + "\x04"));
  EXPECT_EQ(written(JobCompleted{
                .number = kJob, .at = instant_from_ms(1'003), .result_kind = PayloadKind::json, .result = "{}"}),
            record(8, kJobBytes + "\x06\x00\x01{}"s));
  EXPECT_EQ(written(JobFailed{.number = kJob,
                              .at = instant_from_ms(1'001),
                              .next = JobState::scheduled,
                              .ready_at = instant_from_ms(1'011),
                              .error_class = ErrorClass::retryable,
                              .code = "c",
                              .message = "m",
                              .detail = "1",
                              .attempt = 2}),
            record(9, kJobBytes + "\x02\x00\x14\x01\x02\x00\x01"
                                  "c\x01m1"s));
  EXPECT_EQ(written(JobFailed{.number = kJob,
                              .at = instant_from_ms(1'001),
                              .next = JobState::ready,
                              .order = std::to_underlying(kJob),
                              .error_class = ErrorClass::user}),
            record(9, kJobBytes + "\x02\x01\x00\x00\x00\x00\x00\x00"s));
  EXPECT_EQ(written(JobReleased{.number = kJob,
                                .order = std::to_underlying(kJob) + 1,
                                .next = JobState::ready,
                                .at = instant_from_ms(1'000)}),
            record(10, kJobBytes + "\x00\x01\x02"s));
  EXPECT_EQ(written(JobReleased{.number = kJob, .next = JobState::cancelled, .at = instant_from_ms(1'000)}),
            record(10, kJobBytes + "\x00\x05"s));
  EXPECT_EQ(
      written(JobCancelled{.number = kJob, .at = instant_from_ms(1'000), .previous = {.segment = 1, .offset = 2}}),
      record(11, kJobBytes + "\x00\x01\x02\x00\x00\x00"s));
  EXPECT_EQ(written(CancelRequested{.number = kJob}), record(12, kJobBytes));
  EXPECT_EQ(written(JobRetried{.number = kJob, .order = std::to_underlying(kJob) - 1}), record(13, kJobBytes + "\x01"));
  EXPECT_EQ(written(ProgressMade{.number = kJob, .percent = 50, .message = "half"}),
            record(14, kJobBytes + "\x32half"));
  EXPECT_EQ(written(LinesLogged{.number = kJob,
                                .lines = "\x01"
                                         "a"}),
            record(15, kJobBytes + "\x00\x01"
                                   "a"s));
  EXPECT_EQ(written(JobForgotten{.number = kJob}), record(16, kJobBytes));
  EXPECT_EQ(written(JobSnapshot{.number = kJob,
                                .patched = true,
                                .state = JobState::leased,
                                .cancel_requested = true,
                                .order = std::to_underlying(kJob),
                                .due = instant_from_ms(1'001),
                                .token = LeaseToken{9},
                                .attempt = 3,
                                .spec = "sp",
                                .history = "hist"}),
            record(17, kJobBytes + "\x07\x02\x00\x02\x09\x00\x00\x00\x00\x00\x00\x00\x03\x02sphist"s));
  EXPECT_EQ(written(JobSnapshot{.number = kJob,
                                .state = JobState::completed,
                                .order = std::to_underlying(kJob),
                                .due = instant_from_ms(1'000)}),
            record(17, kJobBytes + "\x00\x03\x00\x00\x00\x00"s));
  EXPECT_EQ(written(JobSnapshot{.number = kJob,
                                .state = JobState::dead,
                                .order = std::to_underlying(kJob),
                                .due = instant_from_ms(1'000),
                                .spec = "sp",
                                .history = "hist",
                                .checkpoint = "{}"}),
            record(17, kJobBytes + "\x08\x04\x00\x00\x00\x02sp\x02{}hist"s));
  EXPECT_EQ(written(JobSnapshot{.number = kJob,
                                .state = JobState::ready,
                                .order = std::to_underlying(kJob),
                                .due = instant_from_ms(1'000),
                                .spec = "sp",
                                .checkpoint_lost = true}),
            record(17, kJobBytes + "\x10\x01\x00\x00\x00\x02sp"s));
  EXPECT_EQ(written(JobSnapshot{.number = kJob,
                                .state = JobState::ready,
                                .order = std::to_underlying(kJob),
                                .due = instant_from_ms(1'000),
                                .spec = "sp",
                                .is_overtaken = true}),
            record(17, kJobBytes + "\x20\x01\x00\x00\x00\x02sp"s));
  EXPECT_EQ(written(QueueChanged{.name = "q", .settings = {.paused = true, .max_depth = 5}}), record(18, "\x03\x05q"));
  EXPECT_EQ(written(QueueChanged{.name = "q", .settings = {.when_full = WhenFull::drop_oldest}}), record(18, "\x04q"));
  EXPECT_EQ(written(QueueRemoved{.name = "q"}), record(19, "q"));
  EXPECT_EQ(written(RequestRemembered{.key = "k", .fingerprint = 1, .until = instant_from_ms(2), .reply = "r"}),
            record(20, "\x01\x00\x00\x00\x00\x00\x00\x00\x04\x01kr"s));
  EXPECT_EQ(written(CheckpointMade{.number = kJob, .data = "[1]"}), record(21, kJobBytes + "[1]"));
  EXPECT_EQ(written(CheckpointMade{.number = kJob}), record(21, kJobBytes));
  EXPECT_EQ(written(CacheStored{.key = "k",
                                .content_type = "t",
                                .body = "body",
                                .tags = "\x01"
                                        "a",
                                .stored_at = instant_from_ms(1),
                                .fresh_until = instant_from_ms(3),
                                .stale_until = instant_from_ms(6),
                                .compute_time = Duration{4},
                                .etag = 5}),
            record(22,
                   "\x00\x02\x04\x06\x08\x05\x00\x00\x00\x00\x00\x00\x00\x01k\x01t\x02\x01"
                   "abody"s));
  EXPECT_EQ(written(CacheStored{.key = "k", .is_copy = true}),
            record(22, "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01k\x00\x00"s));
  EXPECT_EQ(
      written(CacheFailed{
          .key = "k", .error_class = ErrorClass::fatal, .code = "c", .message = "m", .until = instant_from_ms(1)}),
      record(23,
             "\x02\x02\x01k\x01"
             "cm"s));
  EXPECT_EQ(written(CacheForgotten{.key = "key"}), record(24, "key"));
  EXPECT_EQ(written(FlagChanged{.key = "k", .version = 2, .at = instant_from_ms(1), .by = "b", .definition = "def"}),
            record(25,
                   "\x02\x02\x01k\x01"
                   "bdef"s));
  EXPECT_EQ(written(FlagRemoved{.key = "k", .at = instant_from_ms(1), .by = "b"}), record(26, "\x02\x01kb"s));
  EXPECT_EQ(written(FlightOvertaken{.number = kJob}), record(27, kJobBytes));
  constexpr BatchNumber batch{std::to_underlying(kJob)};
  EXPECT_EQ(
      written(JobForgotten{.number = kJob, .batch = BatchNumber{std::to_underlying(kJob) - 1}, .last = JobState::dead}),
      record(16, kJobBytes + "\x01\x04"s));
  EXPECT_EQ(written(BatchMade{.batch = batch,
                              .id = "b",
                              .on_success = "s1",
                              .on_finish = "",
                              .meta = "{}",
                              .traceparent = "tp",
                              .tracestate = "ts"}),
            record(28, kJobBytes + "\x01"
                                   "b\x02s1\x00\x02{}\x02tpts"s));
  EXPECT_EQ(written(BatchClosed{.batch = batch, .at = instant_from_ms(1'001)}), record(29, kJobBytes + "\x02"));
  EXPECT_EQ(written(BatchFired{.batch = batch,
                               .callback = CallbackKind::finish,
                               .job = JobNumber{std::to_underlying(kJob) + 3},
                               .at = instant_from_ms(1'002)}),
            record(30, kJobBytes + "\x01\x06\x04"s));
  EXPECT_EQ(written(BatchForgotten{.batch = batch}), record(31, kJobBytes));
  EXPECT_EQ(
      written(BatchCopied{.batch = batch,
                          .closed_at = instant_from_ms(1'001),
                          .changed_at = instant_from_ms(1'002),
                          .gone = {.deleted = 1, .completed = 2, .dead = 3, .cancelled = 130},
                          .fingerprint = 0x0102,
                          .callbacks = {{{.queue = "q", .spec = "sp", .job = {}},
                                         {.queue = "r", .spec = {}, .job = JobNumber{std::to_underlying(kJob) + 1}}}},
                          .id = "b",
                          .meta = "",
                          .traceparent = "",
                          .tracestate = "ts"}),
      record(32, kJobBytes + "\x1b\x02\x04\x01\x02\x03\x82\x01\x02\x01\0\0\0\0\0\0\x01q\x02sp\x01r\x02\x01"
                             "b\0\0ts"s));
  EXPECT_EQ(
      written(BatchCopied{.batch = batch, .callbacks = {{{}, {.queue = "q", .spec = "s", .job = {}}}}, .id = "b"}),
      record(32, kJobBytes + "\x08\xcf\x0f\0\0\0\0\0\0\0\0\0\0\0\0\x01q\x01s\x01"
                             "b\0\0"s));
  static_assert(std::variant_size_v<Effect> == 32, "a new kind needs its layout tested here");
}

TEST(Record, AnOrdinaryJobCostsFifteenBytesBesideItsSpec) {
  EXPECT_EQ(
      written(
          JobEnqueued{.number = kJob, .order = std::to_underlying(kJob), .ready_at = created_at(kJob), .spec = "spec"})
          .size(),
      15U + 4);
}

TEST(Record, ABodyOfMoreThanTwoBytesOfLengthKeepsItsLength) {
  std::string const spec(100'000, 's');

  Bytes const bytes = written(JobEnqueued{.number = kJob, .spec = spec});

  EXPECT_EQ(record_bytes(bytes), bytes.size());
  EXPECT_EQ(std::get<JobEnqueued>(*parse_record(bytes)).spec, spec);
}

TEST(Record, BytesThatNobodyWouldHaveWrittenAreRefused) {
  for (Bytes const& bytes : {
           ""s,
           "\x03\x00"s,                                                             // no whole header
           record(0, ""),                                                           // no such kind
           record(27, ""),                                                          // a kind from the future
           header(3, 1),                                                            // shorter than it says
           record(3, "x"),                                                          // longer than its kind is
           record(12, "short"),                                                     // shorter than its kind is
           record(4, kJobBytes + "\x02\x00\x00"s),                                  // neither scheduled nor not
           record(6, kJobBytes + kJobBytes + "\x00\x00\xff\xff\xff\xff\xff\x0f"s),  // no such segment
           record(8, kJobBytes + "\x00\x00\x03"s),                                  // no such kind of result
           record(8, kJobBytes + "\x00\x00\x00x"s),                                 // a result of no kind
           record(9, kJobBytes + "\x00\x02\x00\x00\x00\x00\x00"s),                  // failed, and leased
           record(9, kJobBytes + "\x00\x04\x03\x00\x00\x00\x00"s),                  // no such class
           record(10, kJobBytes + "\x00\x03"s),                                     // released, and completed
           record(14, kJobBytes + "\x65"s),                                         // 101 percent
           record(17, kJobBytes + "\x08\x00\x00\x00\x00\x00"s),                     // a flag from the future
           record(17, kJobBytes + "\x00\x06\x00\x00\x00\x00"s),                     // no such state
           record(17,
                  kJobBytes + "\x04\x02\x00\x00" + "\0\0\0\0\0\0\0\0"s + "\x00\x00"s),  // a token of zero, spelt out
           record(18, "\x08q"),                                                         // a flag from the future
       }) {
    auto const effect = parse_record(bytes);
    ASSERT_FALSE(effect);
    EXPECT_EQ(effect.error().code, ErrorCode::log_corrupt);
  }
}

TEST(Record, ABatchIsReadInOrderWithPlaces) {
  Bytes payload = written(Alive{});
  append_record(JobForgotten{.number = kJob}, payload);
  append_record(Alive{}, payload);
  std::vector<std::pair<std::uint32_t, std::uint32_t>> places;

  auto const result = for_each_record(payload, [&](Effect const&, std::uint32_t offset, std::uint32_t bytes) {
    places.emplace_back(offset, bytes);
    return Result<>{};
  });

  EXPECT_TRUE(result);
  EXPECT_EQ(places, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{0, 4}, {4, 12}, {16, 4}}));
}

TEST(Record, ABatchThatEndsInsideOfARecordIsCorrupt) {
  Bytes payload = written(Alive{}) + written(JobForgotten{.number = kJob});
  int seen = 0;
  auto const count = [&](Effect const&, std::uint32_t, std::uint32_t) {
    ++seen;
    return Result<>{};
  };

  payload.pop_back();
  EXPECT_FALSE(for_each_record(payload, count));
  payload.resize(6);
  EXPECT_FALSE(for_each_record(payload, count));
  EXPECT_EQ(seen, 2);
}

TEST(Record, AVisitorsErrorEndsTheBatch) {
  Bytes const payload = written(Alive{}) + written(Alive{});
  int seen = 0;

  auto const result = for_each_record(payload, [&](Effect const&, std::uint32_t, std::uint32_t) -> Result<> {
    ++seen;
    return fail(ErrorCode::internal, "enough");
  });

  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "enough");
  EXPECT_EQ(seen, 1);
}

TEST(Record, GivesTheSpecOfAJobWithoutACopy) {
  Bytes const enqueued = written(JobEnqueued{.number = kJob, .spec = "spec"});
  Bytes const snapshot = written(JobSnapshot{.number = kJob, .spec = "spec2", .history = "h"});

  EXPECT_EQ(spec_of(enqueued), "spec");
  EXPECT_EQ(spec_of(enqueued)->data(), enqueued.data() + enqueued.size() - 4);
  EXPECT_EQ(spec_of(snapshot), "spec2");
  EXPECT_FALSE(spec_of(written(Alive{})));
}

// --- Properties over all kinds.

// Keeps what the views of a drawn effect point to.
struct Drawn {
  std::vector<std::string> texts{};
  Effect effect{};
};

class Draw {
 public:
  explicit Draw(Drawn& drawn) : drawn_(drawn) { drawn_.texts.reserve(8); }

  template <class T = std::uint64_t>
  T any() {
    return *rc::gen::arbitrary<T>();
  }
  std::string_view text() {
    drawn_.texts.push_back(any<std::string>());
    return drawn_.texts.back();
  }
  JobNumber number() { return JobNumber{any()}; }
  BatchNumber batch() { return BatchNumber{any()}; }
  Instant instant() { return instant_from_ms(any<std::int64_t>()); }
  Position position() {
    auto const segment = any<std::uint32_t>();
    return {.segment = segment, .offset = segment == 0 ? 0 : any<std::uint32_t>()};
  }
  JobState state() { return static_cast<JobState>(*rc::gen::inRange(0, kJobStates)); }
  PayloadKind kind() { return *rc::gen::element(PayloadKind::none, PayloadKind::json, PayloadKind::raw); }
  ErrorClass error_class() { return *rc::gen::element(ErrorClass::user, ErrorClass::retryable, ErrorClass::fatal); }

  void operator()(StoreCreated& e) { e = {any(), JobNumber{any()}, any(), LeaseToken{any()}, any()}; }
  void operator()(ServerResumed& e) { e.down = Duration{any<std::int64_t>()}; }
  void operator()(Alive&) {}
  void operator()(JobEnqueued& e) { e = {number(), any(), instant(), any<bool>(), text()}; }
  void operator()(JobReady& e) { e = {number(), any()}; }
  void operator()(JobLeased& e) { e = {number(), LeaseToken{any()}, instant(), instant(), text(), position()}; }
  void operator()(LeaseExtended& e) { e = {number(), instant()}; }
  void operator()(JobCompleted& e) {
    e = {number(), instant(), kind(), {}, position()};
    if (e.result_kind != PayloadKind::none) e.result = text();
  }
  void operator()(JobFailed& e) {
    e = {.number = number(),
         .at = instant(),
         .error_class = error_class(),
         .code = text(),
         .message = text(),
         .detail = text(),
         .attempt = any<std::uint32_t>(),
         .previous = position()};
    e.next = *rc::gen::element(JobState::scheduled, JobState::ready, JobState::dead, JobState::cancelled);
    if (e.next == JobState::ready) e.order = any();
    if (e.next == JobState::scheduled) e.ready_at = instant();
  }
  void operator()(JobReleased& e) {
    e = {.number = number(), .at = instant()};
    e.next = *rc::gen::element(JobState::ready, JobState::cancelled);
    if (e.next == JobState::ready) e.order = any();
  }
  void operator()(JobCancelled& e) { e = {number(), instant(), position()}; }
  void operator()(CancelRequested& e) { e = {number()}; }
  void operator()(JobRetried& e) { e = {number(), any()}; }
  void operator()(ProgressMade& e) { e = {number(), *rc::gen::inRange<std::uint8_t>(0, 101), text()}; }
  void operator()(LinesLogged& e) { e = {number(), text(), position()}; }
  void operator()(JobForgotten& e) {
    e = {.number = number()};
    if (any<bool>()) e.batch = batch();
    if (e.batch != BatchNumber{}) e.last = state();
  }
  void operator()(BatchMade& e) { e = {batch(), text(), text(), text(), text(), text(), text()}; }
  void operator()(BatchClosed& e) { e = {batch(), instant()}; }
  void operator()(BatchFired& e) {
    e = {batch(), *rc::gen::element(CallbackKind::success, CallbackKind::finish), number(), instant()};
  }
  void operator()(BatchForgotten& e) { e = {batch()}; }
  void operator()(BatchCopied& e) {
    e = {.batch = batch(), .changed_at = instant(), .gone = {any(), any(), any(), any()}, .fingerprint = any()};
    if (any<bool>()) e.closed_at = instant();
    for (auto& callback : e.callbacks) {
      callback.queue = text();
      if (callback.queue.empty()) continue;
      if (any<bool>()) callback.job = number();
      if (callback.job == JobNumber{}) callback.spec = text();
    }
    e.id = text();
    e.meta = text();
    e.traceparent = text();
    e.tracestate = text();
  }
  void operator()(JobSnapshot& e) {
    e = {number(),          any<bool>(),          state(), any<bool>(), any(), instant(),
         LeaseToken{any()}, any<std::uint32_t>(), text(),  text(),      text()};
    e.checkpoint_lost = e.checkpoint.empty() && any<bool>();
    e.is_overtaken = any<bool>();
  }
  void operator()(QueueChanged& e) {
    e = {text(), {any<bool>(), std::nullopt, *rc::gen::element(WhenFull::refuse, WhenFull::drop_oldest)}};
    if (any<bool>()) e.settings.max_depth = any();
  }
  void operator()(QueueRemoved& e) { e = {text()}; }
  void operator()(CheckpointMade& e) { e = {number(), text()}; }
  void operator()(CacheStored& e) {
    e = {text(), text(),     text(), text(), instant(), instant(), instant(), Duration{any<std::int64_t>()},
         any(),  any<bool>()};
  }
  void operator()(CacheFailed& e) { e = {text(), error_class(), text(), text(), instant()}; }
  void operator()(CacheForgotten& e) { e = {text()}; }
  void operator()(FlagChanged& e) { e = {text(), any(), instant(), text(), text()}; }
  void operator()(FlagRemoved& e) { e = {text(), instant(), text()}; }
  void operator()(FlightOvertaken& e) { e = {number()}; }
  void operator()(RequestRemembered& e) { e = {text(), any(), instant(), text()}; }

 private:
  Drawn& drawn_;
};

template <std::size_t I = 0>
void emplace_kind(std::size_t kind, Effect& effect) {
  if constexpr (I < std::variant_size_v<Effect>) {
    if (kind == I) {
      effect.emplace<I>();
    } else {
      emplace_kind<I + 1>(kind, effect);
    }
  }
}

// Calls `check` for one drawn effect of each kind.
void for_each_kind(auto const& check) {
  for (std::size_t kind = 0; kind < std::variant_size_v<Effect>; ++kind) {
    Drawn drawn;
    emplace_kind(kind, drawn.effect);
    std::visit(Draw{drawn}, drawn.effect);
    check(drawn.effect);
  }
}

RC_GTEST_PROP(Record, OfEveryKindReadsBackAsItself, ()) {
  for_each_kind([](Effect const& effect) {
    Bytes out = "before";
    std::uint32_t const bytes = append_record(effect, out);
    BytesView const record = BytesView{out}.substr(6);

    RC_ASSERT(record.size() == bytes);
    RC_ASSERT(record_bytes(record) == bytes);
    auto const back = parse_record(record);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == effect);
  });
}

RC_GTEST_PROP(Record, DamagedIsRefusedOrMeansWhatItSays, ()) {
  for_each_kind([](Effect const& effect) {
    Bytes bytes = written(effect);
    auto const changes = *rc::gen::inRange(1, 4);
    for (int i = 0; i < changes; ++i)
      bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] = *rc::gen::arbitrary<char>();
    if (*rc::gen::arbitrary<bool>()) bytes.resize(*rc::gen::inRange<std::size_t>(0, bytes.size() + 1));

    auto const parsed = parse_record(bytes);

    if (parsed) RC_ASSERT(written(*parsed) == bytes);
  });
}

TEST(Record, OfACachedValueIsAsLongAsTheCacheReckonsItOrALittleShorter) {
  auto const far = instant_from_ms(std::int64_t{1} << 47);
  for (std::size_t const bytes : {std::size_t{0}, std::size_t{255}, std::size_t{100'000}}) {
    Bytes const text(std::min(bytes, kCacheKeyBytesMax), 'x');
    Bytes const type(std::min(bytes, kCacheContentTypeBytesMax), 'x');
    Bytes const body(bytes, 'x');
    for (bool const is_long : {false, true}) {
      CacheStored const stored{.key = text,
                               .content_type = type,
                               .body = body,
                               .tags = text,
                               .stored_at = is_long ? far : instant_from_ms(0),
                               .fresh_until = is_long ? far + kCacheWindowMax : instant_from_ms(0),
                               .stale_until = is_long ? far + 2 * kCacheWindowMax : instant_from_ms(0),
                               .compute_time = is_long ? kCacheWindowMax : Duration{0},
                               .etag = ~std::uint64_t{0}};
      Bytes record;
      std::uint64_t const length = append_record(Effect{stored}, record);
      std::uint64_t const most = cache_record_bytes_max(text, type, body, text);
      EXPECT_LE(length, most);
      EXPECT_GE(length, most - kCacheRecordExtraBytes);
    }
  }
}

// What model/job.h says of its bounds: a snapshot has all that a job may have at once.
TEST(Record, HoldsASnapshotOfTheLargestJobThatThereCanBe) {
  std::size_t const errors = kErrorsKept * (2 * kErrorTextBytesMax + 256);
  std::size_t const rest = 64 * 1024;  // Names, tags, keys, limits.
  Bytes const spec(kPayloadBytesMax + kMetaBytesMax + rest, 's');
  for (std::size_t const last : {kResultBytesMax, kCheckpointBytesMax}) {
    Bytes const history(kLogBytesKept + errors + rest + (last == kResultBytesMax ? last : 0), 'h');
    Bytes const checkpoint(last == kCheckpointBytesMax ? last : 0, 'c');
    Bytes record;

    append_record(Effect{JobSnapshot{.spec = spec, .history = history, .checkpoint = checkpoint}}, record);

    EXPECT_LE(record.size() - kRecordHeaderBytes, kRecordBodyBytesMax);
    EXPECT_TRUE(parse_record(record));
  }
}

}  // namespace
}  // namespace workmill::log
