# SPDX-License-Identifier: Apache-2.0
"""The arrows of docs/architecture.md, read from the #include lines: daemons -> libtelemetry, and none to another daemon. Inside collectord
sources -> pipeline -> spool -> destinations, and only daemon.c knows web/ and control/. Inside beylad events and bytes -> connections and protocols
-> exchanges -> spans and metrics -> output: that half knows no kernel; the probes know nothing of it but the event."""
import re

from lib import tree

COMMON = {"settings", "stats", "clock"}
REPORT = {"report", "report_text"}
STAGES = {"sources", "pipeline", "spool", "destinations"}
# Room -> rooms whose headers it may include, beside its own and libtelemetry. A room is a folder of the daemon, or a file beside main.c.
COLLECTORD = {
    "sources": {"pipeline", "spool", "http"} | COMMON,
    "pipeline": {"spool", "settings", "stats"},            # no clock: time is an argument
    "spool": set(),
    "destinations": {"spool"} | COMMON,
    "http": COMMON,
    "settings": set(),
    "settings_check": {"settings"},
    "stats": {"settings"},
    "clock": set(),
    "daemon": STAGES | COMMON | REPORT | {"web", "control"},
    "report": {"daemon"} | STAGES | COMMON,
    "report_text": {"report"} | COMMON,
    "web": {"daemon", "http", "spool"} | REPORT | COMMON,
    "control": {"daemon", "spool"} | REPORT | COMMON,
    "main": {"daemon"} | COMMON,
}
EXCHANGES = {"exchange", "connection"}                      # an exchange is part of its connection
SPANS = {"attributes", "context"} | EXCHANGES
BEYLAD = {
    # what the kernel side says, and the user side hears
    "event": set(),
    # bytes in, exchanges out
    "protocols": EXCHANGES,
    "exchange": EXCHANGES,
    "connection": {"exchange", "protocols", "process", "event"},
    # exchanges in, telemetry out
    "context": {"event", "sampler"} | EXCHANGES,
    "sampler": {"settings", "event"},
    "route": {"settings"},
    "attributes": {"process"} | EXCHANGES,
    "span": SPANS,
    "red": SPANS - {"context"},
    "printer": {"settings"} | SPANS,
    "tracer": {"settings", "process", "event", "route", "sampler", "span", "red", "printer"} | SPANS,
    "recording": {"event", "process", "tracer"},
    # the kernel, and who is observed
    "probes": {"event", "elf_file", "maps_file"},
    "elf_file": set(),
    "maps_file": set(),
    "selection": {"settings"},
    "discover": {"probes", "event", "process", "selection", "stats"},
    "explain": {"probes", "event", "process", "selection"},
    # who a process is
    "process": {"pairs", "runtime"},
    "runtime": {"process"},
    "pairs": set(),
    # what a person says
    "settings": set(),
    "settings_check": {"settings", "route"},
    "environment": {"settings", "pairs"},
    "arguments": {"settings", "environment"},
    # the way out, and the rest
    "output": {"output_http"},
    "output_http": set(),
    "control": set(),
    "budget": set(),
    "clock": set(),
    "stats": set(),
    "report": {"budget", "discover", "output", "probes", "process", "settings", "stats", "tracer"},
    "main": {"arguments", "daemon"},
}
BEYLAD["daemon"] = set(BEYLAD)
ALLOWED = {"collectord": COLLECTORD, "beylad": BEYLAD}
ONLY_DAEMON = {"collectord": {"web", "control"}, "beylad": {"control"}}
GENERATED = re.compile(r"proto/|beylad/probes/\w+\.skel\.h$")  # by nanopb, by bpftool
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def room_of(path):
    """("collectord", "spool") for collectord/spool/x.h, ("collectord", "daemon") for collectord/daemon.c, ("libtelemetry", "") for its files."""
    parts = str(path).split("/")
    if parts[0] not in ALLOWED:
        return parts[0], ""
    if str(path) == "beylad/probes/event.h":                # the one header of the probes that others know
        return "beylad", "event"
    return parts[0], parts[1] if len(parts) > 2 else parts[1].rsplit(".", 1)[0]


def complaint(source, target):
    """Why source may not include target, or None."""
    part, room = room_of(source)
    to_part, to_room = room_of(target)
    if to_part == "libtelemetry" or (part == "libtelemetry" and GENERATED.match(target)):
        return None
    if part == "libtelemetry":
        return "libtelemetry knows no daemon"
    if to_part != part:
        return f"{part} uses libtelemetry, not {to_part}"
    if part not in ALLOWED or room == to_room:
        return None
    if room not in ALLOWED[part]:
        return f"room '{room}' has no row in tests/checks/include_direction.py"
    # daemon.h is what they see of collectord; they themselves are known to daemon.c alone.
    if to_room in ONLY_DAEMON[part] and str(source) != f"{part}/daemon.c":
        return "only daemon.c knows web/ and control/" if part == "collectord" else "only daemon.c knows control"
    if to_room not in ALLOWED[part][room]:
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
                if quoted and not (args.root / target).is_file() and not GENERATED.match(target):
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
