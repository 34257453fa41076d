#include "app/health/dashboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "app/terminal.h"

namespace workmill::app::health {
namespace {

using testing::Each;
using testing::HasSubstr;
using testing::Not;

constexpr char const* kStatus = R"({
  "version": "0.1.0", "readiness": "ready", "now": "2026-11-28T12:00:01.000Z", "uptime_seconds": 3725.5,
  "jobs": {"total": 1300, "ready": 1200, "scheduled": 3, "leased": 40, "completed": 50, "dead": 7, "cancelled": 0},
  "queues": 2, "time": {"turns": 1, "commands": COMMANDS, "flushes": 10, "decide_seconds": 1.0, "flush_seconds": 2.0,
  "read_seconds": 0.1, "flush_ms_typical": 0.12, "flush_on_writer_thread": false},
  "log": {"epoch": 1, "segments": 2, "bytes": 134217728, "live_bytes": 100, "disk_free_bytes": 10737418240},
  "bounds": [{"name": "inbox", "used": 1, "limit": 100}, {"name": "http_connections", "used": 95, "limit": 100}],
  "stages": {"parse": {"count": 100, "seconds_total": 0.1, "p50_us": 4.2, "p99_us": 17000}},
  "job_stages": {"ready_to_leased": {"count": 7, "seconds_total": 1, "p50_us": 2500000, "p99_us": 2500000}},
  "threads": [{"name": "wm-log", "busy": 0.0, "cpu_seconds_total": 0.1}, {"name": "wm-io-0", "busy": 0.71, "cpu_seconds_total": 9}],
  "types": [{"type": "thumbnail", "enqueued_total": 20000, "completed_total": 15, "failed_total": 1}],
  "http": {"connections_total": 10, "requests_total": REQUESTS, "refused_total": 0},
  "cache": {"entries": 12345, "flights": 3, "memory_bytes": 13631488, "calls_total": {"hit": HITS, "stale": 20, "miss": 5,
  "computed": 7, "coalesced": 8, "failed": 0, "pending": 1}}})";

constexpr char const* kQueues = R"({"items": [
  {"name": "quiet", "paused": true, "depth": {"ready": 5}, "oldest_ready_at": "2026-11-28T11:00:01.000Z",
   "counters": {"enqueued": 5, "leased": 0, "completed": 0, "failed": 0}},
  {"name": "mail", "paused": false, "depth": {"ready": 1195, "leased": 40}, "oldest_ready_at": null,
   "counters": {"enqueued": ENQUEUED, "leased": 10, "completed": 10, "failed": 0}},
  {"name": "bounded", "paused": false, "depth": {"scheduled": 1, "ready": 3, "leased": 1}, "oldest_ready_at": null,
   "counters": {"enqueued": 5, "leased": 1, "completed": 0, "failed": 0},
   "settings": {"paused": false, "max_depth": 5, "when_full": "WHEN_FULL"}}], "next": null})";

std::string with(std::string text, std::string const& name, int value) {
  if (auto const at = text.find(name); at != std::string::npos) text.replace(at, name.size(), std::to_string(value));
  return text;
}

Snapshot snapshot(int grown, std::string_view when_full = "refuse") {
  auto const status =
      parse_json(with(with(with(kStatus, "COMMANDS", 100 + grown), "REQUESTS", 500 + grown), "HITS", grown));
  std::string page = with(kQueues, "ENQUEUED", 1'000 + grown);
  page.replace(page.find("WHEN_FULL"), std::string_view{"WHEN_FULL"}.size(), when_full);
  auto const queues = parse_json(page);
  EXPECT_TRUE(status && queues);
  Snapshot made = read_status(status->root());
  read_queues(queues->root(), made);
  return made;
}

std::string text_of(std::vector<std::string> const& lines) {
  std::string text;
  for (auto const& line : lines) text.append(line).push_back('\n');
  return text;
}

TEST(Dashboard, ShowsEverythingThatTheServerSays) {
  auto const text = text_of(render(snapshot(0), snapshot(5'000), 2, {.server = "http://h:1", .columns = 0, .rows = 0}));

  EXPECT_THAT(text, HasSubstr("workmill 0.1.0  http://h:1  up 1h2m5s  ready  2026-11-28T12:00:01Z\n"));
  EXPECT_THAT(text, HasSubstr("ready 1,200  scheduled 3  leased 40  completed 50  dead 7\n"));
  EXPECT_THAT(text, HasSubstr("commands/s 2,500  requests/s 2,500  connections/s 0  refused/s 0\n"));
  EXPECT_THAT(text, HasSubstr("flush 0 %  of 0.12 ms  decide 0 %  read 0 %  log 128.0 MiB  disk free 10.0 GiB\n"));
  EXPECT_THAT(
      text, HasSubstr("cache/s 2,500  fresh 100 %  stale 0 %  computed/s 0  flights 3  values 12.3k  memory 13.0 MiB"));
  EXPECT_THAT(text, HasSubstr("wm-io-0              #########...  71 %"));
  EXPECT_THAT(text, HasSubstr("http_connections     ###########.  95 %"));
  EXPECT_THAT(text, HasSubstr("parse                 0    4 µs 17.0 ms"));
  EXPECT_THAT(text, HasSubstr("mail                   1,195      40   2,500       0        0\n"));
  EXPECT_THAT(text, HasSubstr("quiet                      5       0       0       0        0       1h  paused\n"));
  EXPECT_THAT(text, HasSubstr("bounded                    3       1       0       0        0           full\n"));
  EXPECT_THAT(text, HasSubstr("thumbnail              20.0k"));
}

TEST(Dashboard, DoesNotMarkAQueueAsFullThatPushesOutOlderJobs) {
  auto const text =
      text_of(render(snapshot(0, "drop_oldest"), snapshot(0, "drop_oldest"), 1, {.columns = 0, .rows = 0}));

  EXPECT_THAT(text, HasSubstr("bounded"));
  EXPECT_THAT(text, Not(HasSubstr("full\n")));
}

TEST(Dashboard, HasNoRatesBeforeTheSecondLook) {
  auto const text = text_of(render(snapshot(0), snapshot(0), 0, {.columns = 0, .rows = 0}));

  EXPECT_THAT(text, HasSubstr("commands/s -  requests/s -"));
}

TEST(Dashboard, SaysNothingOfACacheThatNobodyUses) {
  Snapshot now = snapshot(0);
  now.cache = CacheState{};

  EXPECT_THAT(render(now, now, 1, {.columns = 0, .rows = 0}), Each(Not(HasSubstr("cache/s"))));
}

TEST(Dashboard, ShowsTheCallsOfTheCacheThatFailed) {
  Snapshot before = snapshot(0), now = snapshot(0);
  now.cache->failed += 6;
  now.cache->asked += 12;

  EXPECT_THAT(text_of(render(before, now, 2, {.columns = 0, .rows = 0})),
              HasSubstr("cache/s 6.0  fresh 0 %  stale 0 %  computed/s 0  failed/s 3.0  flights 3"));
  EXPECT_THAT(text_of(render(now, now, 0, {.columns = 0, .rows = 0})), HasSubstr("cache/s -  fresh -  stale -"));
}

TEST(Dashboard, LeavesOutWhatAnOlderServerDoesNotSay) {
  Snapshot old;
  old.version = "0.0.1";

  auto const text = text_of(render(old, old, 1, {.columns = 80, .rows = 24}));

  for (char const* heading : {"STAGE", "THREAD", "BOUND", "QUEUE", "TYPE", "requests/s"}) {
    EXPECT_THAT(text, Not(HasSubstr(heading)));
  }
}

TEST(Dashboard, FitsIntoEveryTerminal) {
  Snapshot now = snapshot(100);
  for (int i = 0; i < 40; ++i) {
    now.queues.push_back(
        {.name = "queue-with-a-rather-long-name-" + std::to_string(i), .max_depth = {}, .oldest_ready_at = {}});
    now.bounds.push_back({.name = "bound" + std::to_string(i), .used = 1, .limit = 2});
    now.types.push_back({.type = std::string(128, 'x')});
  }
  for (std::size_t const columns : {20u, 40u, 79u, 80u, 200u}) {
    for (std::size_t const rows : {1u, 3u, 10u, 24u, 60u, 200u}) {
      auto const lines = render(snapshot(0), now, 1, {.server = "http://h:1", .columns = columns, .rows = rows});
      EXPECT_LE(lines.size(), rows);
      for (auto const& line : lines) EXPECT_LE(columns_of(line), columns) << line;
    }
  }
  auto const usual = text_of(render(snapshot(0), now, 1, {.columns = 80, .rows = 24}));
  for (char const* heading : {"STAGE", "THREAD", "BOUND", "QUEUE", "TYPE"}) EXPECT_THAT(usual, HasSubstr(heading));
}

TEST(Dashboard, HasColoursOnlyWhereTheyAreWanted) {
  View view{.columns = 80, .rows = 24, .colours = false};
  EXPECT_THAT(render(snapshot(0), snapshot(1), 1, view), Each(Not(HasSubstr("\x1b"))));

  view.colours = true;
  EXPECT_THAT(text_of(render(snapshot(0), snapshot(1), 1, view)), HasSubstr("\x1b[31m"));
}

TEST(Dashboard, ShowsNoControlCharactersOfOthers) {
  Snapshot now = snapshot(0);
  now.types[0].type = "evil\x1b[2J";

  EXPECT_THAT(render(now, now, 1, {.columns = 80, .rows = 24}), Each(Not(HasSubstr("\x1b"))));
}

TEST(Snapshot, ReadsFromTheMetricsWhatOnlyTheySay) {
  Snapshot it;
  read_metrics("# TYPE workmill_verify_damaged_total counter\nworkmill_verify_damaged_total 3\nworkmill_gated_jobs 7\n",
               it);
  EXPECT_EQ(it.damaged, 3u);
  EXPECT_EQ(it.gated, 7u);
  EXPECT_EQ(it.certificate_end, std::nullopt);
  read_metrics("\nworkmill_certificate_end_timestamp_seconds 1795334400\nworkmill_reload_refused 1\n", it);
  EXPECT_EQ(it.certificate_end, instant_from_ms(1'795'334'400'000));
  EXPECT_TRUE(it.reload_refused);
}

}  // namespace
}  // namespace workmill::app::health
