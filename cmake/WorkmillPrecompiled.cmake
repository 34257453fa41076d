# Other people's headers, compiled once a build and not once a file: two thirds of what a test takes to compile, and a
# third of the rest. Ours are not in here, so that a change of them costs what it did.
#
# A precompiled header hides an include that was forgotten. The presets gcc and dev do without (GCC gains nothing by it,
# and clang-tidy reads the commands of dev), so that `./dev test` and `./dev lint` find those.
#
# wm_precompiled(target kind): the target's flags, but for -D, must be those of its kind:
#   common  the product: the standard library, fmt
#   net     the same and Asio: its static objects are not for everybody
#   app     the same and CLI11, at -O0 under sanitizers
#   test    what net has, GoogleTest and rapidcheck, at -O0

if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND WM_PCH)
  set(common
    <algorithm> <array> <atomic> <bit> <charconv> <chrono> <compare> <concepts> <condition_variable> <cstddef> <cstdint>
    <cstdlib> <cstring> <deque> <expected> <filesystem> <functional> <iterator> <limits> <map> <memory> <mutex>
    <numeric> <optional> <ranges> <set> <span> <string> <string_view> <thread> <tuple> <type_traits> <unordered_map>
    <unordered_set> <utility> <variant> <vector> <fmt/format.h>)
  set(net
    <boost/asio/as_tuple.hpp> <boost/asio/awaitable.hpp> <boost/asio/bind_cancellation_slot.hpp>
    <boost/asio/cancellation_signal.hpp> <boost/asio/co_spawn.hpp> <boost/asio/executor_work_guard.hpp>
    <boost/asio/io_context.hpp> <boost/asio/ip/tcp.hpp> <boost/asio/posix/stream_descriptor.hpp> <boost/asio/post.hpp>
    <boost/asio/signal_set.hpp> <boost/asio/steady_timer.hpp> <boost/asio/this_coro.hpp> <boost/asio/use_awaitable.hpp>
    <boost/beast/http/basic_parser.hpp>)
  set(test <fstream> <sstream> <gmock/gmock.h> <gtest/gtest.h> <rapidcheck/gtest.h>)

  set(empty "${CMAKE_BINARY_DIR}/precompiled.cpp")
  file(CONFIGURE OUTPUT "${empty}" CONTENT "// A library wants a source.\n")

  add_library(wm_precompiled_common STATIC "${empty}")
  target_link_libraries(wm_precompiled_common PRIVATE wm_product_options fmt::fmt)
  target_precompile_headers(wm_precompiled_common PRIVATE ${common})

  add_library(wm_precompiled_net STATIC "${empty}")
  target_link_libraries(wm_precompiled_net PRIVATE wm_product_options fmt::fmt Boost::headers)
  target_precompile_headers(wm_precompiled_net PRIVATE ${common} ${net})

  add_library(wm_precompiled_app STATIC "${empty}")
  target_link_libraries(wm_precompiled_app PRIVATE wm_product_options fmt::fmt Boost::headers CLI11::CLI11)
  if(WM_SANITIZE)
    target_compile_options(wm_precompiled_app PRIVATE -O0)
  endif()
  target_precompile_headers(wm_precompiled_app PRIVATE ${common} ${net} <CLI/CLI.hpp>)

  if(WM_TESTS AND NOT WM_FUZZ)
    add_library(wm_precompiled_test STATIC "${empty}")
    target_link_libraries(wm_precompiled_test PRIVATE wm_options fmt::fmt Boost::headers rapidcheck_gtest rapidcheck
      GTest::gmock)
    target_compile_options(wm_precompiled_test PRIVATE -O0)
    target_precompile_headers(wm_precompiled_test PRIVATE ${common} ${net} ${test})
  endif()
endif()

function(wm_precompiled target kind)
  if(TARGET wm_precompiled_${kind})
    target_precompile_headers(${target} REUSE_FROM wm_precompiled_${kind})
  endif()
endfunction()
