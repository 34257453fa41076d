// Runs a fuzz target on its saved inputs, in builds that have no libFuzzer: what once was found stays found.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  std::filesystem::path const folder = argv[1];
  std::size_t inputs = 0;
  std::error_code error;
  for (auto const& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string const bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    // A copy of exactly this size, so that AddressSanitizer sees one byte read too many.
    std::vector<std::uint8_t> const input(bytes.begin(), bytes.end());
    std::printf("%s\n", entry.path().filename().c_str());
    std::fflush(stdout);  // When the target dies, the last name printed is the input that did it.
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++inputs;
  }
  if (inputs == 0) {
    std::fprintf(stderr, "no saved inputs in %s: a fuzz target starts with at least one\n", folder.c_str());
    return 1;
  }
  std::printf("%zu inputs\n", inputs);
  return 0;
}
