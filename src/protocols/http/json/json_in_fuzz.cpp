#include "protocols/http/json/json_in.h"

#include <simdjson.h>

#include "base/assert.h"
#include "model/batch.h"
#include "protocols/http/fixed_service_test.h"
#include "protocols/http/json/json_tokens.h"

// The first byte chooses a call, the rest is its body. What is taken follows the rules; and simdjson's own parser
// agrees about what is JSON (it alone refuses numbers that it cannot hold, and nesting that is too deep).
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace workmill;
  static http::FixedService const service;
  static http::JsonIn json{service};
  static http::JsonTokens tokens;
  static simdjson::dom::parser model;
  if (size == 0) return 0;
  std::string_view const body{reinterpret_cast<char const*>(data) + 1, size - 1};

  simdjson::dom::element element;
  auto const error = model.parse(body.data(), body.size(), true).get(element);
  std::string_view span;
  bool const is_json = tokens.index(body) && tokens.value(span) && tokens.done();
  bool const model_knows = error != simdjson::NUMBER_ERROR && error != simdjson::DEPTH_ERROR &&
                           std::string_view{tokens.problem()} != "brackets are nested too deep";
  if (model_knows) WM_ASSERT(is_json == (error == simdjson::SUCCESS));

  bool taken = false;
  switch (data[0] >= '6' && data[0] <= '8' ? data[0] - '0' : data[0] % 6) {
    case 0: {
      auto const request = json.parse_enqueue(body, {.traceparent = "tp"});
      taken = request.has_value();
      if (!taken) break;
      for (Bytes const& spec : request->command.specs) {
        JobSpecView view;
        WM_ASSERT(decode_spec(spec, view));
        WM_ASSERT(check_spec(view));
      }
      break;
    }
    case 1: taken = json.parse_lease(body).has_value(); break;
    case 2: taken = json.parse_reports(body).has_value(); break;
    case 3: taken = json.parse_patch_job(body).has_value(); break;
    case 4: taken = json.parse_patch_queue(body).has_value(); break;
    case 6: {
      auto const request = json.parse_compute(body, "key");
      taken = request.has_value();
      if (!taken) break;
      Bytes spec;
      encode_spec(*request->spec, spec);
      JobSpecView view;
      WM_ASSERT(decode_spec(spec, view));
      WM_ASSERT(check_spec(view) && view.cache_key == "key");
      break;
    }
    case 7: taken = json.parse_stream(body).has_value(); break;
    case 8: {
      auto const batch = json.parse_make_batch(body);
      taken = batch.has_value();
      if (!taken) break;
      for (Bytes const& spec : {batch->on_success, batch->on_finish}) {
        if (spec.empty()) continue;
        JobSpecView view;
        WM_ASSERT(decode_spec(spec, view));
        WM_ASSERT(check_callback(CallbackKind::success, view));
      }
      break;
    }
    default: taken = json.parse_bulk_jobs(body).has_value(); break;
  }
  if (taken) WM_ASSERT(is_json);
  return 0;
}
