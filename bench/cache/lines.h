#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

// What policies over arrays are made of.
namespace workmill::bench {

inline constexpr std::uint32_t kNone = 0xffff'ffff;

// Doubly linked lists of keys through shared arrays: a key is in one at most.
struct Links {
  explicit Links(std::size_t keys) : prev(keys, kNone), next(keys, kNone) {}
  std::vector<std::uint32_t> prev, next;
};

class Line {
 public:
  explicit Line(Links& links) : links_(links) {}
  void push_front(std::uint32_t key) {
    links_.prev[key] = kNone;
    links_.next[key] = front_;
    (front_ == kNone ? back_ : links_.prev[front_]) = key;
    front_ = key;
    ++size_;
  }
  void remove(std::uint32_t key) {
    std::uint32_t const prev = links_.prev[key];
    std::uint32_t const next = links_.next[key];
    (prev == kNone ? front_ : links_.next[prev]) = next;
    (next == kNone ? back_ : links_.prev[next]) = prev;
    --size_;
  }
  std::uint32_t pop_back() {
    std::uint32_t const key = back_;
    remove(key);
    return key;
  }
  std::uint32_t back() const { return back_; }
  std::uint32_t before(std::uint32_t key) const { return links_.prev[key]; }  // The next newer one.
  std::size_t size() const { return size_; }

 private:
  Links& links_;
  std::uint32_t front_ = kNone;
  std::uint32_t back_ = kNone;
  std::size_t size_ = 0;
};

}  // namespace workmill::bench
