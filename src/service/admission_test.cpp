#include "service/admission.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <queue>
#include <vector>

namespace workmill::service {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Time = Admission::Time;
using Verdict = Admission::Verdict;

// A server that works in turns, as ours does: it reads all that has come, decides it, flushes once, and answers. Each
// connection sends its next request when it has an answer, a while later.
class Server {
 public:
  struct Costs {
    Time read = microseconds{5};  // Of any request, to the verdict on it.
    Time decide = microseconds{4};
    Time flush = microseconds{85};
    Time refuse = microseconds{4};
  };
  struct Figures {
    std::uint64_t served = 0;
    std::uint64_t refused = 0;
    Time delay_max{};
  };

  explicit Server(Costs costs, AdmissionOptions options = {}) : costs_(costs), admission_(options, Time{0}) {}

  std::size_t add_client(std::size_t connections, Time pause, Priority priority = Priority::load) {
    std::size_t const client = figures_.size();
    figures_.emplace_back();
    for (std::size_t i = 0; i < connections; ++i) {
      // Not all at the same moment.
      Time const first = now_ + pause * static_cast<std::int64_t>(i) / static_cast<std::int64_t>(connections);
      arrivals_.push({.at = first, .client = client, .pause = pause, .priority = priority});
    }
    return client;
  }

  void run(Time time) {
    for (Time const end = now_ + time; now_ < end;) turn();
  }
  // Time passes, and nothing is done.
  void stall(Time time) { now_ += time; }
  // Figures since they were last taken.
  std::vector<Figures> take() {
    auto taken = figures_;
    std::fill(figures_.begin(), figures_.end(), Figures{});
    return taken;
  }
  std::uint64_t served(Time during) {
    take();
    run(during);
    std::uint64_t sum = 0;
    for (Figures const& each : figures_) sum += each.served;
    return sum;
  }

  void set_costs(Costs costs) { costs_ = costs; }
  void stop_client(std::size_t client) { stopped_ = client; }
  Admission& admission() { return admission_; }

 private:
  struct Request {
    Time at{};
    std::size_t client = 0;
    Time pause{};
    Priority priority{};
    bool operator>(Request const& other) const { return at > other.at; }
  };

  void turn() {
    release_held();
    if (arrivals_.empty() || arrivals_.top().at > now_) {
      now_ += microseconds{20};
      admission_.end_bunch(Time{0}, now_);
      return;
    }
    Time const began = now_;
    std::vector<Request> taken;
    while (!arrivals_.empty() && arrivals_.top().at <= now_) {
      Request const request = arrivals_.top();
      arrivals_.pop();
      if (request.client == stopped_) continue;
      now_ += costs_.read;
      auto const verdict = admission_.enter(ClientKey{request.client * 977}, request.priority, began);
      if (verdict == Verdict::admitted) {
        taken.push_back(request);
      } else {
        figures_[request.client].refused += 1;
        held_.push_back({request, began});
      }
    }
    if (taken.empty()) return;
    now_ += costs_.flush + costs_.decide * static_cast<std::int64_t>(taken.size());
    Time oldest = began;
    for (Request const& request : taken) {
      figures_[request.client].served += 1;
      figures_[request.client].delay_max = std::max(figures_[request.client].delay_max, now_ - request.at);
      oldest = std::min(oldest, began);
      admission_.leave();
      ask_again(request);
    }
    admission_.end_bunch(now_ - oldest, now_);
  }
  void release_held() {
    while (!held_.empty()) {
      bool const due = now_ - held_.front().since >= Admission::kHoldMax;
      if (!due && !admission_.take_refusal()) return;
      now_ += costs_.refuse;
      ask_again(held_.front().request);
      held_.pop_front();
    }
  }
  void ask_again(Request request) {
    request.at = now_ + request.pause;
    arrivals_.push(request);
  }

  struct Held {
    Request request;
    Time since{};
  };

  Costs costs_;
  Admission admission_;
  Time now_{seconds{1}};
  std::size_t stopped_ = SIZE_MAX;
  std::vector<Figures> figures_;
  std::priority_queue<Request, std::vector<Request>, std::greater<>> arrivals_;
  std::deque<Held> held_;
};

constexpr Time kAtOnce = microseconds{50};

AdmissionOptions off() {
  AdmissionOptions options;
  options.enabled = false;
  return options;
}

TEST(Admission, RefusesNobodyWhileTheServerKeepsUp) {
  Server server{{}};
  server.add_client(2'000, milliseconds{50});  // 40,000 a second, of 100,000.
  server.run(seconds{2});

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, RefusesNobodyOfSoManyAsAreServedInTheTimeThatIsAlwaysFine) {
  Server server{{}};
  server.add_client(128, kAtOnce);
  server.run(seconds{30});

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, ABurstIsWorkedOffAndNotRefused) {
  Server server{{}};
  server.add_client(1'000, seconds{1});
  auto const all_at_once = server.add_client(2'000, seconds{0});
  server.run(milliseconds{40});
  server.stop_client(all_at_once);
  server.run(seconds{2});

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, ClientsThatAllComeAtOnceAndThenWaitAreNoOverload) {
  Server server{{}};
  server.add_client(2'000, milliseconds{50});
  for (int i = 0; i < 20; ++i) {
    server.run(milliseconds{345});
    server.stall(milliseconds{30});  // Those that come meanwhile come together ever after.
  }

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, UnderManyMoreClientsThanItCanServeTheServerServesAsManyAsEverAndSoon) {
  Server enough{{}};  // To do, and not too much.
  enough.add_client(250, kAtOnce);
  auto const peak = enough.served(seconds{2});
  Server server{{}};
  server.add_client(1'000, kAtOnce);
  server.run(seconds{2});

  auto const served = server.served(seconds{2});

  EXPECT_GE(static_cast<double>(served), 0.95 * static_cast<double>(peak));
  EXPECT_GT(server.take()[0].refused, 0U);
  EXPECT_LE(server.admission().delay(), milliseconds{2});
}

TEST(Admission, TenThousandClientsAreNoWorse) {
  Server server{{}};
  server.add_client(10'000, kAtOnce);
  server.run(seconds{2});

  server.take();
  server.run(seconds{2});

  auto const figures = server.take()[0];
  EXPECT_GE(figures.served, 2 * 80'000U);
  EXPECT_LE(server.admission().delay(), milliseconds{4});
}

TEST(Admission, ADiskThatWasSlowForAMomentIsNoReasonToLetInMany) {
  Server server{{.flush = milliseconds{30}}};
  server.add_client(20, kAtOnce);
  server.run(seconds{2});
  server.set_costs({});
  server.add_client(1'000, kAtOnce);
  server.run(seconds{20});

  auto const figures = server.take()[1];

  EXPECT_GT(figures.refused, 0U);
  EXPECT_LE(server.admission().limit(), 200U);
  EXPECT_LE(server.admission().delay(), milliseconds{2});
}

TEST(Admission, WhereEachFlushIsSlowTurnsMayBeLargeForIt) {
  Server::Costs const slow{.flush = milliseconds{10}};
  Server unlimited{slow, off()};
  unlimited.add_client(1'000, kAtOnce);
  auto const peak = unlimited.served(seconds{2});
  Server server{slow};
  server.add_client(1'000, kAtOnce);
  server.run(seconds{10});

  EXPECT_GE(static_cast<double>(server.served(seconds{2})), 0.9 * static_cast<double>(peak));
}

TEST(Admission, WhereEachFlushIsSlowSomeHundredsAreNeverRefused) {
  Server server{{.flush = milliseconds{10}}};
  auto const few = server.add_client(20, kAtOnce);
  server.run(seconds{2});
  server.stop_client(few);
  server.add_client(300, kAtOnce);
  server.run(seconds{30});

  EXPECT_EQ(server.take()[1].refused, 0U);
}

TEST(Admission, WhatTookNoFlushSaysLittleOfWhatDoes) {
  Server server{{}};
  auto const readers = server.add_client(5, milliseconds{20});
  server.run(seconds{5});
  server.stop_client(readers);
  server.set_costs({.flush = milliseconds{10}});
  server.add_client(300, kAtOnce);
  server.run(seconds{4});
  server.take();
  server.run(seconds{20});

  EXPECT_EQ(server.take()[1].refused, 0U);
}

TEST(Admission, ReportsThatAreMoreThanTheLeastKeepNobodyOut) {
  Server server{{.flush = milliseconds{10}}};
  server.add_client(150, kAtOnce, Priority::relief);
  auto const producers = server.add_client(20, kAtOnce);
  server.run(seconds{4});
  server.take();
  server.run(seconds{20});

  EXPECT_EQ(server.take()[producers].refused, 0U);
}

TEST(Admission, AProbeEndsWithTheLoad) {
  Server server{{}};
  auto const many = server.add_client(1'000, kAtOnce);
  while (server.admission().limit() > 64) server.run(milliseconds{1});
  server.stop_client(many);
  server.run(seconds{3});  // What is held back comes back, and is nobody any more.

  EXPECT_GT(server.admission().limit(), 64U);
}

TEST(Admission, WhereEachRequestIsHeavyTheLeastIsStillLetIn) {
  Server server{{.decide = milliseconds{5}}};
  server.add_client(100, kAtOnce);
  server.run(seconds{10});

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, AQuietClientIsServedBesideAGreedyOne) {
  Server server{{}};
  server.add_client(1'000, kAtOnce);
  auto const quiet = server.add_client(2, milliseconds{30});
  server.run(seconds{2});
  server.take();
  server.run(seconds{2});

  auto const figures = server.take()[quiet];
  EXPECT_EQ(figures.refused, 0U);
  EXPECT_GE(figures.served, 2U * 2 * 25);
}

TEST(Admission, GreedyClientsGetEqualPartsHoweverManyConnectionsEachHas) {
  Server server{{}};
  auto const many = server.add_client(900, kAtOnce);
  auto const few = server.add_client(300, kAtOnce);
  server.run(seconds{3});
  server.take();
  server.run(seconds{6});

  auto const figures = server.take();
  auto const ratio = static_cast<double>(figures[many].served) / static_cast<double>(figures[few].served);
  EXPECT_GE(ratio, 0.7);
  EXPECT_LE(ratio, 1.4);
}

TEST(Admission, WhatFreesResourcesIsNeverRefused) {
  Server server{{}};
  server.add_client(1'000, kAtOnce);
  auto const reports = server.add_client(50, milliseconds{1}, Priority::relief);
  server.run(seconds{2});

  EXPECT_EQ(server.take()[reports].refused, 0U);
}

TEST(Admission, WorkIsRefusedLaterThanLoad) {
  Server server{{}};
  auto const load = server.add_client(1'000, kAtOnce);
  auto const work = server.add_client(30, milliseconds{1}, Priority::work);
  server.run(seconds{2});

  auto const figures = server.take();
  EXPECT_GT(figures[load].refused, 0U);
  EXPECT_EQ(figures[work].refused, 0U);
}

TEST(Admission, WhenTheOverloadIsOverTheLimitGetsOutOfTheWay) {
  Server server{{}};
  auto const storm = server.add_client(1'000, kAtOnce);
  server.run(seconds{2});
  EXPECT_LT(server.admission().limit(), 1'000U);
  server.stop_client(storm);
  server.add_client(100, milliseconds{5});
  server.run(seconds{10});

  EXPECT_GT(server.admission().limit(), 1'000U);
}

TEST(Admission, SaysToComeBackLaterTheMoreAreTurnedAway) {
  Server server{{.decide = milliseconds{1}}};
  server.add_client(5'000, kAtOnce);
  server.run(seconds{60});

  auto const seconds_later = server.admission().retry_after_seconds();
  EXPECT_GE(seconds_later, 3U);
  EXPECT_LE(seconds_later, 60U);
}

TEST(Admission, SwitchedOffItLetsEverybodyIn) {
  Server server{{}, off()};
  server.add_client(5'000, kAtOnce);
  server.run(seconds{3});

  EXPECT_EQ(server.take()[0].refused, 0U);
}

TEST(Admission, WhileMemoryIsFullOnlyWhatFreesResourcesIsLetIn) {
  for (bool const enabled : {true, false}) {
    AdmissionOptions options;
    options.enabled = enabled;
    Admission admission{options, Time{0}};
    admission.set_full(true);
    EXPECT_EQ(admission.enter(ClientKey{1}, Priority::load, Time{1}), Verdict::over_limit);
    EXPECT_EQ(admission.enter(ClientKey{1}, Priority::work, Time{1}), Verdict::over_limit);
    EXPECT_EQ(admission.enter(ClientKey{1}, Priority::relief, Time{1}), Verdict::admitted);
    admission.set_full(false);
    EXPECT_EQ(admission.enter(ClientKey{1}, Priority::load, Time{1}), Verdict::admitted);
  }
}

// Whatever comes: never fewer refused of what matters more, and never more in flight than twice what the limit says.
RC_GTEST_PROP(Admission, KeepsItsBoundsWhateverComes, (std::vector<std::uint16_t> const& events)) {
  AdmissionOptions const options{.in_flight_min = 4, .in_flight_max = 16};
  Time now{seconds{1}};
  Admission admission{options, now};
  std::uint32_t mine = 0;
  for (std::uint16_t const event : events) {
    auto const client = ClientKey{event % 7U};
    switch (event / 7U % 4U) {
      case 0:
      case 1: {
        auto const priority = event % 2U == 0 ? Priority::load : Priority::work;
        auto const foretold = admission.check(client, priority, now);
        auto const verdict = admission.enter(client, priority, now);
        RC_ASSERT((foretold == Verdict::admitted) == (verdict == Verdict::admitted));
        if (verdict == Verdict::admitted) ++mine;
        break;
      }
      case 2:
        if (mine > 0) {
          admission.leave();
          --mine;
        }
        break;
      default: now += milliseconds{event % 130U}; admission.end_bunch(milliseconds{event % 50U}, now);
    }
    RC_ASSERT(admission.in_flight() == mine);
    RC_ASSERT(mine <= options.in_flight_max * 2);
    RC_ASSERT(admission.limit() >= options.in_flight_min && admission.limit() <= options.in_flight_max);
    RC_ASSERT(admission.retry_after_seconds() >= 1 && admission.retry_after_seconds() <= 60);
  }
}

}  // namespace
}  // namespace workmill::service
