#include "log/file/folder_repair.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "log/file/file_io.h"
#include "log/file/folder.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

constexpr char const* kRoom = "repair.tmp";           // The new log, not whole yet.
constexpr char const* kWhole = "repaired";            // It is whole, and the old segments are moved out.
constexpr char const* kMovingIn = "repaired.moving";  // They are out, and the new ones are moved in.

Result<std::vector<std::string>> segment_names(fs::path const& folder) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator entries{folder, error};
  for (; !error && entries != fs::directory_iterator{}; entries.increment(error)) {
    std::string name = entries->path().filename().string();
    if (segment_ordinal(name)) names.push_back(std::move(name));
  }
  if (error) return io_error("read the folder", folder.string(), error.value());
  return names;
}

Result<> move_to(fs::path const& from, fs::path const& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) return io_error("move", from.string(), error.value());
  return {};
}

Result<> move_segments(fs::path const& from, fs::path const& to) {
  WM_TRY(auto const names, segment_names(from));
  for (std::string const& name : names) WM_TRY_VOID(move_to(from / name, to / name));
  WM_TRY_VOID(sync_folder(to.string()));
  return sync_folder(from.string());
}

bool has(int folder_fd, char const* name) { return ::faccessat(folder_fd, name, F_OK, 0) == 0; }

}  // namespace

bool has_unfinished_repair(int folder_fd) { return has(folder_fd, kWhole) || has(folder_fd, kMovingIn); }

Result<FolderRepair> FolderRepair::begin(std::string folder) {
  Fd folder_fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!folder_fd) return io_error("open the folder", folder, errno);
  Fd lock{::openat(folder_fd.get(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC, 0640)};
  if (!lock) return io_error("write to the folder", folder, errno);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return io_error("lock", folder, errno);
    return in_use(lock.get(), folder);
  }
  return FolderRepair{std::move(folder), std::move(folder_fd), std::move(lock)};
}

bool FolderRepair::is_half_done() const { return has_unfinished_repair(folder_fd_.get()); }

Result<std::string> FolderRepair::make_room() {
  give_up();  // What an earlier attempt may have left.
  std::string room = folder_ + "/" + kRoom;
  if (::mkdir(room.c_str(), 0750) != 0) return io_error("make the folder", room, errno);
  return room;
}

void FolderRepair::give_up() {
  std::error_code ignored;
  fs::remove_all(fs::path{folder_} / kRoom, ignored);
}

Result<std::string> FolderRepair::finish(std::string const& aside) {
  fs::path const folder{folder_};
  fs::path const out = folder / aside;
  if (!is_half_done()) {
    WM_TRY_VOID(sync_folder((folder / kRoom).string()));
    WM_TRY_VOID(move_to(folder / kRoom, folder / kWhole));
    WM_TRY_VOID(sync_folder(folder));
  }
  if (has(folder_fd_.get(), kWhole)) {
    std::error_code error;
    fs::create_directory(out, error);
    if (error) return io_error("make the folder", out.string(), error.value());
    WM_TRY_VOID(move_segments(folder, out));
    WM_TRY_VOID(move_to(folder / kWhole, folder / kMovingIn));
    WM_TRY_VOID(sync_folder(folder));
  }
  WM_TRY_VOID(move_segments(folder / kMovingIn, folder));
  std::error_code error;
  fs::remove_all(folder / kMovingIn, error);  // Its lock, and space that it had kept.
  if (error) return io_error("remove", (folder / kMovingIn).string(), error.value());
  WM_TRY_VOID(sync_folder(folder));
  return out.string();
}

}  // namespace workmill::log
