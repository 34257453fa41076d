#include "service/service.h"

namespace workmill::service {

flags::FlagSet const& Service::flags() const {
  static flags::FlagSet const none;
  return none;
}

JobRef Service::job_ref(std::string_view id) const {
  if (auto const number = ids().decode(id)) return {.number = number, .text = {}};
  return {.number = {}, .text = std::string(id)};
}

void Service::append_id(JobNumber number, BytesView client_id, std::string& out) const {
  if (!client_id.empty()) {
    out.append(client_id);
    return;
  }
  auto const text = ids().encode(number);
  out.append(text.data(), text.size());
}

}  // namespace workmill::service
