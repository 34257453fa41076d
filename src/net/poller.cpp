#include "net/poller.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include "base/assert.h"

namespace workmill::net {
namespace {

// The end of what the peer sends stays readable for ever.
constexpr std::uint32_t kLasting = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

constexpr std::uint64_t pack(std::uint32_t place, std::uint32_t generation) {
  return (std::uint64_t{generation} << 32) | place;
}

}  // namespace

Poller::Poller(boost::asio::io_context& context) : context_(context), epoll_(context) {
  int const epoll = ::epoll_create1(EPOLL_CLOEXEC);
  WM_ASSERT(epoll >= 0);  // At start; without it there is no server.
  boost::system::error_code error;
  epoll_.assign(epoll, error);
  WM_ASSERT(!error);
  wake_context();  // The context has something to wait for from the start: else it would stop at once.
}

Poller::~Poller() {
  for (Entry const& entry : entries_) WM_ASSERT(entry.socket < 0);  // Whoever is watched outlives nobody who watches.
}

Poller::Key Poller::add(int socket) {
  WM_ASSERT(socket >= 0);
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(entries_.size()));
    entries_.emplace_back();
  }
  std::uint32_t const place = free_.back();
  free_.pop_back();
  Entry& entry = entries_[place];
  entry.socket = socket;
  entry.ready = 0;
  std::uint64_t const key = pack(place, entry.generation);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = key;
  // What cannot be watched looks broken to its owner, who closes it.
  if (::epoll_ctl(epoll_.native_handle(), EPOLL_CTL_ADD, socket, &event) != 0) entry.ready = kLasting | EPOLLIN;
  return Key{key};
}

void Poller::remove(Key key) {
  Entry* const entry = find(key);
  WM_ASSERT(entry != nullptr);
  WM_ASSERT(!entry->handler);
  epoll_event ignored{};
  ::epoll_ctl(epoll_.native_handle(), EPOLL_CTL_DEL, entry->socket, &ignored);
  entry->socket = -1;
  entry->generation += 1;
  free_.push_back(static_cast<std::uint32_t>(entry - entries_.data()));
}

void Poller::used_up(Key key, What what) {
  Entry* const entry = find(key);
  WM_ASSERT(entry != nullptr);
  entry->ready &= ~(events_of(what) & ~kLasting);
}

std::uint32_t Poller::events_of(What what) {
  switch (what) {
    case What::readable: return EPOLLIN | kLasting;
    case What::writable: return EPOLLOUT | EPOLLHUP | EPOLLERR;
    case What::hung_up: return EPOLLHUP | EPOLLERR;
  }
  return kLasting;
}

Poller::Entry* Poller::find(Key key) {
  auto const number = std::to_underlying(key);
  auto const place = static_cast<std::uint32_t>(number);
  if (place >= entries_.size()) return nullptr;
  Entry& entry = entries_[place];
  return entry.socket >= 0 && entry.generation == static_cast<std::uint32_t>(number >> 32) ? &entry : nullptr;
}

void Poller::begin_wait(Key key, What what, Handler handler) {
  Entry* const entry = find(key);
  WM_ASSERT(entry != nullptr);
  WM_ASSERT(!entry->handler);
  entry->wanted = events_of(what);
  entry->handler = std::move(handler);
  // By way of the loop, also where it is ready by now: a peer that sends without a pause gets its turn like the others.
  if ((entry->ready & entry->wanted) != 0) complete_later(key, {});
}

void Poller::wake(Key key) { complete_later(key, boost::asio::error::operation_aborted); }

void Poller::complete_later(Key key, boost::system::error_code error) {
  boost::asio::post(context_, [this, key, error] {
    Entry* const entry = find(key);
    if (entry == nullptr || !entry->handler) return;
    // What was ready for one wait says nothing of the next one, which may have begun meanwhile: an event or a wake-up
    // was faster. To whoever waits for a hang-up by now, it would be one.
    if (!error && (entry->ready & entry->wanted) == 0) return;
    std::exchange(entry->handler, nullptr)(error);
  });
}

void Poller::wake_context() {
  if (std::exchange(wakes_context_, true)) return;
  // Nothing is handed out here: the loop polls before it does anything else.
  epoll_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
    if (!error) wakes_context_ = false;  // Else the loop is at its end.
  });
}

std::size_t Poller::poll() {
  std::array<epoll_event, kEventsPerPoll> events;
  int const found = ::epoll_wait(epoll_.native_handle(), events.data(), static_cast<int>(events.size()), 0);
  auto const count = static_cast<std::size_t>(std::max(found, 0));
  for (std::size_t i = 0; i < count; ++i) {
    auto const& event = events[i];
    Entry* const entry = find(Key{event.data.u64});
    if (entry == nullptr) continue;  // Removed by an event before it.
    entry->ready |= event.events;
    if ((entry->ready & entry->wanted) == 0 || !entry->handler) continue;
    std::exchange(entry->handler, nullptr)({});  // May end its owner, or bring new ones.
  }
  return count;
}

}  // namespace workmill::net
