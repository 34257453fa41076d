#include "app/load/server_cpu.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

#include "app/load/peer_loop.h"

namespace workmill::app {

using std::chrono::nanoseconds;

std::optional<nanoseconds> cpu_time_of(int process) {
  std::ifstream file{fmt::format("/proc/{}/stat", process)};
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name stands in brackets and may hold anything; the 12th and 13th fields behind it are what we want.
  auto rest = std::string_view{line}.substr(std::min(line.rfind(')') + 1, line.size()));
  std::array<std::int64_t, 2> ticks{};
  for (int field = 1; field <= 13; ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    auto const text = rest.substr(0, rest.find(' '));
    if (field >= 12) {
      std::from_chars(text.data(), text.data() + text.size(), ticks[static_cast<std::size_t>(field - 12)]);
    }
    rest.remove_prefix(text.size());
  }
  return nanoseconds{(ticks[0] + ticks[1]) * (1'000'000'000 / sysconf(_SC_CLK_TCK))};
}

namespace {

// The inodes of the sockets that listen on a port (proc(5): /proc/net/tcp).
std::vector<std::string> listening_inodes(std::uint16_t port) {
  std::vector<std::string> inodes;
  auto const local_end = fmt::format(":{:04X}", port);
  for (auto const* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file{path};
    for (std::string line; std::getline(file, line);) {
      std::array<std::string_view, 10> fields;
      std::string_view rest{line};
      for (auto& field : fields) {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        field = rest.substr(0, rest.find(' '));
        rest.remove_prefix(field.size());
      }
      if (fields[1].ends_with(local_end) && fields[3] == "0A") inodes.emplace_back(fields[9]);
    }
  }
  return inodes;
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

bool has_socket(int process, std::vector<std::string> const& inodes) {
  auto const path = fmt::format("/proc/{}/fd", process);
  Folder const folder{opendir(path.c_str())};
  if (folder == nullptr) return false;  // Somebody else's.
  while (auto const* entry = readdir(folder.get())) {
    std::array<char, 64> target{};
    auto const link = fmt::format("{}/{}", path, &entry->d_name[0]);
    auto const length = readlink(link.c_str(), target.data(), target.size());
    if (length <= 0) continue;
    std::string_view const name{target.data(), static_cast<std::size_t>(length)};
    for (auto const& inode : inodes) {
      if (name == fmt::format("socket:[{}]", inode)) return true;
    }
  }
  return false;
}

}  // namespace

std::optional<int> find_listener(std::uint16_t port) {
  auto const inodes = listening_inodes(port);
  if (inodes.empty()) return std::nullopt;
  Folder const folder{opendir("/proc")};
  if (folder == nullptr) return std::nullopt;
  while (auto const* entry = readdir(folder.get())) {
    std::string_view const name{&entry->d_name[0]};
    int process = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), process).ec != std::errc{}) continue;
    if (has_socket(process, inodes)) return process;
  }
  return std::nullopt;
}

namespace {

bool is_local(std::string_view host) {
  return host.starts_with("127.") || host == "localhost" || host == "::1" || host == "[::1]";
}

// The value of a metric without labels (Prometheus text), in seconds.
std::optional<nanoseconds> seconds_in(std::string_view page, std::string_view name) {
  for (auto at = page.find(name); at != std::string_view::npos; at = page.find(name, at + 1)) {
    bool const is_line = at == 0 || page[at - 1] == '\n';
    auto const value = page.substr(at + name.size());
    if (!is_line || !value.starts_with(' ')) continue;
    double seconds = 0;
    if (std::from_chars(value.data() + 1, value.data() + value.size(), seconds).ec != std::errc{}) return std::nullopt;
    return nanoseconds{static_cast<nanoseconds::rep>(seconds * 1e9)};
  }
  return std::nullopt;
}

}  // namespace

ServerCpu::ServerCpu(ServerAddress const& server) : client_(server) {
  auto const address = peer_address(server.url);
  std::uint16_t port = 0;
  if (!address || !is_local(address->host)) return;
  std::from_chars(address->port.data(), address->port.data() + address->port.size(), port);
  process_ = find_listener(port);
  if (process_) source_ = "/proc";
}

std::optional<nanoseconds> ServerCpu::now() {
  if (process_) return cpu_time_of(*process_);
  auto const page = client_.send({.path = "/metrics"});
  if (!page || page->status != 200) return std::nullopt;
  auto const time = seconds_in(page->body, "process_cpu_seconds_total");
  if (time) source_ = "/metrics";
  return time;
}

}  // namespace workmill::app
