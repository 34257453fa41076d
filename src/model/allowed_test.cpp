#include "model/allowed.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace workmill {
namespace {

TEST(CacheKeySet, HasTheKeysThatBeginWithOneOfItsPrefixes) {
  CacheKeySet const keys{{"report:", "b", "report/2026/"}};

  for (auto const* const key : {"report:", "report:7", "b", "bb", "b\xff", "report/2026/11"}) {
    EXPECT_TRUE(keys.contains(key)) << key;
  }
  for (auto const* const key : {"", "report", "report/", "report/2025/1", "a", "c", "Report:7", "reports:7"}) {
    EXPECT_FALSE(keys.contains(key)) << key;
  }
}

// Against the obvious way to look, over all short texts of three letters.
TEST(CacheKeySet, FindsWhatALookAtEveryPrefixFinds) {
  std::vector<std::string> texts{""};
  for (std::size_t i = 0; texts[i].size() < 4; ++i) {
    for (char const letter : {'a', 'b', '\xff'}) texts.push_back(texts[i] + letter);
  }
  for (std::size_t step = 1; step < texts.size(); ++step) {
    std::vector<std::string> prefixes;
    for (std::size_t i = step; i < texts.size() && prefixes.size() < 7; i += step) prefixes.push_back(texts[i]);
    CacheKeySet const keys{prefixes};
    for (std::string const& key : texts) {
      bool const begins = std::ranges::any_of(prefixes, [&](auto& prefix) { return key.starts_with(prefix); });
      ASSERT_EQ(keys.contains(key), begins) << "step " << step << ", key " << key;
    }
  }
}

TEST(CacheKeySet, DropsPrefixesThatBeginWithAnother) {
  CacheKeySet const keys{{"ab", "a/1", "a/", "a/", "b", "ab1"}};

  EXPECT_EQ(std::vector<std::string>(keys.prefixes().begin(), keys.prefixes().end()),
            (std::vector<std::string>{"a/", "ab", "b"}));
}

TEST(Allowed, WithoutLimitsIsEverything) {
  Allowed const all;

  EXPECT_FALSE(all.is_limited());
  EXPECT_TRUE(all.has_queue("q") && all.has_key("k") && all.may_compute("k"));
}

TEST(Allowed, WhoIsLimitedToQueuesAloneTouchesNoKeyButByComputingIt) {
  Allowed const limited{.queues = std::make_shared<QueueSet const>(std::vector<std::string>{"q"})};

  EXPECT_TRUE(limited.is_limited());
  EXPECT_TRUE(limited.has_queue("q") && limited.may_compute("k"));
  EXPECT_FALSE(limited.has_queue("other") || limited.has_key("k"));
}

TEST(Allowed, PrefixesSayWhichKeysWhateverTheQueues) {
  auto const keys = std::make_shared<CacheKeySet const>(std::vector<std::string>{"k:"});
  auto const queues = std::make_shared<QueueSet const>(std::vector<std::string>{"q"});
  for (Allowed const& limited : {Allowed{.keys = keys}, Allowed{.queues = queues, .keys = keys}}) {
    EXPECT_TRUE(limited.is_limited());
    EXPECT_TRUE(limited.has_key("k:1") && limited.may_compute("k:1"));
    EXPECT_FALSE(limited.has_key("other") || limited.may_compute("other"));
  }
}

}  // namespace
}  // namespace workmill
