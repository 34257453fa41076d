#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

// The names that the members of one kind of JSON object can have, found by a perfect hash: one multiplication and one
// comparison, however many there are. Made when compiling.
namespace workmill::http {

template <std::size_t N>
class FieldNames {
  static_assert(N <= 32, "fields that were seen are counted in 32 bits");

 public:
  consteval explicit FieldNames(std::array<std::string_view, N> const& names) : names_(names) {
    while (!try_seed()) seed_ = seed_ * 1'664'525 + 1'013'904'223;  // Any sequence will do; never ends: no such names.
  }

  // The place of `name` in the list.
  std::optional<std::size_t> find(std::string_view name) const {
    if (name.empty()) return std::nullopt;
    std::uint8_t const place = slots_[slot(name)];
    if (place >= N || names_[place] != name) return std::nullopt;
    return place;
  }
  std::string_view name(std::size_t place) const { return names_[place]; }

 private:
  static constexpr std::size_t kSlotBits = 7;

  constexpr std::size_t slot(std::string_view name) const {
    std::uint32_t const traits = static_cast<std::uint32_t>(name.size()) << 16 |
                                 static_cast<std::uint32_t>(static_cast<unsigned char>(name.front())) << 8 |
                                 static_cast<std::uint32_t>(static_cast<unsigned char>(name.back()));
    return static_cast<std::size_t>(traits * seed_ >> (32 - kSlotBits));
  }
  consteval bool try_seed() {
    slots_.fill(N);
    for (std::size_t i = 0; i < N; ++i) {
      std::uint8_t& place = slots_[slot(names_[i])];
      if (place != N) return false;
      place = static_cast<std::uint8_t>(i);
    }
    return true;
  }

  std::array<std::string_view, N> names_;
  std::array<std::uint8_t, std::size_t{1} << kSlotBits> slots_{};
  std::uint32_t seed_ = 1;
};

}  // namespace workmill::http
