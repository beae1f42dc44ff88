# suite_nanopb(<target> <file.proto>...): compiles .proto files (and the .options beside them) into a static library <target>.
find_program(NANOPB_GENERATOR NAMES nanopb_generator nanopb_generator.py)
find_path(NANOPB_INCLUDE pb_encode.h PATH_SUFFIXES nanopb)
find_library(NANOPB_LIBRARY NAMES protobuf-nanopb)
if(NOT NANOPB_GENERATOR OR NOT NANOPB_INCLUDE OR NOT NANOPB_LIBRARY)
  message(FATAL_ERROR "dependency 'nanopb' is missing: on Debian install nanopb and libnanopb-dev")
endif()

function(suite_nanopb target)
  set(generated)
  foreach(proto ${ARGN})
    cmake_path(GET proto STEM name)
    cmake_path(GET proto PARENT_PATH folder)
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${folder})
    add_custom_command(
      OUTPUT ${out}/${name}.pb.c ${out}/${name}.pb.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${out}
      COMMAND ${NANOPB_GENERATOR} -q -I ${CMAKE_CURRENT_SOURCE_DIR}/${folder} -D ${out} ${name}.proto
      WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${folder}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto} ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/${name}.options
      COMMENT "nanopb ${name}.proto" VERBATIM)
    list(APPEND generated ${out}/${name}.pb.c)
  endforeach()
  add_library(${target} STATIC ${generated})
  target_include_directories(${target} PUBLIC ${CMAKE_CURRENT_BINARY_DIR} ${NANOPB_INCLUDE})
  target_link_libraries(${target} PUBLIC ${NANOPB_LIBRARY})
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
