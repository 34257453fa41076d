#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "model/client.h"

// Who has shown tokens that do not hold, one after another, and how long his next one is not looked at kindly.
//
// It does not keep a good token out: many callers may share an address, and one of them must not lock out the others. A
// token that holds is never asked about here. What this does is make each further attempt of a guesser cost him a new
// connection and a wait, and tell whoever runs the server. (256 bits are not guessed at any rate: docs/adr/0012.)
//
// One for each I/O thread, bounded: where it is full, who has been quiet the longest is forgotten. Time comes in.
namespace workmill::service {

class Attempts {
 public:
  using Client = ClientKey;
  using Time = std::chrono::nanoseconds;  // Of a clock that never goes back.

  static constexpr std::size_t kClientsMax = 4'096;
  static constexpr std::uint32_t kFree =
      5;  // So many failures cost nothing: a token was mistyped, or has just expired.
  static constexpr std::chrono::seconds kFirstWait{1};  // After that, doubled with each further one.
  static constexpr std::chrono::seconds kLongestWait{300};
  static constexpr std::chrono::seconds kForgottenAfter{900};  // Without a further failure.

  enum class Verdict : std::uint8_t {
    refused,       // As any other: say that the token does not hold.
    locked_out,    // Say when to come back.
    newly_locked,  // The same, and it was not so before: worth a line in the log.
  };
  struct Outcome {
    Verdict verdict = Verdict::refused;
    std::chrono::seconds wait{};  // From now, where locked out; at least one.
  };
  // A token of `client` did not hold.
  Outcome failed(Client client, Time now);

  std::size_t size() const { return by_client_.size(); }

 private:
  struct Entry {
    Client client{};
    std::uint32_t failures = 0;
    Time locked_until{};
    Time last{};
  };
  using Entries = std::list<Entry>;

  Entries entries_;  // The one that failed last is the first.
  std::unordered_map<Client, Entries::iterator> by_client_;
};

}  // namespace workmill::service
