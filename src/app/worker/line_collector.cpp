#include "app/worker/line_collector.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "app/json.h"

namespace workmill::app {

void LineCollector::add(std::string_view bytes) {
  while (!bytes.empty()) {
    auto const end = bytes.find('\n');
    auto const length = std::min({end, bytes.size(), kLineBytesMax - open_.size()});
    open_.append(bytes.substr(0, length));
    bytes.remove_prefix(length);
    if (bytes.starts_with('\n')) {
      bytes.remove_prefix(1);
      end_line();
    } else if (open_.size() == kLineBytesMax) {
      end_line();
    }
  }
}

void LineCollector::finish() {
  if (!open_.empty()) end_line();
}

void LineCollector::end_line() {
  if (open_.ends_with('\r')) open_.pop_back();
  auto line = repair_utf8(std::exchange(open_, {}));
  if (line.find_first_not_of(" \t") != std::string::npos) last_line_ = line;
  bytes_ += line.size() + 1;
  lines_.push_back(std::move(line));
  while (bytes_ > kBytesMax || lines_.size() > kLinesMax) {
    bytes_ -= lines_.front().size() + 1;
    lines_.pop_front();
    ++dropped_;
  }
}

std::vector<std::string> LineCollector::take() {
  std::vector<std::string> lines;
  if (dropped_ > 0) lines.push_back(fmt::format("({} lines are left out here)", dropped_));
  lines.insert(lines.end(), std::make_move_iterator(lines_.begin()), std::make_move_iterator(lines_.end()));
  lines_.clear();
  bytes_ = 0;
  dropped_ = 0;
  return lines;
}

}  // namespace workmill::app
