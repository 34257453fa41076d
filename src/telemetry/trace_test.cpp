#include "telemetry/trace.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace workmill::telemetry {
namespace {

constexpr std::string_view kExample = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

std::string text_of(TraceContext const& context) {
  auto const text = format_traceparent(context);
  return {text.begin(), text.end()};
}

TraceContext parsed(std::string_view text) {
  auto const context = parse_traceparent(text);
  EXPECT_TRUE(context) << text;
  return context.value_or(TraceContext{});
}

TEST(Traceparent, TheExampleOfTheStandardIsReadAndWrittenBack) {
  TraceContext const context = parsed(kExample);

  EXPECT_TRUE(context.is_sampled());
  EXPECT_EQ(context.trace_id[0], 0x4b);
  EXPECT_EQ(context.parent_id[7], 0xb7);
  EXPECT_EQ(text_of(context), kExample);
  auto const trace_id = format_trace_id(context);
  EXPECT_EQ(std::string(trace_id.begin(), trace_id.end()), "4bf92f3577b34da6a3ce929d0e0e4736");
}

TEST(Traceparent, OtherTextsAreIgnored) {
  for (std::string_view const bad : {
           "", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",       // Version 00 ends there.
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",  //
           "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",        // Upper case.
           "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",        //
           "00-00000000000000000000000000000000-00f067aa0ba902b7-01",        // No trace.
           "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",        // No parent.
           "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",        // Forbidden.
           "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",        //
           "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",        //
           "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",        //
           "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",       // A later one, but not one we can read.
       }) {
    EXPECT_EQ(parse_traceparent(bad), std::nullopt) << bad;
  }
}

TEST(Traceparent, ALaterVersionIsReadAsFarAsItIsKnown) {
  EXPECT_EQ(text_of(parsed("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes")), kExample);
  EXPECT_EQ(text_of(parsed("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")), kExample);
}

TEST(Traceparent, FlagsThatAreNotDefinedAreDropped) {
  EXPECT_EQ(parsed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff").flags, 0x03);
}

TEST(Trace, AStartedOneIsRandomAndSaysSo) {
  Rng rng{1};
  TraceContext const first = start_trace(rng, Sampling::on);
  TraceContext const second = start_trace(rng, Sampling::off);

  EXPECT_NE(first.trace_id, second.trace_id);
  EXPECT_EQ(first.flags, TraceContext::kRandomTraceId | TraceContext::kSampled);
  EXPECT_EQ(second.flags, TraceContext::kRandomTraceId);
}

TEST(Trace, AContinuedOneKeepsItsIdAndFlagsUnderANewParent) {
  Rng rng{1};
  TraceContext const parent = parsed(kExample);

  TraceContext const child = continue_trace(parent, rng);

  EXPECT_EQ(child.trace_id, parent.trace_id);
  EXPECT_EQ(child.flags, parent.flags);
  EXPECT_NE(child.parent_id, parent.parent_id);
}

RC_GTEST_PROP(Trace, WhatIsWrittenIsReadBack, (std::uint64_t seed, bool sampled)) {
  Rng rng{seed};
  TraceContext const context = start_trace(rng, sampled ? Sampling::on : Sampling::off);
  RC_ASSERT(parse_traceparent(text_of(context)) == context);
}

RC_GTEST_PROP(Traceparent, AnyBytesAreReadOrIgnored, ()) {
  std::string text{kExample};
  for (int changes = *rc::gen::inRange(0, 3); changes > 0; --changes) {
    text[*rc::gen::inRange<std::size_t>(0, text.size())] = *rc::gen::arbitrary<char>();
  }
  text.resize(*rc::gen::inRange<std::size_t>(50, 60), '-');
  auto const context = parse_traceparent(text);
  if (context) RC_ASSERT(parse_traceparent(text_of(*context)) == context);
}

}  // namespace
}  // namespace workmill::telemetry
