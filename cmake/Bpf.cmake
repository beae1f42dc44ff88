# suite_bpf(<target> <file.bpf.c>...): compiles BPF programs and makes their skeletons, included as "<folder>/<name>.skel.h".
find_program(BPF_CLANG NAMES clang-14 clang)
find_program(BPF_TOOL NAMES bpftool PATHS /usr/sbin)
if(NOT BPF_CLANG)
  message(FATAL_ERROR "dependency 'clang' is missing: on Debian install clang-14")
endif()
if(NOT BPF_TOOL)
  message(FATAL_ERROR "dependency 'bpftool' is missing: on Debian install bpftool")
endif()

function(suite_bpf target)
  set(skeletons)
  foreach(source ${ARGN})
    cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} OUTPUT_VARIABLE relative)
    cmake_path(GET relative PARENT_PATH folder)
    cmake_path(GET source FILENAME file)
    string(REGEX REPLACE "\\.bpf\\.c$" "" name ${file})
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${folder})
    file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.h)
    # -mcpu=v3: 32-bit jumps and atomics, in every kernel that has a ring buffer. No machine's own headers: probes/kernel.h has what is used.
    add_custom_command(
      OUTPUT ${out}/${name}.skel.h
      COMMAND ${CMAKE_COMMAND} -E make_directory ${out}
      COMMAND ${BPF_CLANG} -target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Wno-unused-parameter -Werror -D__TARGET_ARCH_${SUITE_BPF_ARCH} -fno-stack-protector
        -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -I${PROJECT_SOURCE_DIR} -c ${source} -o ${out}/${name}.bpf.o
      COMMAND ${BPF_TOOL} gen skeleton ${out}/${name}.bpf.o name ${name}_bpf > ${out}/${name}.skel.h
      DEPENDS ${source} ${headers}
      COMMENT "BPF ${relative}" VERBATIM)
    list(APPEND skeletons ${out}/${name}.skel.h)
  endforeach()
  add_custom_target(${target}_skeletons DEPENDS ${skeletons})
  add_library(${target} INTERFACE)
  add_dependencies(${target} ${target}_skeletons)
  target_include_directories(${target} SYSTEM INTERFACE ${PROJECT_BINARY_DIR})
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(SUITE_BPF_ARCH arm64)
else()
  set(SUITE_BPF_ARCH x86)
endif()
