#include "protocols/http/openapi.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <set>
#include <string>

#include "base/error.h"
#include "protocols/http/problem.h"
#include "protocols/http/router.h"

// The document and the router say the same.
namespace workmill::http {
namespace {

using simdjson::dom::element;

class OpenApi : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(parser_.parse(std::string{openapi_document()}).get(document_), simdjson::SUCCESS); }

  element at(std::string_view pointer) {
    element found;
    EXPECT_EQ(document_.at_pointer(pointer).get(found), simdjson::SUCCESS) << pointer;
    return found;
  }
  // What a parameter of an operation is called, through its reference where it has one.
  std::string parameter_name(element parameter) {
    std::string_view reference;
    if (parameter["$ref"].get(reference) == simdjson::SUCCESS) parameter = at(reference.substr(1));
    return std::string{std::string_view{parameter["name"]}};
  }
  bool is_in_query(element parameter) {
    std::string_view reference;
    if (parameter["$ref"].get(reference) == simdjson::SUCCESS) parameter = at(reference.substr(1));
    return std::string_view{parameter["in"]} == "query";
  }

  simdjson::dom::parser parser_;
  element document_;
};

std::string escaped(std::string_view path) {
  std::string text;
  for (char const c : path) {
    if (c == '/') {
      text.append("~1");
    } else {
      text.push_back(c);
    }
  }
  return text;
}
std::string lower(std::string_view text) {
  std::string out{text};
  for (char& c : out) c = static_cast<char>(std::tolower(c));
  return out;
}

TEST_F(OpenApi, DescribesEveryRouteWithItsQuery) {
  for (RouteEntry const& entry : routes()) {
    element const operation = at("/paths/" + escaped(entry.pattern) + "/" + lower(to_string(entry.method)));
    EXPECT_EQ(std::string_view{operation["operationId"]}, to_string(entry.route));

    std::set<std::string> described;
    simdjson::dom::array parameters;
    if (operation["parameters"].get(parameters) == simdjson::SUCCESS) {
      for (element const parameter : parameters) {
        if (is_in_query(parameter)) described.insert(parameter_name(parameter));
      }
    }
    std::set<std::string> known;
    std::string word;
    for (char const c : std::string{entry.query} + " ") {
      if (c != ' ') {
        word.push_back(c);
      } else if (!word.empty()) {
        known.insert(std::exchange(word, {}));
      }
    }
    EXPECT_EQ(described, known) << entry.pattern;
  }
}

TEST_F(OpenApi, SaysWhereATimeCanBeSetByWhatIsAnsweredWhenItIsOver) {
  int timed = 0;
  for (RouteEntry const& entry : routes()) {
    element const operation = at("/paths/" + escaped(entry.pattern) + "/" + lower(to_string(entry.method)));
    bool has_time = false;
    simdjson::dom::array parameters;
    if (operation["parameters"].get(parameters) == simdjson::SUCCESS) {
      for (element const parameter : parameters) has_time |= parameter_name(parameter) == "Request-Timeout";
    }
    element late;
    EXPECT_EQ(has_time, operation["responses"]["504"].get(late) == simdjson::SUCCESS) << entry.pattern;
    timed += has_time ? 1 : 0;
  }
  EXPECT_GT(timed, 20);
}

TEST_F(OpenApi, DescribesNothingThatIsNotThere) {
  std::set<std::string> known;
  for (RouteEntry const& entry : routes()) known.insert(lower(to_string(entry.method)) + std::string{entry.pattern});

  for (auto const path : simdjson::dom::object{document_["paths"]}) {
    for (auto const operation : simdjson::dom::object{path.value}) {
      if (operation.key == "parameters") continue;
      EXPECT_TRUE(known.contains(std::string{operation.key} + std::string{path.key})) << operation.key << path.key;
    }
  }
}

TEST_F(OpenApi, ListsEveryErrorCode) {
  std::set<std::string_view> listed;
  for (element const code : simdjson::dom::array{at("/components/schemas/Problem/properties/code/enum")}) {
    listed.insert(std::string_view{code});
  }

  for (int number = 0; number < 1000; ++number) {
    auto const name = to_string(static_cast<ErrorCode>(number));
    if (name == "unknown") continue;
    EXPECT_TRUE(listed.erase(name) == 1) << name;
  }
  EXPECT_TRUE(listed.empty());
}

TEST_F(OpenApi, NamesTheVersionOfTheStandard) {
  EXPECT_TRUE(std::string_view{document_["openapi"]}.starts_with("3.1."));
}

}  // namespace
}  // namespace workmill::http
