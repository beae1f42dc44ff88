# SPDX-License-Identifier: Apache-2.0
"""The arrows of docs/architecture.md, read from the #include lines: daemons -> libtelemetry; inside collectord
sources -> pipeline -> spool -> destinations, and only daemon.c knows web/ and control/."""
import re

from lib import tree

COMMON = {"settings", "stats", "clock", "unix_listen"}
REPORT = {"report", "report_text"}
STAGES = {"sources", "pipeline", "spool", "destinations"}
# Room -> rooms whose headers it may include, beside its own and libtelemetry. A room is a folder of collectord, or a file beside main.c.
ALLOWED = {
    "sources": {"pipeline", "spool", "http"} | COMMON,
    "pipeline": {"spool", "settings", "stats"},            # no clock: time is an argument
    "spool": set(),
    "destinations": {"spool"} | COMMON,
    "http": COMMON,
    "settings": set(),
    "settings_check": {"settings"},
    "stats": {"settings"},
    "clock": set(),
    "unix_listen": set(),
    "daemon": STAGES | COMMON | REPORT | {"web", "control"},
    "report": {"daemon"} | STAGES | COMMON,
    "report_text": {"report"} | COMMON,
    "web": {"daemon", "http", "spool"} | REPORT | COMMON,
    "control": {"daemon", "spool"} | REPORT | COMMON,
    "main": {"daemon"} | COMMON,
}
GENERATED = {"proto"}                                       # of libtelemetry, by nanopb
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def room_of(path):
    """("collectord", "spool") for collectord/spool/x.h, ("collectord", "daemon") for collectord/daemon.c, ("libtelemetry", "") for its files."""
    parts = str(path).split("/")
    if parts[0] != "collectord":
        return parts[0], ""
    return parts[0], parts[1] if len(parts) > 2 else parts[1].rsplit(".", 1)[0]


def complaint(source, target):
    """Why source may not include target, or None."""
    part, room = room_of(source)
    to_part, to_room = room_of(target)
    if to_part == "libtelemetry" or (part == "libtelemetry" and to_part in GENERATED):
        return None
    if part == "libtelemetry":
        return "libtelemetry knows no daemon"
    if to_part != part:
        return f"{part} uses libtelemetry, not {to_part}"
    if part != "collectord" or room == to_room:
        return None
    if room not in ALLOWED:
        return f"room '{room}' has no row in tests/checks/include_direction.py"
    # daemon.h is what web and control see of the daemon; the two themselves are known to daemon.c alone.
    if to_room in {"web", "control"} and str(source) != "collectord/daemon.c":
        return "only daemon.c knows web/ and control/"
    if to_room not in ALLOWED[room]:
        return f"{room} -> {to_room} is not an arrow of docs/architecture.md"
    return None


def main():
    args = tree.arguments(__doc__)
    failures = tree.Failures()
    seen = 0
    for folder in ("libtelemetry", "collectord", "beylad", "profd", "telemetryctl"):
        for path in tree.files(args.root, ".c", ".h"):
            if path.parts[0] != folder:
                continue
            for number, line in tree.lines(args.root / path):
                found = INCLUDE.match(line)
                if not found:
                    continue
                quoted = found[1] == '"'
                target = found[2]
                if not quoted and target.split("/")[0] not in {"libtelemetry", "collectord", "beylad", "profd", "telemetryctl"}:
                    continue                               # a system header
                seen += 1
                if quoted and not (args.root / target).is_file() and target.split("/")[0] not in GENERATED:
                    failures.add(path, f'"{target}" is not a path from the root of the tree', number)
                    continue
                why = complaint(path, target)
                if why:
                    failures.add(path, f'includes "{target}": {why}', number)
    if seen == 0:
        failures.add(args.root, "no include line was found: is this the tree?")
    failures.end(f"{seen} includes, every arrow points forward")


if __name__ == "__main__":
    main()
