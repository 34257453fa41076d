#pragma once
#include <string>

#include "workmill/workmill.h"

// The suite's commands to a client.
namespace workmill::client::driver {

// driver_bug for a command that is not known here.
Result<Json> call(Client& client, std::string const& what, Json const& command);

}  // namespace workmill::client::driver
