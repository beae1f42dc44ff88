# SPDX-License-Identifier: Apache-2.0
"""The frame socket, spoken to by an independent implementation of docs/protocol.md, and its lines."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from env import frames, otlp
from env.daemon import binary, sanitized
from env.destinations import document, local, remote
from env.frames import ACK, BYE, ERROR, HELLO, LOGS, METRICS, PROFILE, STATUS, TRACES, Connection, Producer, frame, hello_body, status_body
from env.sink import hold, ok
from env.wait import until


@pytest.fixture
def d(collectord, consumer):
    daemon = collectord(document(local=local(consumer)))
    daemon.consumer = consumer
    return daemon


def logs(*bodies, **options):
    return otlp.logs(list(bodies), **options).SerializeToString()


def errors(d, reason):
    return d.metrics().sum("collectord_frames_errors_total", reason=reason)


# ---- the socket ----

@pytest.mark.row("IPC-01")
def test_the_socket_is_in_the_runtime_directory_with_mode_0660(d):
    mode = os.stat(d.frames_path).st_mode
    assert mode & 0o170777 == 0o140660


@pytest.mark.row("IPC-01")
def test_a_stale_socket_is_replaced_and_a_living_one_is_not(collectord, consumer):
    d = collectord(document(local=local(consumer)))
    d.kill()
    assert d.frames_path.exists()
    d.start()
    d.lines({"log": "after a crash"})
    consumer.wait_names(["after a crash"])
    other = collectord({"destinations": {}, "listen": {"frames": str(d.frames_path), "control": "other.sock"}}, start=False)
    other.start(ready=False)
    assert other.ended() == 1
    assert str(d.frames_path) in other.log() and "listens there already" in other.log()
    assert d.lines({"log": "still here"})[0]["ok"]


# ---- frames ----

@pytest.mark.row("IPC-02", "IPC-03")
def test_each_kind_that_a_producer_may_send_is_taken(d):
    with Connection(d.frames_path) as c:
        c.hello(name="beylad", version="1.0", host="h", pid=1)
        c.send(frame(TRACES, 1, otlp.traces(["t"]).SerializeToString()))
        c.send(frame(METRICS, 2, otlp.metrics(["m"]).SerializeToString()))
        c.send(frame(STATUS, 0, status_body(text="all is well", dropped_frames=3)))
        c.send(frame(LOGS, 3, logs("l")))
        c.acknowledged(3)
        until("its status", lambda: [p for p in d.control_json("sources") if p.get("status") == "all is well"])
        producer = [p for p in d.control_json("sources") if p["type"] == "producer"][0]
        assert (producer["name"], producer["version"], producer["host"], producer["pid"], producer["dropped_frames"]) == ("beylad", "1.0", "h", os.getpid(), 3)
        assert producer["items"] == 3
        c.send(frame(BYE))
        assert c.read() is None
    for signal, name in (("traces", "t"), ("metrics", "m"), ("logs", "l")):
        d.consumer.wait_names([name], signal)
        top = next(otlp.walk(d.consumer.accepted(signal)[0].message))[0]
        assert otlp.resource_attributes(top)["host.name"], "frames get their identity too"
    assert d.metrics().sum("collectord_producers_dropped_frames_total") == 3


@pytest.mark.row("IPC-02")
def test_the_recorded_bytes_of_the_documentation_are_understood(d):
    hello = bytes.fromhex("544c4d46 01 01 0000 0000002a 3de9688d 0000000000000000 0a066261636b7570 1203312e32 1a06686f73742d61 209221"
                          "2a10000102030405060708090a0b0c0d0e0f")
    with Connection(d.frames_path) as c:
        c.send(hello)
        for n in range(1, 5):
            c.send(frame(LOGS, n, logs(f"n{n}")))
        last = None
        while last is None or last.sequence < 4:
            last = c.read()
        assert (last.kind, last.body) == (ACK, b"")
        until("its name", lambda: [p for p in d.control_json("sources") if p.get("name") == "backup" and p["host"] == "host-a" and p["version"] == "1.2"])
    d.consumer.wait_names(["n1", "n2", "n3", "n4"])


@pytest.mark.row("IPC-05")
def test_frames_a_byte_at_a_time(d):
    wire = frame(HELLO, 0, hello_body()) + frame(LOGS, 1, logs("one")) + frame(LOGS, 2, logs("two"))
    with Connection(d.frames_path) as c:
        for i in range(len(wire)):
            c.send(wire[i:i + 1])
        c.acknowledged(2)
    d.consumer.wait_names(["one", "two"])


@pytest.mark.row("IPC-05")
@pytest.mark.parametrize("piece", [23, 24, 25, 4096, 65536, 1 << 30])
def test_many_frames_in_pieces_of_any_size(d, piece):
    wire = frame(HELLO, 0, hello_body()) + b"".join(frame(LOGS, n, logs(f"n{n}", pad=n * 7 % 3000)) for n in range(1, 301))
    with Connection(d.frames_path) as c:
        for i in range(0, len(wire), piece):
            c.send(wire[i:i + piece])
        c.acknowledged(300)
    d.consumer.wait(lambda s: s.names() == [f"n{n}" for n in range(1, 301)])


@pytest.mark.row("IPC-02", "IPC-04")
def test_a_length_of_exactly_the_bound_is_waited_for(d):
    """The head is not refused, as that of a byte more is (WRONG["length"]); the frame then ends too early."""
    with Connection(d.frames_path) as c:
        c.hello()
        c.send(frame(LOGS, 1, logs("first")))
        c.acknowledged(1)
        c.send(frame(LOGS, 2, b"", length=16 << 20, crc=1) + bytes(1000))
    d.consumer.wait_names(["first"])
    until("the short frame to be counted", lambda: errors(d, "short frame") == 1)
    assert errors(d, "too long") == 0


@pytest.mark.row("IPC-06")
def test_duplicates_after_a_reconnect_are_dropped_and_acknowledged(d):
    epoch = os.urandom(16)
    with Connection(d.frames_path) as c:
        c.hello(epoch=epoch)
        for n in (1, 2, 5):                        # gaps are frames it gave up
            c.send(frame(LOGS, n, logs(f"n{n}")))
        c.acknowledged(5)
    with Connection(d.frames_path) as c:
        c.hello(epoch=epoch)
        for n in (2, 5, 6):
            c.send(frame(LOGS, n, logs(f"n{n}")))
        c.acknowledged(6)
    d.consumer.wait_names(["n6"])
    assert d.consumer.names() == ["n1", "n2", "n5", "n6"]
    assert d.metrics().sum("collectord_frames_duplicates_total") == 2


@pytest.mark.row("IPC-06")
def test_a_new_epoch_is_a_new_producer(d):
    for i in range(3):
        with Connection(d.frames_path) as c:
            c.hello(name="same")
            c.send(frame(LOGS, 1, logs(f"life {i}")))
            c.acknowledged(1)
    d.consumer.wait_names([f"life {i}" for i in range(3)])


@pytest.mark.row("IPC-06")
def test_what_is_on_its_way_when_a_producer_leaves_still_counts(d):
    with Connection(d.frames_path) as c:
        c.hello()
        c.send(b"".join(frame(LOGS, n, logs(f"n{n}")) for n in range(1, 101)))
        c.sock.shutdown(socket.SHUT_RDWR)
    d.consumer.wait(lambda s: s.names() == [f"n{n}" for n in range(1, 101)])


GOOD = logs("x")
WRONG = {
    "magic": (lambda: frame(LOGS, 2, GOOD, magic=b"XLMF"), 1, "bad magic", None),
    "magic within": (lambda: frame(LOGS, 2, GOOD, magic=b"TLMX"), 1, "bad magic", None),
    "version": (lambda: frame(LOGS, 2, GOOD, version=2), 2, "unknown version", None),
    "kind 0": (lambda: frame(0, 2, GOOD), 3, "unexpected kind", None),
    "kind 10": (lambda: frame(10, 2, GOOD), 3, "unexpected kind", None),
    "ack": (lambda: frame(ACK, 2), 3, "unexpected kind", None),
    "error": (lambda: frame(ERROR, 0, status_body(1)), 3, "unexpected kind", None),
    "flags": (lambda: frame(LOGS, 2, GOOD, flags=1), 4, "unknown flags", None),
    "length": (lambda: frame(LOGS, 2, b"", length=(16 << 20) + 1), 5, "too long", None),
    "length of a status": (lambda: frame(STATUS, 0, bytes(1025)), 5, "too long", None),
    "body of a bye": (lambda: frame(BYE, 0, b"x"), 5, "too long", None),
    "checksum": (lambda: frame(LOGS, 2, GOOD, crc=frames.crc32c(GOOD) ^ 1), 6, "checksum mismatch", 2),
    "sequence again": (lambda: frame(LOGS, 1, GOOD), 7, "sequence out of order", 1),
    "sequence 0": (lambda: frame(LOGS, 0, GOOD), 7, "sequence out of order", None),
    "second hello": (lambda: frame(HELLO, 0, hello_body()), 8, "bad hello", None),
    "malformed body": (lambda: frame(TRACES, 2, b"\xff\xff"), 9, "malformed body", 2),
    "malformed status": (lambda: frame(STATUS, 0, b"\x2a\xff"), 9, "malformed body", None),
}


@pytest.mark.row("IPC-04")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_answered_by_its_number_counted_and_ends_its_connection_alone(d, name):
    make, code, reason, sequence = WRONG[name]
    with Connection(d.frames_path) as other, Connection(d.frames_path) as c:
        other.hello()
        c.hello()
        c.send(frame(LOGS, 1, logs("before")))
        c.acknowledged(1)
        c.send(make())
        got = c.error()
        assert got[0] == code and got[2].startswith(reason), got
        if sequence is not None:
            assert got[1] == sequence
        assert errors(d, reason) == 1
        other.send(frame(LOGS, 1, logs("other")))
        other.acknowledged(1)
    d.consumer.wait_names(["before", "other"])
    assert "x" not in d.consumer.names()
    assert d.log_lines("frame connection refused", error=str(code))


@pytest.mark.row("IPC-04")
@pytest.mark.parametrize("hello", [frame(LOGS, 1, GOOD), frame(HELLO, 0, b""), frame(HELLO, 0, hello_body(name="")), frame(HELLO, 0, hello_body(epoch=bytes(15))),
                                   frame(HELLO, 0, hello_body(epoch=bytes(17))), frame(HELLO, 0, hello_body(name="n" * 64)), frame(HELLO, 0, b"\xff" * 10),
                                   frame(STATUS, 0, status_body(1)), frame(BYE)],
                         ids=["none", "empty", "no name", "short epoch", "long epoch", "long name", "malformed", "status first", "bye first"])
def test_without_a_good_hello_nothing_is_taken(d, hello):
    with Connection(d.frames_path) as c:
        c.send(hello)
        assert c.error()[0] == 8
    assert errors(d, "bad hello") == 1 and not d.consumer.received()


@pytest.mark.row("IPC-04")
@pytest.mark.parametrize("n", [1, 5, 23, 24, 30])
def test_a_frame_that_ends_too_early_is_counted(d, n):
    with Connection(d.frames_path) as c:
        c.hello()
        c.send(frame(LOGS, 1, GOOD)[:n])
    until("it to be counted", lambda: errors(d, "short frame") == 1)
    assert not d.consumer.received()


@pytest.mark.row("IPC-04")
def test_a_head_is_refused_before_its_body_is_waited_for(d):
    with Connection(d.frames_path) as c:
        c.hello()
        c.send(b"TLMF\x09")
        assert c.error()[0] == 2


@pytest.mark.row("IPC-04")
def test_unknown_fields_of_small_messages_are_skipped(d):
    with Connection(d.frames_path) as c:
        c.send(frame(HELLO, 0, otlp.field(99, b"later") + hello_body() + otlp.varint(50 << 3) + b"\x05"))
        c.send(frame(LOGS, 1, logs("later")))
        c.acknowledged(1)
    d.consumer.wait_names(["later"])


@pytest.mark.row("IPC-03")
def test_a_profile_is_taken_or_refused_by_number_but_never_lost_in_silence(d):
    with Connection(d.frames_path) as c:
        c.hello(name="profd")
        c.send(frame(PROFILE, 1, otlp.field(1, b"app") + otlp.field(5, b"pprof") + otlp.field(6, b"data")))
        got = c.read()
        assert got.kind == ACK or (got.kind == ERROR and got.error()[0] == 3 and got.error()[1] == 1), got


@pytest.mark.row("IPC-04")
def test_connections_beyond_the_limit_are_told_so(collectord, consumer):
    d = collectord({**document(local=local(consumer)), "listen": {"frames_connections": 3}})
    kept = [Connection(d.frames_path) for _ in range(3)]
    for c in kept:
        c.hello()
        c.send(frame(LOGS, 1, logs("kept")))
        c.acknowledged(1)
    with Connection(d.frames_path) as c:
        assert c.error()[0] == 11
    kept.pop().close()

    def free():
        with Connection(d.frames_path) as c:
            c.hello()
            c.send(frame(LOGS, 1, logs("again")))
            return c.read().kind == ACK
    until("room again", free)
    for c in kept:
        c.close()
    consumer.wait_names(["again"])


@pytest.mark.row("IPC-06", "COL-BUF-01")
def test_a_full_buffer_makes_producers_wait_and_loses_nothing(collectord, hub):
    d = collectord({**document(hub=remote(hub, in_flight=1, batch={"timeout": "0s"})), "buffer": {"memory": "1MB", "history": "0"}})
    hub.behave(hold())
    producer = Producer(d.frames_path)
    producer.connect()
    producer.connection.sock.settimeout(0.5)
    sent = 0
    try:
        for sent in range(400):
            producer.send(LOGS, logs(f"n{sent}", pad=10_000))
            producer.take()
    except TimeoutError:                           # it stopped reading: the last frame is half written, as a producer's backlog may be
        pass
    assert 50 < sent < 399
    until("a pause", lambda: d.metrics().sum("collectord_frames_paused_total") > 0)
    hub.behave(ok())
    producer.connection.close()
    producer.connect()
    while producer.waiting:
        assert producer.take(timeout=5)
    hub.wait_names([f"n{i}" for i in range(sent)])
    assert sorted(hub.names(), key=lambda n: int(n[1:])) == [f"n{i}" for i in range(sent + 1)], "each once"
    assert d.ledger()["hub", "logs"]["dropped"] == 0


@pytest.mark.row("IPC-06")
def test_every_frame_that_was_not_acknowledged_arrives_after_kill_9(collectord, hub):
    """Several lives of collectord, killed while the producer sends; what was acknowledged before a kill may be gone, nothing else."""
    d = collectord(document(hub=remote(hub, batch={"timeout": "0s"})))
    producer, acknowledged, n = Producer(d.frames_path), set(), 0
    producer.connect()
    for life in range(5):
        target = n + 150 + 40 * life
        while n < target:
            producer.send(LOGS, logs(f"n{n}", pad=500))
            n += 1
            if n % 7 == 0:
                producer.take()
        acknowledged = {s for s in range(1, producer.next)} - set(producer.waiting)
        d.kill()
        try:
            while producer.connection and producer.take(timeout=1):
                pass
        except OSError:
            pass
        producer.connection = None
        unacknowledged = set(producer.waiting)
        assert unacknowledged <= set(range(1, producer.next))
        d.start()
        producer.connect()
        while producer.waiting:
            assert producer.take(timeout=5)
        hub.wait_names([f"n{s - 1}" for s in unacknowledged], timeout=15)
    assert producer.sent_twice > 0 or acknowledged
    producer.send(LOGS, logs("the last"))
    hub.wait_names(["the last"])


@pytest.mark.row("IPC-06", "COL-BUF-09")
def test_after_a_stop_all_acknowledged_frames_have_arrived_and_the_rest_is_sent_again(collectord, hub):
    d = collectord(document(hub=remote(hub, batch={"timeout": "1h"})))
    producer = Producer(d.frames_path)
    producer.connect()
    stopped = False
    for n in range(3000):
        try:
            producer.send(LOGS, logs(f"n{n}", pad=200))
        except OSError:
            producer.connection = None
        if n == 1500:
            d.process.terminate()
            stopped = True
        if producer.connection and n % 5 == 0:
            try:
                producer.take()
            except OSError:
                producer.connection = None
    assert stopped and d.ended() == 0
    try:
        while producer.connection and producer.take(timeout=1):
            pass
    except OSError:
        pass
    acknowledged = set(range(1, producer.next)) - set(producer.waiting)
    missing = acknowledged - {int(x[1:]) + 1 for x in hub.names()}
    assert not missing, f"{len(missing)} acknowledged frames were lost by an orderly stop"
    d.start()
    producer.connect()
    while producer.waiting:
        assert producer.take(timeout=5)
    d.stop()
    assert {int(x[1:]) for x in hub.names()} == set(range(3000))


@pytest.mark.row("IPC-06", "IPC-07", "GEN-01")
def test_the_library_loses_nothing_over_a_kill(collectord, hub):
    """libtelemetry through ctypes: a C client as programs link it."""
    library = binary().parent.parent / "lib/libtelemetry.so"
    if not library.exists():
        pytest.skip("libtelemetry.so is not beside the binaries")
    if sanitized():
        pytest.skip("a sanitized library cannot be loaded into Python")
    d = collectord(document(hub=remote(hub, batch={"timeout": "0s"})))
    program = textwrap.dedent('''
        import ctypes, sys
        sys.path.insert(0, sys.argv[3])
        from env import otlp
        lib = ctypes.CDLL(sys.argv[1])
        class Options(ctypes.Structure):
            _fields_ = [("path", ctypes.c_char_p), ("name", ctypes.c_char_p), ("version", ctypes.c_char_p), ("backlog", ctypes.c_size_t)]
        lib.tel_client_new.restype = ctypes.c_void_p
        lib.tel_client_new.argtypes = [ctypes.POINTER(Options)]
        lib.tel_client_send.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
        lib.tel_client_flush.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        c = lib.tel_client_new(Options(sys.argv[2].encode(), b"ctypes", b"1", 0))
        n = 0
        for line in sys.stdin:                      # "N": send so many; "flush": until all is acknowledged
            if line.strip() == "flush":
                print("flushed", lib.tel_client_flush(c, 15000), flush=True)
                continue
            for _ in range(int(line)):
                body = otlp.logs([f"n{n}"]).SerializeToString()
                assert lib.tel_client_send(c, 4, body, len(body)) == 0
                n += 1
                if n % 10 == 0:
                    lib.tel_client_flush(c, 0)
            print("sent", n, flush=True)
    ''')
    with subprocess.Popen([sys.executable, "-c", program, library, d.frames_path, Path(__file__).parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as client:
        def say(line):
            client.stdin.write(f"{line}\n")
            client.stdin.flush()
            return client.stdout.readline().strip()
        assert say(500) == "sent 500" and say("flush") == "flushed 0"
        hub.wait(lambda s: len(set(s.names())) == 500)
        d.kill()
        assert say(700) == "sent 1200"
        d.start()
        assert say("flush") == "flushed 0"
        client.stdin.close()
    hub.wait(lambda s: set(s.names()) == {f"n{i}" for i in range(1200)})


@pytest.mark.row("GEN-01", "IPC-03")
def test_the_example_of_the_library_arrives(d):
    if sanitized():
        pytest.skip("the example is built as users build theirs, and cannot load a sanitized library")
    ran = subprocess.run([binary("example_send")], env={**os.environ, "RUNTIME_DIRECTORY": str(d.runtime)}, capture_output=True, text=True, timeout=20)
    assert (ran.returncode, ran.stderr) == (0, "done: 2 of 2 frames acknowledged \n") or ran.stderr.startswith("done: 2 of 2"), ran
    d.consumer.wait_names(["copy"], "traces")
    d.consumer.wait_names(["disk full"], "logs")
    top, _, record = next(otlp.walk(d.consumer.accepted("logs")[0].message))
    assert otlp.resource_attributes(top)["service.name"] == "backup" and record.severity_number == 17
    assert {kv.key: kv.value.string_value for kv in record.attributes} == {"disk": "/dev/sda1", "job": "nightly"}


# ---- who may write ----

# It may be turned away before all is written: what was answered is read all the same.
CLIENT = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect(sys.argv[1])
try:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
except OSError:
    pass
try:
    while d := s.recv(65536):
        sys.stdout.buffer.write(d)
except ConnectionError:
    pass
"""


def as_user(user, path, data):
    """What a client that runs as user gets back."""
    ran = subprocess.run(["/usr/bin/env", "python3", "-c", CLIENT, str(path)], input=data, capture_output=True, user=user, group="nogroup", extra_groups=[], timeout=20,
                         cwd="/", env={"PATH": "/usr/bin:/bin"})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def open_folder():
    """A folder that other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="frames-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.row("IPC-09")
def test_another_user_is_refused_even_where_the_file_would_let_him_in(root, collectord, consumer, open_folder):
    path = open_folder / "frames.sock"
    d = collectord({**document(local=local(consumer)), "listen": {"frames": str(path)}})
    path.chmod(0o666)
    head = as_user("nobody", path, frame(HELLO, 0, hello_body()) + frame(LOGS, 1, GOOD))
    assert head[:6] == b"TLMF\x01\x08" and frames.Frame(ERROR, 0, head[24:]).error()[0] == 10
    assert as_user("nobody", path, b'{"log":"intruder"}\n')[:6] == b"TLMF\x01\x08"
    assert d.metrics().sum("collectord_frames_refused_peers_total") == 2
    nobody = int(subprocess.run(["id", "-u", "nobody"], capture_output=True, text=True, check=True).stdout)
    assert d.log_lines("peer refused", uid=str(nobody))
    assert not consumer.received()


@pytest.mark.row("IPC-09")
def test_users_of_the_configuration_may_write(root, collectord, consumer, open_folder):
    path = open_folder / "frames.sock"
    d = collectord({**document(local=local(consumer)), "listen": {"frames": str(path), "frames_users": ["nobody"]}})
    path.chmod(0o666)
    assert json.loads(as_user("nobody", path, b'{"log":"welcome"}\n'))["ok"]
    consumer.wait_names(["welcome"])
    assert d.running


@pytest.mark.row("IPC-09")
def test_members_of_the_sockets_group_may_write(root, collectord, consumer, open_folder):
    import grp
    path = open_folder / "frames.sock"
    group = grp.getgrnam("nogroup").gr_gid
    os.chown(open_folder, 0, group)
    open_folder.chmod(0o2755)                      # what is made here belongs to the group
    collectord({**document(local=local(consumer)), "listen": {"frames": str(path)}})
    assert os.stat(path).st_gid == group
    assert json.loads(as_user("nobody", path, b'{"log":"one of us"}\n'))["ok"]
    consumer.wait_names(["one of us"])


@pytest.mark.row("IPC-09")
def test_who_connects_is_logged(collectord, consumer):
    d = collectord(document(local=local(consumer)), args=["--log-level", "debug"])
    d.lines({"log": "x"})
    assert d.wait_log("peer connected", pid=str(os.getpid()))["uid"] == str(os.geteuid())


# ---- lines ----

def record(d):
    top, _, item = next(otlp.walk(d.consumer.accepted("logs")[-1].message))
    return otlp.resource_attributes(top), item


@pytest.mark.row("IPC-08")
def test_the_short_form_is_a_log_record(d):
    assert d.lines({"log": "disk full", "level": "error", "service": "backup", "disk": "/dev/sda", "tries": 3, "final": True, "none": None}) == [{"ok": True, "items": 1}]
    d.consumer.wait_names(["disk full"])
    resource, item = record(d)
    assert resource["service.name"] == "backup" and resource["host.name"] and resource["service.instance.id"]
    assert item.severity_number == 17 and item.severity_text.lower() == "error" and item.time_unix_nano > 1_700_000_000 * 10 ** 9
    assert {kv.key: kv.value.string_value for kv in item.attributes} == {"disk": "/dev/sda", "tries": "3", "final": "true"}


@pytest.mark.row("IPC-08")
@pytest.mark.parametrize("level,number", [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("warning", 13), ("error", 17), ("err", 17), ("fatal", 21), ("WARN", 13), (None, 9)])
def test_levels_become_severities(d, level, number):
    assert d.lines({"log": "x", "level": level} if level else {"log": "x"})[0]["ok"]
    d.consumer.wait_names(["x"])
    assert record(d)[1].severity_number == number


@pytest.mark.row("IPC-08")
def test_each_line_is_answered_in_its_turn_and_an_error_ends_nothing(d):
    answers = d.lines({"log": "one"}, "{", "", "not json", {"level": "error"}, {"log": "x", "level": "loud"}, {"log": {"nested": 1}}, "{\"log\":\"two\"}\r",
                      {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "s1"}, {"name": "s2"}]}]}]}, {"resourceSpans": 5}, {"log": "last"})
    assert [a["ok"] for a in answers] == [True, False, False, False, False, False, True, True, False, True]
    assert [a.get("items") for a in answers if a["ok"]] == [1, 1, 2, 1]
    for a in answers:
        assert a["ok"] or (isinstance(a["error"], str) and a["error"]), a
    assert "level" in answers[4]["error"] and "log" in answers[3]["error"]
    assert re.search(r"column \d+", answers[8]["error"]), answers[8]
    d.consumer.wait_names(["one", "two", "s1", "s2", "last"])


@pytest.mark.row("IPC-08")
def test_a_line_without_an_end_is_taken_at_the_end(d):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(d.frames_path))
        s.sendall(b'{"log":"no newline"}')
        s.shutdown(socket.SHUT_WR)
        assert json.loads(s.recv(1000)) == {"ok": True, "items": 1}
    d.consumer.wait_names(["no newline"])


@pytest.mark.row("IPC-08", "COL-OTLP-04")
@pytest.mark.parametrize("signal", otlp.SIGNALS)
def test_a_whole_otlp_json_request_is_a_line(d, signal):
    message = otlp.MAKE[signal]([f"n{i}" for i in range(50)])
    assert d.lines(otlp.to_json(message)) == [{"ok": True, "items": 50}]
    d.consumer.wait(lambda s: s.names(signal) == [f"n{i}" for i in range(50)])
    assert [i for _, _, i in otlp.walk(d.consumer.accepted(signal)[0].message)] == [i for _, _, i in otlp.walk(message)]


@pytest.mark.row("IPC-08")
def test_a_line_as_long_as_the_documentation_allows_is_taken(collectord, consumer):
    """docs/protocol.md names the bound in the sentence that begins "A line"."""
    text = " ".join((Path(__file__).parents[2] / "docs/protocol.md").read_text().split())
    bound = int(re.search(r"A line (?:may|holds|has)[^.]*?(\d+) MiB", text)[1]) << 20
    d = collectord(document(local=local(consumer, max_lag={"bytes": "40MB", "age": "0s"}, batch={"timeout": "0s", "max_bytes": "2MB"})))
    small = otlp.to_json(otlp.logs([f"n{i}" for i in range(bound // 1024 * 3 // 4)], pad=900))
    line = small + b" " * (bound - len(small))
    assert len(line) == bound
    answer = d.lines(line, timeout=60)[0]
    assert answer["ok"], answer
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(d.frames_path))
        try:
            s.sendall(b"{" + b" " * (bound + (1 << 20)))
        except OSError:
            pass
        got = s.recv(10000)
    assert json.loads(got)["ok"] is False


@pytest.mark.row("IPC-08")
def test_the_socat_lines_of_the_documentation_work(d):
    for line in ('{"log":"hello"}', '{"log":"disk full","level":"error","service":"backup"}'):
        ran = subprocess.run(f"echo '{line}' | socat - UNIX-CONNECT:{d.frames_path}", shell=True, capture_output=True, text=True, timeout=20)
        assert (ran.stdout, ran.stderr) == ('{"ok":true,"items":1}\n', "")
    d.consumer.wait_names(["hello", "disk full"])


@pytest.mark.row("IPC-08")
def test_a_stream_recorded_with_socat_can_be_replayed(d, collectord, sink, tmp_path):
    tap, sent, answered = tmp_path / "tap.sock", tmp_path / "sent.bin", tmp_path / "answered.bin"
    with subprocess.Popen(["socat", "-r", str(sent), "-R", str(answered), f"UNIX-LISTEN:{tap}", f"UNIX-CONNECT:{d.frames_path}"]) as recorder:
        until("socat to listen", tap.exists)
        with Connection(tap) as c:
            c.hello(name="recorded")
            for n in range(1, 6):
                c.send(frame(LOGS, n, logs(f"n{n}")))
            c.acknowledged(5)
            c.send(frame(BYE))
            assert c.read() is None
        recorder.wait(10)
    assert sent.read_bytes()[:4] == b"TLMF" and answered.read_bytes()[:6] == b"TLMF\x01\x07"
    other_consumer = sink("other")
    other = collectord(document(local=local(other_consumer)))
    for daemon, receiver in ((other, other_consumer), (d, d.consumer)):
        ran = subprocess.run(f"socat -t 5 - UNIX-CONNECT:{daemon.frames_path} < {sent}", shell=True, capture_output=True, timeout=20)
        last = ran.stdout[-24:]
        assert last[:6] == b"TLMF\x01\x07" and struct.unpack(">Q", last[16:])[0] == 5
        receiver.wait_names([f"n{n}" for n in range(1, 6)])
    assert len(d.consumer.names()) == 5 and d.metrics().sum("collectord_frames_duplicates_total") == 5


@pytest.mark.row("IPC-08")
def test_a_source_that_is_off_makes_no_socket(collectord):
    d = collectord({"destinations": {}, "listen": {"frames": ""}})
    assert not d.frames_path.exists() and d.control_path.exists()
