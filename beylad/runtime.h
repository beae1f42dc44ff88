/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Runtime: what a program is written in and what people call it, from the name of its executable, its arguments, its ELF file and the
 * names of the files it has mapped. Guesses, but for people: nothing is probed because of them.
 * May touch: the descriptor it is given; else memory only. */
#include "beylad/process.h"

#define RUNTIME_ARGUMENTS_MAX 4096                 /* bytes of a command line that are looked at: what names a program stands in front */

/* Language of an executable's path alone: interpreters, "java", "dotnet". LANGUAGE_UNKNOWN: any other. */
enum process_language runtime_of_exe(const char *exe);
/* What is told by the sections of an ELF file. */
struct runtime_elf {
        bool valid, is_32bit;
        enum process_language language;            /* GO, RUST, C or UNKNOWN */
};
void runtime_of_elf(int fd, struct runtime_elf *ret);
/* By n bytes of /proc/PID/maps, whole or in parts that overlap by RUNTIME_LIBRARY_MAX: a program that has an interpreter built in. */
#define RUNTIME_LIBRARY_MAX 16
enum process_language runtime_of_maps(const char *maps, size_t n);

/* The name for people: the basename of exe, or what an interpreter runs - script, module, main class -, or how a program that is several was
 * called. comm: as /proc/PID/stat has it. arguments: as /proc/PID/cmdline has them, each with its NUL; the last one may be cut. */
void runtime_name(const char *exe, const char *comm, const char *arguments, size_t n, char out[static PROCESS_TEXT_MAX]);
/* Behind the last '/'; without the ".NAME-wrapped" that nixpkgs puts around programs. Writes it printable. */
void runtime_basename(const char *path, char out[static PROCESS_TEXT_MAX]);
