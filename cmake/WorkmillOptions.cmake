# How every file of ours is compiled. Presets choose the compiler and the kind of build; what holds in all is here.

option(WM_WERROR "Treat warnings as errors" ON)
option(WM_PCH "Precompile the headers of the standard library and of heavy libraries (clang only)" ON)
option(WM_FUZZ "Build the *_fuzz.cpp files as libFuzzer programs instead of corpus tests" OFF)
option(WM_MUTATIONS "Compile in the mistakes that the simulation must find (base/mutation.h); never in what is released" OFF)
option(WM_COVERAGE "Count which lines and branches run, for llvm-cov" OFF)
set(WM_SANITIZE "" CACHE STRING "Sanitizers for every file, as -fsanitize= takes them, such as address,undefined")

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
# -O2 rather than CMake's -O3: measurements decide where more is worth its compile time. -g1 is what a stack trace needs.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  message(FATAL_ERROR "clang ${CMAKE_CXX_COMPILER_VERSION} is too old: before 19, libstdc++'s <expected> is empty. "
    "Use the presets, or -DCMAKE_CXX_COMPILER=clang++-19")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} is too old: 12 or newer is needed")
endif()

# The environment's CMAKE_CXX_COMPILER_LAUNCHER, which CMake reads itself, goes first.
if(NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(WM_CCACHE ccache)
  if(WM_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${WM_CCACHE}")
  endif()
endif()

find_package(Threads REQUIRED)

add_library(wm_options INTERFACE)
target_include_directories(wm_options INTERFACE "${CMAKE_SOURCE_DIR}/src")
target_compile_definitions(wm_options INTERFACE _GLIBCXX_ASSERTIONS)
target_compile_options(wm_options INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wnon-virtual-dtor
  -Woverloaded-virtual $<$<BOOL:${WM_WERROR}>:-Werror>)

# What tests are spared: gtest and Google Benchmark register through global objects.
add_library(wm_product_options INTERFACE)
target_link_libraries(wm_product_options INTERFACE wm_options)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_program(WM_GOLD NAMES ld.gold)  # A third of the time of the other one. (lld's program has no name that g++ looks for.)
  if(WM_GOLD)
    add_link_options(-fuse-ld=gold)
  endif()
endif()
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # It takes each file that is included for a header, and warns of what a header must not have.
  target_compile_options(wm_options INTERFACE -Wno-subobject-linkage)
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Without the time of day in a precompiled header, ccache knows it again.
  target_compile_options(wm_options INTERFACE -Wthread-safety $<$<BOOL:${WM_PCH}>:SHELL:-Xclang -fno-pch-timestamp>)
  target_compile_options(wm_product_options INTERFACE -Wglobal-constructors)
  find_program(WM_LLD NAMES ld.lld-19 ld.lld)
  if(WM_LLD)
    add_link_options(-fuse-ld=lld)
  endif()
endif()

if(WM_SANITIZE)
  set(sanitize -fsanitize=${WM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_compile_options(${sanitize} -O1 -g1)
  add_link_options(${sanitize})
endif()
if(WM_MUTATIONS)
  add_compile_definitions(WM_MUTATIONS)
endif()
if(WM_COVERAGE)
  add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()
if(WM_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "libFuzzer comes with clang: use --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
