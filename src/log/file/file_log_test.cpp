#include "log/file/file_log.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "log/conformance.h"

namespace workmill::log {
namespace {

namespace fs = std::filesystem;

class FilePlace final : public Place {
 public:
  FilePlace() {
    std::string made = (fs::temp_directory_path() / "workmill-log-XXXXXX").string();
    if (::mkdtemp(made.data()) == nullptr) std::abort();
    root_ = made;
  }
  ~FilePlace() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  Result<std::unique_ptr<Log>> open(PlaceOptions const& options) override {
    return open_file_log({.folder = folder().string(),
                          .segment_bytes = options.segment_bytes,
                          .durability = options.durability,
                          .recent_bytes = options.recent_bytes});
  }

  // What lies in the folder at the moment of death is taken aside, and put back once the destructors are through. The
  // log's own thread may be making its next segment meanwhile, under another name at first.
  void kill(std::unique_ptr<Log> log) override {
    fs::create_directory(root_ / "at-death");
    for (auto const& entry : fs::directory_iterator{folder()}) {
      std::error_code vanished;
      fs::copy(entry.path(), root_ / "at-death" / entry.path().filename(), vanished);
    }
    log.reset();
    fs::remove_all(folder());
    fs::rename(root_ / "at-death", folder());
  }

  std::vector<std::uint32_t> ordinals() const override {
    std::vector<std::uint32_t> ordinals;
    for (auto const& entry : fs::directory_iterator{folder()}) {
      std::string const name = entry.path().filename().string();
      if (name.size() == 12 && name.ends_with(".wal")) ordinals.push_back(static_cast<std::uint32_t>(std::stoul(name)));
    }
    std::sort(ordinals.begin(), ordinals.end());
    return ordinals;
  }
  Bytes bytes_of(std::uint32_t ordinal) const override {
    std::ifstream in{path(ordinal), std::ios::binary};
    return Bytes{std::istreambuf_iterator<char>{in}, {}};
  }
  void replace(std::uint32_t ordinal, Bytes const& bytes) override {
    std::ofstream out{path(ordinal), std::ios::binary | std::ios::trunc};
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void remove(std::uint32_t ordinal) override { fs::remove(path(ordinal)); }

  fs::path folder() const { return root_ / "log"; }
  fs::path path(std::uint32_t ordinal) const { return folder() / fmt::format("{:08}.wal", ordinal); }

 private:
  fs::path root_;
};

std::unique_ptr<Place> make_file_place() { return std::make_unique<FilePlace>(); }

INSTANTIATE_TEST_SUITE_P(Devices, LogConformance, testing::Values(DeviceUnderTest{"file", make_file_place}), name_of);

}  // namespace
}  // namespace workmill::log
