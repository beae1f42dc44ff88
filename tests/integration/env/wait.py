# SPDX-License-Identifier: Apache-2.0
"""Waiting: polls until something holds or a deadline passes. No test sleeps to let something happen."""
import os
import random
import socket
import time

# An emulated machine is slower, and says so: what may be measured is multiplied by this, and what is waited for at most by ten.
SLACK = float(os.environ.get("TIME_SLACK", 1))


def until(what, condition, timeout=10.0, step=0.01):
    """Calls condition until it answers something true, which is returned. Fails with what was waited for and the last answer."""
    timeout *= min(SLACK, 10)
    deadline = time.monotonic() + timeout
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for: {what}; last: {got!r}")
        time.sleep(step)


def stays(what, condition, duration, step=0.02):
    """Fails as soon as condition answers something false within duration: for what must not happen."""
    deadline = time.monotonic() + duration
    while time.monotonic() < deadline:
        assert condition(), f"did not stay so for {duration} s: {what}"
        time.sleep(step)


_ports = set()


def free_port():
    """A port nobody listens on, outside of what the kernel hands to outgoing connections, and never the same twice."""
    while True:
        port = random.randrange(15000, 32000)
        if port in _ports:
            continue
        try:
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
        except OSError:
            continue
        _ports.add(port)
        return port
