# SPDX-License-Identifier: Apache-2.0
# What scripts/run and scripts/test share: the tree, the packages, the build. Sourced, never run. Expects `root`, the folder of the tree.
# shellcheck shell=bash
: "${root:?}"

say() {
        printf '%s: %s\n' "${0##*/}" "$*"
}

fail() {
        printf '%s: %s\n' "${0##*/}" "$*" >&2
        exit 1
}

# packages_missing GROUP...: the packages of these groups that are not installed, one a line.
packages_missing() {
        local group package command installed wanted=" $* " one any
        installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii //p')
        while read -r group package command; do
                case $group in '' | '#'*) continue ;; esac
                any=no
                for one in ${group//,/ }; do
                        [[ $wanted != *" $one "* ]] || any=yes
                done
                [ "$any" = yes ] || continue
                if [ -n "$command" ] && command -v "$command" >/dev/null; then
                        continue
                fi
                grep -qxF "$package" <<<"$installed" || echo "$package"
        done <"$root/scripts/packages"
}

# as_root COMMAND...: at once for root, with sudo for others.
as_root() {
        if [ "$(id -u)" -eq 0 ]; then
                "$@"
        elif command -v sudo >/dev/null; then
                say "as root: $*"
                sudo "$@"
        else
                fail "not root, and sudo is missing: as root run '$*', then try again"
        fi
}

# packages_install GROUP...: installs what is missing. apt-get runs only when something is.
packages_install() {
        local missing
        if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
                say "no apt-get here: going on with what is installed; scripts/packages lists what is needed, under Debian's names"
                return
        fi
        missing=$(packages_missing "$@" | tr '\n' ' ')
        [ -n "$missing" ] || return 0
        say "installing $missing"
        as_root apt-get -q update
        # shellcheck disable=SC2086
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
}

# enter_nix SCRIPT ARGUMENT...: where nix brings the packages (no apt-get), goes on inside `nix develop`.
enter_nix() {
        if ! command -v apt-get >/dev/null && command -v nix >/dev/null && [ -z "${IN_NIX_SHELL:-}" ]; then
                say "going on inside 'nix develop'"
                exec nix --extra-experimental-features 'nix-command flakes' develop "$root" --command "$@"
        fi
}

# build FOLDER "TARGET..." [-DOPTION=VALUE]...: configures and builds; no targets means all.
build() {
        local folder=$1 targets=$2
        shift 2
        # A folder that was configured by hand keeps its generator.
        [ -f "$folder/CMakeCache.txt" ] || set -- -G Ninja "$@"
        cmake -S "$root" -B "$folder" "$@" >"$folder.configure.log" 2>&1 || {
                cat "$folder.configure.log" >&2
                return 1
        }
        # shellcheck disable=SC2086
        cmake --build "$folder" --parallel "$(nproc)" ${targets:+--target $targets}
}
