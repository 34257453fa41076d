#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/cache.h"
#include "model/client.h"
#include "model/command.h"
#include "protocols/http/audit.h"
#include "protocols/http/json/json_out.h"
#include "protocols/http/request_trace.h"
#include "protocols/http/response.h"
#include "protocols/http/router.h"
#include "service/service.h"
#include "telemetry/metrics.h"
#include "telemetry/trace.h"

// A request that has been read and not answered yet: what its answer needs to know of it. The request's own bytes are
// gone by then.
namespace workmill::http {

// Of a call of the cache that is not answered from memory, or has failed.
struct CacheNote {
  std::string if_none_match;
  CacheFailure failure;        // Where compute_failed is the answer: why,
  bool is_remembered = false;  // and whether that was known before.
};

struct Exchange {
  Route route = Route::home;
  bool is_routed = false;  // Else there is no route: the path was unknown.
  bool keep_alive = true;
  bool is_http_1_0 = false;
  bool is_head = false;
  bool is_bulk = false;     // create_jobs: a list of jobs was sent, and is answered by one.
  bool waits = false;       // The shard may take its time: when the client goes, the command is abandoned.
  bool reads_disk = false;  // Likewise, but its client's end is nobody's business.
  // Let in, and not answered yet: counts as in flight.
  bool is_counted = false;
  bool is_refused = false;  // By the admission.
  bool is_held = false;     // … and the refusal is held back for a while: `text` is ready, but not done.
  bool is_done = false;     // `text` is the whole response; those before it are not all done.
  bool gzip = false;        // The answer is to be packed.
  telemetry::MetricsFormat metrics_format{};
  bool is_upgrade = false;    // `text` says so: what follows is no HTTP.
  Duration profile_for{};     // A CPU profile of this length is asked for: it answers, and not the shard.
  std::uint64_t profile = 0;  // Its number, once it is under way.
  // What the request belongs to: as the client sent it, or the context of its own span where it has one.
  std::optional<telemetry::TraceContext> trace;
  std::unique_ptr<RequestTrace> spans;  // Where it is sampled; none for all others.
  std::chrono::nanoseconds received_at{};
  std::optional<Instant> head_at;        // When its head had come in, where the rest or its turn was waited for.
  Instant give_up_at = service::kNever;  // Where its client says how long it waits: counted from there.
  std::uint64_t body_bytes = 0;          // Held by its command.
  std::uint32_t retry_after = 0;         // Seconds, where it is refused; 0: as its error has it.
  std::uint64_t share = 0;               // Requests a second that its client may have; 0: no shares are in force.
  ClientKey client{};                    // Who asks: by address, or by token where one was shown.
  std::vector<ReportedJob> reported;     // The jobs that were reported on, in order.
  std::unique_ptr<CacheNote> cache;      // For few of the calls of the cache.
  std::unique_ptr<AuditNote> audit;      // Of what is for administrators only.
  std::string cors;  // Headers of the answer, where web pages of some origins may read answers: what this one may.
  bool is_from_known_origin = false;  // It comes from a page of one of those.
  std::string allow;                  // For method_not_allowed.
  std::string text;

  // For the next request, keeping the text's memory.
  void reset() {
    auto kept = std::move(text);
    kept.clear();
    *this = {};
    text = std::move(kept);
  }

  ResponseHead head(int status) const {
    ResponseHead head;
    head.status = status;
    head.cors = cors;
    head.keep_alive = keep_alive;
    head.to_http_1_0 = is_http_1_0;
    head.without_body = is_head;
    return head;
  }
};

// The exchanges of a connection, oldest first, named by sequence numbers that wrap around. Reuses its places.
class ExchangeRing {
 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  Exchange& front() { return place(head_); }
  std::uint16_t front_sequence() const { return head_; }
  // Nothing where no exchange of this number is open.
  Exchange* find(std::uint16_t sequence) {
    return static_cast<std::uint16_t>(sequence - head_) < size_ ? &place(sequence) : nullptr;
  }

  std::uint16_t push() {
    if (size_ == places_.size()) grow();
    auto const sequence = static_cast<std::uint16_t>(head_ + size_);
    size_ += 1;
    place(sequence).reset();
    return sequence;
  }
  void pop_front() {
    size_ -= 1;
    head_ += 1;
  }
  void pop_back() { size_ -= 1; }

 private:
  Exchange& place(std::uint16_t sequence) { return places_[sequence & (places_.size() - 1)]; }
  void grow() {
    std::vector<Exchange> grown(places_.empty() ? 1 : places_.size() * 2);  // A power of two; most stay at one.
    for (std::size_t i = 0; i < size_; ++i) {
      auto const sequence = static_cast<std::uint16_t>(head_ + i);
      grown[sequence & (grown.size() - 1)] = std::move(place(sequence));
    }
    places_ = std::move(grown);
  }

  std::vector<Exchange> places_;
  std::uint16_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace workmill::http
