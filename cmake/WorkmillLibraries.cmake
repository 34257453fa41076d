# Other people's libraries: Debian packages, nothing vendored, nothing downloaded. `./dev setup` installs them.

find_package(Boost 1.81 REQUIRED)  # Headers only.
find_package(OpenSSL REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(absl REQUIRED)
find_package(CLI11 REQUIRED)
find_package(toml11 REQUIRED)
find_package(CURL REQUIRED)
find_package(ZLIB REQUIRED)
# gperftools' sampling profiler, of which only libprofiler is linked, not its allocator (docs/adr/0013-profiling.md). Not
# under sanitizers: its signals arrive in the middle of their own code.
add_library(wm_profiler INTERFACE)
if(NOT WM_SANITIZE)
  find_library(WM_PROFILER_LIBRARY profiler REQUIRED)
  target_link_libraries(wm_profiler INTERFACE "${WM_PROFILER_LIBRARY}")
  target_compile_definitions(wm_profiler INTERFACE WM_PROFILER)
endif()
# Takes the place of the C library's malloc in the programs, but not under sanitizers, which bring their own. A turn
# allocates and frees by the dozen what glibc keeps seven of (docs/adr/0007-allocator.md).
add_library(wm_allocator INTERFACE)
if(NOT WM_SANITIZE)
  find_package(mimalloc 2.0 REQUIRED)
  target_link_libraries(wm_allocator INTERFACE mimalloc)
endif()

# A build without tests needs none of these: `./dev build` then waits for fewer packages.
option(WM_TESTS "Build the tests" ON)
option(WM_BENCH "Build the benchmarks" ON)
if(WM_TESTS)
  find_package(GTest REQUIRED)
  find_package(rapidcheck REQUIRED)
endif()
if(WM_BENCH)
  find_package(benchmark REQUIRED)
endif()
