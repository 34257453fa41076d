# wm_embed(target file namespace variable): builds a file's bytes into a target, as
#   namespace X { extern char const kVariable[]; extern std::size_t const kVariableBytes; }
# As numbers, not as a string: compilers have limits for literals, and so have their warnings.
#
# The same file is the script that writes the source: cmake -DINPUT= -DOUTPUT= -DNAMESPACE= -DVARIABLE= -P this.

if(CMAKE_SCRIPT_MODE_FILE)
  file(READ "${INPUT}" bytes HEX)
  string(LENGTH "${bytes}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  string(REGEX REPLACE "(('..x..',)('..x..',)('..x..',)('..x..',)('..x..',)('..x..',)('..x..',)('..x..',))" "\\1\n" bytes
    "${bytes}")
  file(WRITE "${OUTPUT}" "#include <cstddef>\n\nnamespace ${NAMESPACE} {\nextern char const ${VARIABLE}[];\n"
    "extern std::size_t const ${VARIABLE}Bytes;\nchar const ${VARIABLE}[] = {\n${bytes}\n};\n"
    "std::size_t const ${VARIABLE}Bytes = ${size};\n}\n")
  return()
endif()

set(WM_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")
function(wm_embed target file namespace variable)
  set(input "${CMAKE_SOURCE_DIR}/${file}")
  get_filename_component(name "${file}" NAME)
  set(output "${CMAKE_BINARY_DIR}/embedded/${name}.cpp")
  add_custom_command(OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUT=${input}" "-DOUTPUT=${output}" "-DNAMESPACE=${namespace}"
      "-DVARIABLE=${variable}" -P "${WM_EMBED_SCRIPT}"
    DEPENDS "${input}" "${WM_EMBED_SCRIPT}" VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()
