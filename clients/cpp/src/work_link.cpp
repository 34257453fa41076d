#include "work_link.h"

#include <utility>

// Reports that are taken apart again, because the server has refused some of them.
namespace workmill::client::detail {

std::vector<ReportBatchPtr> split(ReportBatchPtr batch) {
  std::vector<ReportBatchPtr> parts;
  parts.reserve(batch->count);
  for (std::size_t i = 0; i < batch->count; ++i) {
    auto part = std::make_unique<ReportBatch>();
    part->text = batch->report(i);
    part->starts.push_back(0);
    part->count = 1;
    part->sent_before = batch->sent_before;
    part->is_suspect = true;
    parts.push_back(std::move(part));
  }
  for (ReportWaiter& waiter : batch->waiters) {
    parts[waiter.index]->waiters.push_back({.index = 0, .done = std::move(waiter.done)});
  }
  return parts;
}

ReportHead read_head(std::string_view report) {
  auto const next = [&](std::string_view name) {
    std::size_t const at = report.find(name);
    if (at == std::string_view::npos) return std::string_view{};
    report.remove_prefix(at + name.size());
    return report.substr(0, report.find('"'));
  };
  ReportHead head;
  head.id = next(R"("id":")");
  head.lease = next(R"("lease":")");
  head.outcome = next(R"("outcome":")");
  head.is_end = head.outcome == "completed" || head.outcome == "failed" || head.outcome == "released";
  return head;
}

bool is_about_reports(Error const& error) {
  bool const is_of_body = error.status == 0 || error.status == 400 || error.status == 413 || error.status == 422;
  return is_of_body && error.error_class == ErrorClass::user && error.code != "unauthorized" &&
         error.code != "forbidden" && error.code != "stream_replaced" && error.code != "bad_configuration";
}

}  // namespace workmill::client::detail
