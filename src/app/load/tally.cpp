#include "app/load/tally.h"

#include <fmt/format.h>

#include <string>

#include "app/http_client.h"

namespace workmill::app {

bool Tally::was_refused(HttpPeer& peer, PeerAnswer const& answer) {
  if (answer.status != 429 && answer.status != 503) return false;
  answered_at = loop.now();
  peer.send_again();
  return true;
}

bool Tally::expect(int status, PeerAnswer const& answer) {
  answered_at = loop.now();
  if (answer.status == status) return true;
  auto const problem = read_reply({.status = answer.status, .body = std::string{answer.body}});
  fail(problem ? Error{.code = ErrorCode::protocol_error, .message = fmt::format("an answer of {}", answer.status)}
               : problem.error());
  return false;
}

}  // namespace workmill::app
