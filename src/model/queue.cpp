#include "model/queue.h"

namespace workmill {

std::string_view to_string(WhenFull value) {
  switch (value) {
    case WhenFull::refuse: return "refuse";
    case WhenFull::drop_oldest: return "drop_oldest";
  }
  return "unknown";
}

std::optional<WhenFull> parse_when_full(std::string_view text) {
  if (text == "refuse") return WhenFull::refuse;
  if (text == "drop_oldest") return WhenFull::drop_oldest;
  return std::nullopt;
}

}  // namespace workmill
