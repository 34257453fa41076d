#pragma once
#include <variant>

namespace workmill {

// std::holds_alternative, in one comparison. libstdc++ finds the place of Wanted in the list of alternatives by a loop
// that clang no longer does at compile time where there are 32 of them or more, as of our commands and effects: it was
// done at run time, a byte at a time, for each look at one. std::get_if has the place as a constant.
template <class Wanted, class... Alternatives>
constexpr bool holds(std::variant<Alternatives...> const& value) {
  return std::get_if<Wanted>(&value) != nullptr;
}

}  // namespace workmill
