#include "shard/shard_thread.h"

#include <algorithm>
#include <utility>

#include "base/thread_name.h"
#include "shard/system_clock.h"

namespace workmill::shard {
namespace {
constexpr std::size_t kMessagesPerTurn = 8'192;
constexpr Duration kSleepMax = std::chrono::seconds{1};  // The shard looks around about so often.
}  // namespace

void Mailbox::put(std::vector<Answer>& answers) {
  bool const was_empty = answers_.with([&](std::vector<Answer>& waiting) {
    bool const empty = waiting.empty();
    if (empty)
      std::swap(waiting, answers);
    else
      std::move(answers.begin(), answers.end(), std::back_inserter(waiting));
    return empty;
  });
  answers.clear();
  if (was_empty) wake_();
}

void Mailbox::take(std::vector<Answer>& out) {
  answers_.with([&](std::vector<Answer>& waiting) {
    if (out.empty()) {
      std::swap(out, waiting);
      return;
    }
    std::move(waiting.begin(), waiting.end(), std::back_inserter(out));
    waiting.clear();
  });
}

ShardThread::ShardThread(std::function<std::unique_ptr<ShardLoop>(std::function<void()>)> const& make_loop,
                         std::vector<Mailbox*> mailboxes, std::move_only_function<void(Error)> on_fatal)
    : mailboxes_(std::move(mailboxes)),
      on_fatal_(std::move(on_fatal)),
      // A full channel needs no nudge: the shard will not sleep.
      loop_(make_loop([this] { static_cast<void>(channel_.try_send(Nudge{})); })),
      thread_([this] { run(); }) {}

ShardThread::~ShardThread() {
  channel_.close();
  thread_.join();
}

Result<> ShardThread::submit(Request&& request) {
  WM_TRY_VOID(loop_->admits(request.command));
  return channel_.try_send(Message{std::move(request)});
}

bool ShardThread::abandon(Port port, Cookie cookie) {
  auto const sent = channel_.try_send(Abandoned{.port = port, .cookie = cookie});
  return sent || sent.error().code == ErrorCode::shutting_down;  // A channel that is closed takes nothing any more.
}

void ShardThread::drain() {
  draining_.store(true);
  nudge();
}

void ShardThread::nudge() { static_cast<void>(channel_.try_send(Nudge{})); }

void ShardThread::run() {
  name_this_thread("wm-shard");
  std::vector<Message> messages;
  Duration sleep{0};
  SystemClock const clock;
  while (!channel_.finished()) {
    messages.clear();
    if (sleep > Duration{0})
      channel_.receive_batch(messages, kMessagesPerTurn, sleep);
    else
      channel_.receive_batch(messages, kMessagesPerTurn);
    for (Message& message : messages) take(std::move(message));
    if (draining_.load()) loop_->drain();
    auto const turn = loop_->turn();
    if (!turn) {
      on_fatal_(turn.error());
      return;
    }
    hand_out();
    turns_.fetch_add(1, std::memory_order_relaxed);
    idle_.store(loop_->idle() && channel_.size() == 0);
    if (turn->more || loop_->has_requests()) {
      sleep = Duration{0};
    } else {
      sleep = kSleepMax;
      if (auto const next = turn->next) sleep = std::clamp(*next - clock.now(), Duration{0}, kSleepMax);
    }
  }
}

void ShardThread::take(Message&& message) {
  if (auto* request = std::get_if<Request>(&message)) {
    Port const port = request->port;
    Cookie const cookie = request->cookie;
    if (auto taken = loop_->submit(std::move(*request)); !taken) {
      scratch_.clear();
      scratch_.push_back({.cookie = cookie, .reply = std::move(taken).error()});
      mailboxes_[port]->put(scratch_);
    }
  } else if (auto const* abandoned = std::get_if<Abandoned>(&message)) {
    loop_->abandon(abandoned->port, abandoned->cookie);
  }
}

void ShardThread::hand_out() {
  for (Port port = 0; port < mailboxes_.size(); ++port) {
    scratch_.clear();
    loop_->take_answers(port, scratch_);
    if (!scratch_.empty()) mailboxes_[port]->put(scratch_);
  }
}

}  // namespace workmill::shard
