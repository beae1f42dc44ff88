# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all integration tests. README.md says how to run them and what env/ holds."""
import os
import ssl
import subprocess

import pytest

from env.beylad import Beylad, why_not
from env.beylad_servers import Redis, needs, postgres
from env.daemon import Collectord, binary
from env.servers import Nowhere, started as servers_started
from env.sink import Sink


BOTH_TECHNIQUES = ("test_beylad_http", "test_beylad_exact", "test_beylad_protocols", "test_beylad_servers", "test_beylad_frameworks")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the slow tests too")


def pytest_configure(config):
    config.addinivalue_line("markers", "row(id, ...): rows of the requirements that the test shows")
    config.addinivalue_line("markers", "slow: takes long; runs with --full only")
    config.addinivalue_line("markers", "techniques(name, ...): beylad's techniques that a test runs with; without it auto, and syscall too with --full")
    config.rows = {}


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: runs with --full"))


def pytest_generate_tests(metafunc):
    """What holds of sockets seen by their own hooks must hold of sockets seen by system calls."""
    if "technique" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("techniques")
        full = metafunc.config.getoption("--full") and metafunc.module.__name__ in BOTH_TECHNIQUES
        metafunc.parametrize("technique", marker.args if marker else ("auto", "syscall") if full else ("auto",), indirect=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)
    if report.when == "call" or report.skipped or report.failed:
        rows = [row for mark in item.iter_markers("row") for row in mark.args]
        for row in rows:
            results = item.config.rows.setdefault(row, {})
            if results.get(item.nodeid) != "failed":
                results[item.nodeid] = report.outcome


def pytest_terminal_summary(terminalreporter, config):
    """The rows that tests name, and how their tests went."""
    if not config.rows:
        return
    terminalreporter.section("requirements")
    for row in sorted(config.rows):
        outcomes = list(config.rows[row].values())
        counts = ", ".join(f"{outcomes.count(o)} {o}" for o in ("passed", "failed", "skipped") if o in outcomes)
        terminalreporter.write_line(f"{row:<12} {counts}")


@pytest.fixture
def collectord(tmp_path, request):
    """collectord(config) starts a daemon and returns it; all are stopped at the end, and must then exit with 0 and a clean log.
    Further arguments are those of env.daemon.Collectord; start=False leaves starting to the test, ready=False the waiting."""
    started = []
    if not binary().exists():
        pytest.fail(f"{binary()} is not there: build it, or name it in COLLECTORD")

    def make(config=None, start=True, ready=True, **options):
        d = Collectord(tmp_path / f"collectord{len(started) or ''}", config, **options)
        started.append(d)
        return d.start(ready) if start else d
    yield make
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    problems = []
    for d in started:
        try:
            if d.running and not failed and d.control_path.exists():
                d.ledger()
            d.stop()
            d.check_log()
        except (AssertionError, OSError) as e:
            problems.append(str(e))
        finally:
            d.kill()
            if failed and d.log():
                request.node.add_report_section("call", f"log of {d.folder.name}", d.log()[-20000:])
    assert not problems, "\n".join(problems)


@pytest.fixture
def technique(request):
    return request.param


@pytest.fixture
def beylad(tmp_path, request, technique):
    """beylad(ports=[...]) starts a daemon that observes who listens there, and returns it; the arguments are those of env.beylad.Beylad.
    Skips with the reason where the kernel or the user cannot."""
    started = []
    reason = why_not()
    if reason:
        pytest.skip(reason)

    def make(*args, start=True, **options):
        d = Beylad(tmp_path / f"beylad{len(started) or ''}", *args, **{"technique": technique, **options})
        started.append(d)
        return d.start() if start else d
    yield make
    failed = getattr(request.node, "report_call", None) is None or request.node.report_call.failed
    problems = []
    for d in started:
        try:
            d.stop()
            d.check_log()
        except (AssertionError, OSError) as e:
            problems.append(str(e))
        finally:
            d.kill()
            if failed and d.log():
                request.node.add_report_section("call", f"log of {d.folder.name}", d.log()[-20000:])
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def nowhere():
    """A place for spans that nobody reads there: a beylad that has none waits for one when it ends."""
    receiver = Nowhere()
    yield receiver
    receiver.stop()


@pytest.fixture
def observe(beylad, nowhere):
    """observe(ports, config, ...): beylad whose spans only the test reads."""
    return lambda ports=(), config=None, **options: beylad(ports, {**nowhere.config, **(config or {})}, **options)


@pytest.fixture
def server(tmp_path, request):
    """server(command, ...): env.servers.Server."""
    yield from servers_started(tmp_path, request)


@pytest.fixture
def ends():
    """ends(x): x.stop() at the end."""
    things = []

    def keep(x):
        things.append(x)
        return x
    yield keep
    for x in reversed(things):
        x.stop()


@pytest.fixture
def redis(tmp_path, ends):
    needs("redis-server", "redis-cli", "redis-benchmark")
    return ends(Redis(tmp_path)).start()


@pytest.fixture(scope="module")
def cluster():
    with postgres() as p:
        yield p


@pytest.fixture
def sink():
    """sink(name) starts a receiver; at the end none may have seen anything that no correct sender sends."""
    started = []

    def make(name="sink", **options):
        started.append(Sink(name, **options))
        return started[-1]
    yield make
    for s in started:
        s.stop()
    violations = [v for s in started for v in s.violations]
    assert not violations, violations


@pytest.fixture
def hub(sink):
    """A remote receiver."""
    return sink("hub")


@pytest.fixture
def consumer(sink):
    """The local consumer."""
    return sink("consumer")


class Certificates:
    """A CA and certificates it signed, made once: .server_context(name) serves one, .ca is what a sender trusts."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test CA",
                      "-keyout", "ca.key", "-out", "ca.pem")
        self._signed("good", "DNS:localhost,IP:127.0.0.1")
        self._signed("wrong_host", "DNS:other.example")
        self._signed("client", "DNS:client")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                      "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "self_signed.key", "-out", "self_signed.pem")

    def _openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.folder, check=True, capture_output=True)

    def _signed(self, name, names):
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                      "-extfile", f"{name}.ext", "-out", f"{name}.pem")

    def path(self, name):
        return str(self.folder / name)

    def server_context(self, name, client_ca=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if client_ca:
            context.load_verify_locations(self.path("ca.pem"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def root():
    """For tests that act as other users."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it runs a client as another user")
