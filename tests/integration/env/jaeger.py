# SPDX-License-Identifier: Apache-2.0
"""Jaeger, a trace store: built from its Go module, run with its memory as the store, asked by its own query API."""
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from env.daemon import ROOT
from env.servers import Server
from env.wait import free_port

JAEGER = ("github.com/jaegertracing/jaeger@v1.76.0", "h1:sWCOOF1dr+NL0PLil7mFo3BqqQL8k4WiM7aguFbc14g=")
# What Jaeger's go.mod asks for. A Go since 1.21 would fetch it itself, unless GOTOOLCHAIN says no; Debian 12's does not know how to.
GO = ("golang.org/toolchain@v0.0.1-go1.25.4.linux-amd64", "h1:5e4fxJf48MqaBmsurT33X8lENq6kLpby4xLNGF0tmEw=")
GO_NEEDED = (1, 25, 4)
GO_ENV = {k: v for k, v in os.environ.items() if k != "GOROOT"}        # each Go finds its own


def module(go, name, expected):
    """The folder of a module in Go's cache, fetched when it is not there."""
    done = subprocess.run([go, "mod", "download", "-json", name], cwd="/", env=GO_ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{name}: {(done.stdout + done.stderr)[-2000:]}"
    found = json.loads(done.stdout)
    assert found["Sum"] == expected, f"{name} is {found['Sum']}"
    return Path(found["Dir"])


def go_program():
    """A Go that can build Jaeger: the one that is installed, or else one that it can fetch."""
    go = shutil.which("go")
    if not go:
        pytest.skip("go is not installed")
    version = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", subprocess.run([go, "version"], env=GO_ENV, capture_output=True, text=True, check=True).stdout)
    if tuple(int(n or 0) for n in version.groups()) >= GO_NEEDED:
        return go
    folder = module(go, *GO)
    for program in [*folder.glob("bin/*"), *folder.glob("pkg/tool/*/*")]:
        program.chmod(0o755)                       # a module has no executable files; newer Go does the same
    return str(folder / "bin/go")


def built_jaeger():
    """The path of Jaeger's all-in-one, built in a folder that outlives the run; its web page is the placeholder of the module."""
    folder = Path(os.environ.get("SUITE_CACHE", ROOT / "build/cache")).absolute() / "jaeger"
    program, mark = folder / "all-in-one", folder / ".built"
    if not program.exists() or not mark.exists() or mark.read_text() != JAEGER[1]:
        go = go_program()
        env = {**GO_ENV, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([go, "build", "-trimpath", "-o", program, "./cmd/all-in-one"], cwd=module(go, *JAEGER), env=env, capture_output=True,
                              text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
        mark.write_text(JAEGER[1])
    return program


class Jaeger(Server):
    """.otlp: the URL to send to; traces(service): what its query API answers."""

    def __init__(self, folder):
        ports = {name: free_port() for name in ("collector.otlp.http", "collector.otlp.grpc", "collector.http-server", "collector.grpc-server",
                                                "query.grpc-server", "admin.http")}
        query = free_port()
        super().__init__(folder, [built_jaeger(), *(f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()),
                                  f"--query.http-server.host-port=127.0.0.1:{query}"], query)
        self.otlp = f"http://127.0.0.1:{ports['collector.otlp.http']}"

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def services(self):
        return set(self.get("/api/services") or [])

    def traces(self, service, limit=1000):
        return self.get("/api/traces", service=service, lookback="1h", limit=limit)
