#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "service/inline_service.h"
#include "shard/shard_loop.h"
#include "sim/figures.h"

// What an adapter is to the server of one life, without its sockets: hands commands to the service, takes answers and
// what streams are sent as they come, and hangs up. It holds the service to its contract (service/service.h): an answer
// comes for what was taken, once, never from inside a submit(), nothing comes on a stream that is over, and readiness
// says what is so.
namespace workmill::sim {

class FrontEnd final : public service::AnswerSink {
 public:
  // What is lent outlives it.
  FrontEnd(shard::ShardLoop& loop, Clock const& clock, Figures& figures);

  Result<> submit(shard::Cookie cookie, Command command, Instant give_up_at);
  // Whoever asked closes the connection. An answer that is on its way may still come.
  void hang_up(shard::Cookie cookie);
  Result<shard::Turn> turn();
  struct Delivered {
    service::Answer answer;
    bool has_gone = false;  // Whoever asked: nobody reads it.
    bool is_push = false;   // Of a stream, which may get more.
  };
  // Since it was last asked.
  std::vector<Delivered> take_answers() { return std::exchange(answers_, {}); }
  void drain();
  bool idle() const { return service_.idle(); }
  // After a drain: nobody who is still there is owed an answer.
  void check_drained();

  // A job's id as text, and the reference that an adapter makes of one.
  std::string id(JobNumber number) const;
  JobRef ref(std::string_view id) const { return service_.job_ref(id); }
  // To look into, as I/O threads do.
  cache::Cache* cache() { return service_.cache(); }
  cache::Cache const* cache() const { return const_cast<FrontEnd*>(this)->service_.cache(); }
  // Lent until it is asked again.
  flags::FlagSet const& flags() const { return service_.flags(); }
  // What was wrong; empty: nothing.
  std::string const& complaint() const { return complaint_; }

  void on_answers(std::span<service::Answer> answers) override;

 private:
  void complain(std::string_view text) {
    if (complaint_.empty()) complaint_ = text;
  }
  void check_readiness();
  void take(service::Answer answer);

  shard::ShardLoop& loop_;
  Figures& figures_;
  service::InlineService service_;
  std::unordered_map<shard::Cookie, bool> asked_;    // Taken and not answered. True: whoever asked has gone.
  std::unordered_map<shard::Cookie, bool> streams_;  // Open. True: its connection has gone.
  std::vector<Delivered> answers_;
  bool is_submitting_ = false;
  bool is_draining_ = false;
  std::string complaint_;
};

}  // namespace workmill::sim
