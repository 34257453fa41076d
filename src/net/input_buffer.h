#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

// The bytes that a connection has received and not used yet, in one piece.
//
// One owner, one thread. Reads are lent until the next call that is not const.
namespace workmill::net {

class InputBuffer {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::string_view view() const { return {data_.get() + start_, size_}; }

  // At least `room` bytes to write behind what is there; commit() says how many were. Moves what lent views show.
  std::span<char> prepare(std::size_t room);
  void commit(std::size_t written) { size_ += written; }
  void append(std::string_view bytes);
  // Drops from the front.
  void consume(std::size_t count);

  // Gives the memory back where it has grown over `keep` bytes and nothing is in it.
  void shrink(std::size_t keep);
  std::size_t capacity() const { return capacity_; }

 private:
  std::unique_ptr<char[]> data_;
  std::size_t capacity_ = 0;
  std::size_t start_ = 0;
  std::size_t size_ = 0;
};

}  // namespace workmill::net
