# SPDX-License-Identifier: Apache-2.0
"""The checks of tests/checks find what they are there to find: each is run on a small tree that is right, and on the same tree with one thing wrong."""
import subprocess
import sys

import pytest

from env.daemon import ROOT

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
RIGHT = {
    "collectord/main.c": SPDX + '#include "collectord/daemon.h"\n',
    "collectord/daemon.h": SPDX + '#include "collectord/spool/spool.h"\n',
    "collectord/daemon.c": SPDX + '#include "collectord/web/web.h"\n#include "libtelemetry/base.h"\nvoid f(void) {\n        tel_log(TEL_LOG_INFO, "listening");\n}\n',
    "collectord/web/web.h": SPDX + '#include "collectord/daemon.h"\n',
    "collectord/sources/line.c": SPDX + '#include "collectord/spool/spool.h"\n',
    "collectord/sources/line.h": SPDX,
    "collectord/spool/spool.h": SPDX + '#include "libtelemetry/base.h"\n',
    "libtelemetry/base.h": SPDX,
    "beylad/main.c": SPDX + '#include "beylad/daemon.h"\n',
    "beylad/daemon.h": SPDX + '#include "beylad/arguments.h"\n',
    "beylad/arguments.h": SPDX,
    "beylad/connection.h": SPDX + '#include "beylad/probes/event.h"\n#include "beylad/protocols/protocol.h"\n',
    "beylad/protocols/protocol.h": SPDX + '#include "beylad/exchange.h"\n',
    "beylad/exchange.h": SPDX,
    "beylad/control.h": SPDX,
    "beylad/probes/event.h": SPDX,
    "beylad/probes/sockets.bpf.c": "/* SPDX-License-Identifier: Dual BSD/GPL */\n",
    "beylad/probes/probes.h": SPDX + '#include "beylad/probes/event.h"\n#include "beylad/probes/sockets.skel.h"\n',
    "README.md": "# Read\n\n```sh\nscripts/run\nscripts/test\n```\n\n[docs](docs/messages.md#life)\n",
    "docs/messages.md": "# Messages\n\n## Life\n\n| message | level |\n|---|---|\n| `listening` | info |\n",
    "docs/dependencies.md": "| Debian 12 package | why |\n|---|---|\n| `gcc` `cmake` | the compiler | |\n",
    "scripts/packages": "# the list\nbuild gcc\nbuild cmake\n",
    "scripts/test": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n",
    "tests/integration/test_run.py": "# SPDX-License-Identifier: Apache-2.0\n",
}
LONG = SPDX + "static int f(int a,\n             int b) {\n" + "        a++;\n" * 90 + "}\n"

# check, file, what replaces its text (None: the file goes), what must be said
WRONG = [
    ("include_direction", "libtelemetry/base.h", SPDX + '#include "collectord/daemon.h"\n', "libtelemetry/base.h:2"),
    ("include_direction", "collectord/spool/spool.h", SPDX + '\n#include "collectord/sources/line.h"\n', "collectord/spool/spool.h:3"),
    ("include_direction", "collectord/spool/spool.h", SPDX + '#include "collectord/web/web.h"\n', "collectord/spool/spool.h:2"),
    ("include_direction", "collectord/sources/line.c", SPDX + '#include "collectord/daemon.h"\n', "collectord/sources/line.c:2"),
    ("include_direction", "collectord/main.c", SPDX + '#include "collectord/web/web.h"\n', "only daemon.c knows"),
    ("include_direction", "collectord/web/web.h", SPDX + '#include "web.h"\n', "not a path from the root"),
    ("include_direction", "collectord/cache/cache.h", SPDX + '#include "collectord/spool/spool.h"\n', "has no row"),
    ("include_direction", "beylad/protocols/http.c", SPDX + '#include "beylad/probes/event.h"\n', "protocols -> event is not an arrow"),
    ("include_direction", "beylad/connection.h", SPDX + '\n#include "beylad/probes/probes.h"\n', "beylad/connection.h:3"),
    ("include_direction", "beylad/probes/probes.h", SPDX + '#include "beylad/connection.h"\n', "beylad/probes/probes.h:2"),
    ("include_direction", "beylad/arguments.h", SPDX + '#include "beylad/daemon.h"\n', "beylad/arguments.h:2"),
    ("include_direction", "beylad/main.c", SPDX + '#include "beylad/control.h"\n', "only daemon.c knows control"),
    ("include_direction", "beylad/exchange.h", SPDX + '#include "collectord/spool/spool.h"\n', "beylad uses libtelemetry, not collectord"),
    ("include_direction", "collectord/spool/spool.h", SPDX + '#include "beylad/exchange.h"\n', "collectord uses libtelemetry, not beylad"),
    ("include_direction", "beylad/probes/probes.h", SPDX + '#include "beylad/probes/none.h"\n', "not a path from the root"),
    ("include_direction", "beylad/cache.h", SPDX + '#include "beylad/exchange.h"\n', "has no row"),
    ("longest_functions", "collectord/main.c", LONG, "collectord/main.c:2: f has 93 lines"),
    ("source_files", "collectord/main.c", "int x;\n", "collectord/main.c: no 'SPDX"),
    ("source_files", "scripts/test", "#!/bin/sh\n", "scripts/test: no 'SPDX"),
    ("source_files", "beylad/probes/sockets.bpf.c", SPDX, "beylad/probes/sockets.bpf.c: no 'SPDX-License-Identifier: Dual BSD/GPL'"),
    ("source_files", "collectord/main.c", SPDX + "/* " + "TO" + "DO: later */\n", "collectord/main.c:2"),
    ("source_files", "README.md", "see /ro" + "ot/spoke\n", "README.md:1: a path of one machine"),
    ("messages", "collectord/daemon.c", SPDX + 'tel_log(TEL_LOG_INFO, "listening");\ntel_log_repeated(&r, now, TEL_LOG_WARN, "new one", { "a", b });\n', "collectord/daemon.c:3"),
    ("messages", "collectord/daemon.c", SPDX + 'tel_log(TEL_LOG_WARN, "listening");\n', "docs/messages.md:7"),
    ("messages", "collectord/daemon.c", SPDX + 'tel_log(level, text);\n', "collectord/daemon.c:2"),
    ("messages", "docs/messages.md", RIGHT["docs/messages.md"] + "| `old one` | warn |\n", "docs/messages.md:8: nothing logs 'old one'"),
    ("packages", "scripts/packages", "build gcc\nbuild cmake\ntest jq\n", "scripts/packages:3"),
    ("packages", "scripts/packages", "build gcc\n", "docs/dependencies.md:3: cmake"),
    ("docs_commands", "docs/more.md", "text\n\n    $ socat - UNIX-CONNECT:x\n", "docs/more.md:3"),
    ("docs_commands", "docs/more.md", "```\nx\n```\n", "docs/more.md:1: a block without a language"),
    ("docs_commands", "docs/more.md", "```text\n$ ls\n```\n", "docs/more.md:2: a command in a block of 'text'"),
    ("docs_commands", "docs/more.md", "```text\necho | socat - UNIX-CONNECT:x\n```\n", "docs/more.md:2"),
    ("docs_commands", "docs/more.md", "[x](none.md)\n", "docs/more.md:1: a link to none.md"),
    ("docs_commands", "docs/more.md", "[x](messages.md#death)\n", "docs/more.md:1: a link to messages.md#death"),
    ("docs_commands", "docs/more.md", "```console\nls\n```\n", "docs/more.md"),
    ("docs_commands", "README.md", "# Read\n", "no page shows it"),
]


def run(check, root):
    done = subprocess.run([sys.executable, str(ROOT / f"tests/checks/{check}.py"), "--root", str(root)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path):
    for name, text in RIGHT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("check", sorted({row[0] for row in WRONG}))
def test_a_right_tree_passes(check, tree):
    status, said = run(check, tree)
    assert status == 0, said


@pytest.mark.parametrize("check, name, text, expected", WRONG, ids=lambda x: x if isinstance(x, str) and len(x) < 30 and "\n" not in x else "-")
def test_one_thing_wrong_is_found(check, name, text, expected, tree):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    status, said = run(check, tree)
    assert status == 1 and expected in said, said


def test_generated_pages_are_compared(tree):
    """A binary that prints something else than what is kept; one that is not there."""
    binaries = {name: tree / "build/bin" / name for name in ("collectord", "beylad")}
    for binary in binaries.values():
        binary.parent.mkdir(parents=True, exist_ok=True)
        binary.write_text("#!/bin/sh\necho '{}'\n")
        binary.chmod(0o755)
    for name in ("config", "config-beylad"):
        (tree / "docs" / f"{name}.md").write_text("{}\n")
        (tree / "docs" / f"{name}.schema.json").write_text("{}\n")
    assert run("config_docs", tree)[0] == 0
    (tree / "docs/config-beylad.md").write_text("old\n")
    status, said = run("config_docs", tree)
    assert status == 1 and "build/bin/beylad --print-docs > docs/config-beylad.md" in said and "docs/config.md" not in said
    (tree / "docs/config-beylad.md").write_text("{}\n")
    (tree / "docs/config.md").write_text("old\n")
    status, said = run("config_docs", tree)
    assert status == 1 and "build/bin/collectord --print-docs > docs/config.md" in said
    (tree / "docs/config.md").write_text("{}\n")
    binaries["beylad"].unlink()
    assert run("config_docs", tree)[0] == 1


def test_every_check_is_tested():
    assert {p.stem for p in (ROOT / "tests/checks").glob("*.py")} == {row[0] for row in WRONG} | {"config_docs"}
