#pragma once
#include <string>

namespace workmill::telemetry {

// A small file of /proc, 16 KiB of it at most; empty where it cannot be read.
std::string read_proc_file(std::string const& path);

}  // namespace workmill::telemetry
