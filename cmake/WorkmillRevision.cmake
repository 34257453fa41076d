# Which commit a build is of. wm_revision(target) adds a generated source to it, which is looked at in each build and
# written only where it would differ: a build without a new commit compiles nothing. Outside of git it says "unknown".

if(CMAKE_SCRIPT_MODE_FILE)
  execute_process(COMMAND git -C "${WM_ROOT}" rev-parse --short=12 HEAD
    OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed OR NOT revision MATCHES "^[0-9a-f]+$")
    set(revision "unknown")
  endif()
  file(CONFIGURE OUTPUT "${WM_OUTPUT}" @ONLY CONTENT [=[
#include "app/revision.h"

namespace workmill::app {
std::string_view revision() { return "@revision@"; }
}  // namespace workmill::app
]=])
  return()
endif()

set(WM_REVISION_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")
function(wm_revision target)
  set(output "${CMAKE_BINARY_DIR}/generated/revision.cpp")
  add_custom_target(wm_revision_source
    COMMAND "${CMAKE_COMMAND}" "-DWM_ROOT=${CMAKE_SOURCE_DIR}" "-DWM_OUTPUT=${output}" -P "${WM_REVISION_SCRIPT}"
    BYPRODUCTS "${output}" COMMENT "")
  add_dependencies(${target} wm_revision_source)
  target_sources(${target} PRIVATE "${output}")
endfunction()
