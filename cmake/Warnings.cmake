# The flags every target of the suite is built with.
add_library(suite_warnings INTERFACE)
target_compile_options(suite_warnings INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla
  -Wformat=2 -Wundef -fno-common -fno-strict-aliasing -fstack-protector-strong)
target_compile_definitions(suite_warnings INTERFACE _GNU_SOURCE SUITE_VERSION="${PROJECT_VERSION}")
target_include_directories(suite_warnings INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT SANITIZE AND NOT FUZZ)
  target_compile_definitions(suite_warnings INTERFACE _FORTIFY_SOURCE=2)
endif()
if(SANITIZE)
  target_compile_options(suite_warnings INTERFACE -fsanitize=${SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(suite_warnings INTERFACE -fsanitize=${SANITIZE})
endif()
if(FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang-14")
  endif()
  target_compile_options(suite_warnings INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(suite_warnings INTERFACE -fsanitize=address,undefined)
endif()
# assert() states what only a defect can break and stays on in releases.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
