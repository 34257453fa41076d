# A folder of src/ is a layer. wm_layer finds what is in it:
#   X.cpp         goes into the static library wm_<layer>;
#   X_test.cpp    goes into the one test program of the layer, wm_<layer>_test; so do conformance*.cpp, a suite that
#                 several tests share;
#   X_fuzz.cpp    is one fuzz target, <layer>_X, with its saved inputs in tests/corpus/<layer>_X/.
# A new file is found by the next build: nobody edits this for it.

include(GNUInstallDirs)
include(WorkmillPrecompiled)
set(WM_RESULTS "${CMAKE_BINARY_DIR}/results")
file(MAKE_DIRECTORY "${WM_RESULTS}")
if(WM_FUZZ)
  add_custom_target(wm_fuzz)  # All fuzz targets.
elseif(WM_TESTS)
  add_library(wm_corpus_driver STATIC EXCLUDE_FROM_ALL "${CMAKE_SOURCE_DIR}/tests/corpus_driver.cpp")
  target_link_libraries(wm_corpus_driver PRIVATE wm_options)
endif()

# wm_layer(folder DEPENDS layers... LIBS libraries... [IN parent, else src] [LABEL of its tests, else unit])
function(wm_layer folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "IN;LABEL" "DEPENDS;LIBS")
  if(NOT arg_IN)
    set(arg_IN src)
  endif()
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  get_filename_component(name "${folder}" NAME)
  set(parent "${CMAKE_SOURCE_DIR}/${arg_IN}")
  set(root "${parent}/${folder}")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${root}/*.cpp")
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "(_test|/conformance[a-z_]*)\\.cpp$")
  set(fuzzers ${sources})
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz|/conformance[a-z_]*|/main)\\.cpp$")

  # A file for each command, made alike: each has its own Options, and its own run.
  set(alike ${sources})
  list(FILTER alike INCLUDE REGEX "/app/commands/")
  set_source_files_properties(${alike} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)

  list(TRANSFORM arg_DEPENDS PREPEND "wm_")
  if(sources)
    add_library(wm_${name} STATIC ${sources})
    target_link_libraries(wm_${name} PUBLIC ${arg_DEPENDS} ${arg_LIBS} PRIVATE wm_product_options)
    target_include_directories(wm_${name} PUBLIC "${parent}")
    target_compile_definitions(wm_${name} PRIVATE WM_VERSION="${PROJECT_VERSION}")
    if(CLI11::CLI11 IN_LIST arg_LIBS)
      wm_precompiled(wm_${name} app)
      # Options and settings, template upon template: a sixth of what a sanitized build takes, and on no hot path.
      if(WM_SANITIZE)
        target_compile_options(wm_${name} PRIVATE -O0)
      endif()
    elseif(Boost::headers IN_LIST arg_LIBS OR wm_net IN_LIST arg_DEPENDS)
      wm_precompiled(wm_${name} net)
    else()
      wm_precompiled(wm_${name} common)
    endif()
  else()
    add_library(wm_${name} INTERFACE)
    target_link_libraries(wm_${name} INTERFACE ${arg_DEPENDS} ${arg_LIBS})
    target_include_directories(wm_${name} INTERFACE "${parent}")
  endif()

  if(tests AND WM_TESTS AND NOT WM_FUZZ)
    add_executable(wm_${name}_test ${tests})
    target_link_libraries(wm_${name}_test PRIVATE wm_${name} wm_options rapidcheck_gtest rapidcheck GTest::gmock
      GTest::gtest_main)
    target_compile_definitions(wm_${name}_test PRIVATE WM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    # What is tested is optimised; the tests themselves, full of rapidcheck's templates, take 5 s a file so, and 2 at
    # -O0. The linker may then take an inline function of ours from a test, which a simulation would feel.
    if(WM_SANITIZE OR NOT arg_LABEL STREQUAL "sim")
      target_compile_options(wm_${name}_test PRIVATE -O0)
      wm_precompiled(wm_${name}_test test)
    endif()
    # One entry a program, not one a test: a sanitized program takes longer to start than most tests to run. The XML
    # says how many tests there were.
    add_test(NAME ${name} COMMAND wm_${name}_test)
    set_tests_properties(${name} PROPERTIES LABELS ${arg_LABEL} TIMEOUT 600
      ENVIRONMENT "GTEST_OUTPUT=xml:${WM_RESULTS}/${name}.xml;GTEST_COLOR=no")
  endif()

  foreach(source IN LISTS fuzzers)
    get_filename_component(stem "${source}" NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" stem "${stem}")
    wm_fuzz_target(${name}_${stem} ${source} wm_${name})
  endforeach()
endfunction()

function(wm_fuzz_target target source library)
  set(corpus "${CMAKE_SOURCE_DIR}/tests/corpus/${target}")
  if(WM_FUZZ)
    add_executable(fuzz_${target} ${source})
    target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${target} PRIVATE ${library} wm_options)
    add_dependencies(wm_fuzz fuzz_${target})
  elseif(WM_TESTS)
    add_executable(corpus_${target} ${source})
    target_link_libraries(corpus_${target} PRIVATE ${library} wm_options wm_corpus_driver)
    add_test(NAME corpus_${target} COMMAND corpus_${target} "${corpus}")
    set_tests_properties(corpus_${target} PROPERTIES LABELS unit TIMEOUT 300)
  endif()
endfunction()

# wm_program(name SOURCE file LAYERS layers...) puts a program at the top of the build folder. Until its file is
# written there is no such program.
function(wm_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SOURCE" "LAYERS")
  file(GLOB source CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${arg_SOURCE}")
  if(NOT source OR WM_FUZZ)
    return()
  endif()
  list(TRANSFORM arg_LAYERS PREPEND "wm_")
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE wm_allocator ${arg_LAYERS} wm_product_options)
  target_compile_definitions(${name} PRIVATE WM_VERSION="${PROJECT_VERSION}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
  install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endfunction()

# bench/micro: Google Benchmark, in the process. bench/load: programs that drive the built server over a socket.
function(wm_benchmarks)
  if(WM_FUZZ OR NOT WM_BENCH)
    return()
  endif()
  file(GLOB_RECURSE micro CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/bench/micro/*.cpp")
  if(micro)
    add_executable(wm_bench_micro ${micro})
    target_link_libraries(wm_bench_micro PRIVATE wm_app wm_http wm_service wm_net wm_shard wm_engine wm_log wm_cache wm_options
      benchmark::benchmark benchmark::benchmark_main)
    # Every benchmark runs once, tiny, so that none of them rots. WM_BENCH_SMOKE asks those with long set-ups for less.
    add_test(NAME bench_micro COMMAND wm_bench_micro --benchmark_min_time=0.001)
    set_tests_properties(bench_micro PROPERTIES LABELS unit TIMEOUT 300 ENVIRONMENT "WM_BENCH_SMOKE=1")
  endif()
  file(GLOB cache CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/bench/cache/*.cpp")
  if(cache)
    add_executable(wm_bench_cache ${cache})
    target_include_directories(wm_bench_cache PRIVATE "${CMAKE_SOURCE_DIR}/bench/cache")
    target_link_libraries(wm_bench_cache PRIVATE wm_allocator wm_cache wm_options)
    # Each policy over each kind of trace, short ones, so that it does not rot.
    add_test(NAME bench_cache COMMAND wm_bench_cache ratios 20000)
    set_tests_properties(bench_cache PROPERTIES LABELS unit TIMEOUT 300)
  endif()
  foreach(program load:offered redis:redis_life hot:hot stampede:stampede sink:sink)
    string(REPLACE ":" ";" program "${program}")
    list(GET program 0 name)
    list(GET program 1 source)
    if(EXISTS "${CMAKE_SOURCE_DIR}/bench/load/${source}.cpp")
      add_executable(wm_bench_${name} "${CMAKE_SOURCE_DIR}/bench/load/${source}.cpp")
      target_link_libraries(wm_bench_${name} PRIVATE wm_app wm_options CLI11::CLI11)
    endif()
  endforeach()
endfunction()
