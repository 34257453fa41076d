#include <gmock/gmock.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/commands/batches_fixture_test.h"

// Lists of batches, page by page.
namespace workmill::engine {
namespace {

using ::testing::ElementsAre;

class ListedBatches : public Batches {
 protected:
  explicit ListedBatches(EngineOptions const& few = {.steps_max = 3}) : Batches(few) {}
  // Page by page: the ids, and how many pages there were.
  std::vector<std::string> list(ListBatches command, std::size_t* pages = nullptr) {
    std::vector<std::string> ids;
    for (std::size_t count = 1;; ++count) {
      auto const page = expect<BatchesReply>(command);
      EXPECT_LE(page.batches.size(), command.limit);
      for (BatchView const& batch : page.batches) ids.push_back(batch.id);
      if (pages != nullptr) *pages = count;
      if (!page.next || count == 100) return ids;
      command.before = page.next;
    }
  }
};

TEST_F(ListedBatches, AreShownFromTheNewestToTheOldestByState) {
  for (auto const* const id : {"a", "b", "c", "d", "e"}) make(id);
  add("b");
  close("b");
  close("d");

  EXPECT_THAT(list({}), ElementsAre("e", "d", "c", "b", "a"));
  EXPECT_THAT(list({.state = BatchState::open, .limit = 1}), ElementsAre("e", "c", "a"));
  EXPECT_THAT(list({.state = BatchState::closed}), ElementsAre("b"));
  EXPECT_THAT(list({.state = BatchState::over}), ElementsAre("d"));
  EXPECT_THAT(engine.status().batches_in, ElementsAre(3U, 1U, 1U));

  kill_one();
  EXPECT_THAT(list({.state = BatchState::closed}), ElementsAre("b")) << "it may be retried";
  expect<DoneReply>(ForgetBatch{.id = "d"});
  EXPECT_THAT(engine.status().batches_in, ElementsAre(3U, 1U, 0U));
  auto const again = copied_and_replayed();
  EXPECT_EQ(again->status().batches_in, engine.status().batches_in);
}

TEST_F(ListedBatches, ACallLooksAtABoundedNumber) {
  for (auto const* const id : {"a", "b", "c", "d", "e", "f", "g"}) make(id);
  std::size_t pages = 0;
  EXPECT_THAT(list({.state = BatchState::closed}, &pages), ElementsAre());
  EXPECT_EQ(pages, 3U);
}

TEST_F(ListedBatches, AreThoseWhoseCallbacksAreAllOfTheQueuesThatMayBeSeen) {
  auto const in = [](std::string_view queue) { return bytes({.type = "t", .queue = queue}); };
  expect<BatchReply>(MakeBatch{.id = "both", .on_success = in("q"), .on_finish = in("q.too")});
  expect<BatchReply>(MakeBatch{.id = "half", .on_success = in("q"), .on_finish = in("other")});
  expect<BatchReply>(MakeBatch{.id = "one", .on_finish = in("q")});
  expect<BatchReply>(MakeBatch{.id = "none", .on_success = in("other")});
  auto const allowed = std::make_shared<QueueSet const>(std::vector<std::string>{"q", "q.too"});

  EXPECT_THAT(list({.limit = 1, .among = allowed}), ElementsAre("one", "both"));
}

class ListedWithMeta : public ListedBatches {
 protected:
  ListedWithMeta() : ListedBatches(EngineOptions{.steps_max = 1'000}) {}
};

TEST_F(ListedWithMeta, AreOnShorterPagesWhereTheyHaveMuch) {
  MakeBatch command = both({});
  command.meta = R"({"x":")" + std::string(kBatchMetaBytesMax - 8, 'x') + R"("})";
  for (int i = 0; i < 300; ++i) expect<BatchReply>(command);
  std::size_t pages = 0;
  EXPECT_EQ(list({.limit = 1'000}, &pages).size(), 300U);
  EXPECT_EQ(pages, 2U);
}

}  // namespace
}  // namespace workmill::engine
