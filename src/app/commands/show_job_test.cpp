#include "app/commands/show_job.h"

#include <gtest/gtest.h>

namespace workmill::app {
namespace {

Instant now() { return *parse_rfc3339("2026-11-22T09:01:00Z"); }

JsonDocument job(std::string_view text) {
  auto document = parse_json(text);
  EXPECT_TRUE(document.has_value()) << text;
  return std::move(*document);
}

std::string table_row(std::string_view text) {
  TextTable table;
  job_columns(table);
  auto const document = job(text);
  add_job_row(table, document.root(), now());
  auto const lines = table.render(false, 0);
  return lines.substr(lines.find('\n') + 1);
}

TEST(ShowJob, ARowEndsWithWhatTellsMost) {
  EXPECT_EQ(table_row(R"({"id":"a","type":"t","queue":"q","state":"completed","attempt":1,
                          "created_at":"2026-11-22T09:00:00Z","result":"done\n","error":null})"),
            "a   t     q      completed    1   1m  done \n");
  EXPECT_EQ(table_row(R"({"id":"a","type":"t","queue":"q","state":"dead","attempt":20,
                          "created_at":"2026-11-22T09:00:59Z","error":{"code":"exit_1","message":"no disk"}})"),
            "a   t     q      dead    20   1s  exit_1: no disk\n");
  EXPECT_EQ(table_row(R"({"id":"a","type":"t","queue":"q","state":"leased","attempt":1,
                          "created_at":"2026-11-22T09:01:00Z","progress":{"percent":40,"message":"half"}})"),
            "a   t     q      leased    1  now  40 % half\n");
}

TEST(ShowJob, DetailsHaveALineForEachThingThatIsKnown) {
  auto const document = job(R"({"id":"a","type":"t","queue":"q","state":"scheduled","attempt":1,"max_attempts":3,
      "priority":5,"tags":["x","y"],"created_at":"2026-11-22T09:00:00.000Z","ready_at":"2026-11-22T09:01:30.000Z",
      "started_at":null,"payload":{"n":[1,2]},"errors":[{"attempt":1,"code":"exit_75","class":"retryable","message":"busy"}]})");

  EXPECT_EQ(job_details(document.root(), now(), false),
            "id              a\n"
            "type            t\n"
            "queue           q\n"
            "state           scheduled\n"
            "attempt         1 of 3\n"
            "priority        5\n"
            "tags            x, y\n"
            "created         2026-11-22T09:00:00.000Z  (1m ago)\n"
            "ready           2026-11-22T09:01:30.000Z  (in 30s)\n"
            "payload         {\"n\":[1,2]}\n"
            "error           attempt 1: exit_75 (retryable): busy\n");
}

TEST(ShowJob, AJobThatSomebodyWantsToStopSaysSo) {
  auto const document = job(R"({"id":"a","state":"leased","cancel_requested":true})");

  EXPECT_NE(job_details(document.root(), now(), false).find("leased, to be cancelled"), std::string::npos);
}

}  // namespace
}  // namespace workmill::app
