#include "app/commands/job_filter.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <string>
#include <string_view>

#include "app/commands/validators.h"
#include "app/http_client.h"
#include "base/json_writer.h"

namespace workmill::app {
namespace {

template <class Visit>
void for_each_given(JobFilterOptions const& filter, Visit const& visit) {
  auto const given = [&visit](std::string_view name, std::string const& value) {
    if (!value.empty()) visit(name, value);
  };
  given("state", filter.state);
  given("queue", filter.queue);
  given("type", filter.type);
  given("tag", filter.tag);
  given("group", filter.group);
  given("batch", filter.batch);
}

}  // namespace

std::string JobFilterOptions::query() const {
  std::string out;
  for_each_given(*this, [&out](std::string_view name, std::string const& value) {
    out.append("&").append(name).append("=").append(url_encoded(value));
  });
  return out;
}

std::string JobFilterOptions::json() const {
  std::string out;
  JsonWriter json{out};
  json.begin_object();
  for_each_given(*this, [&json](std::string_view name, std::string const& value) { json.member(name, value); });
  json.end_object();
  return out;
}

void add_filter_options(CLI::App& command, JobFilterOptions& filter) {
  auto const add = [&command](std::string name, std::string& variable, std::string what) {
    return command.add_option(std::move(name), variable, std::move(what))->group("Which jobs");
  };
  add("--state", filter.state, "scheduled, ready, leased, completed, dead or cancelled")
      ->check(CLI::IsMember({"scheduled", "ready", "leased", "completed", "dead", "cancelled"}));
  add("-q,--queue", filter.queue, "Of this queue")->type_name("NAME")->check(is_a_name());
  add("--type", filter.type, "Of this type")->type_name("NAME")->check(is_a_name());
  add("--tag", filter.tag, "With this tag")->type_name("NAME")->check(is_a_name());
  add("--group", filter.group, "Of this group")->type_name("NAME")->check(is_a_name());
  add("--batch", filter.batch, "Of this batch")->type_name("ID")->check(is_a_name());
}

}  // namespace workmill::app
