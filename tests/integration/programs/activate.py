# SPDX-License-Identifier: Apache-2.0
"""What systemd does for socket activation: activate.py NAME=ADDRESS... -- COMMAND. Binds each socket, hands them over from descriptor 3 on, and becomes
the command. ADDRESS is a path, or 127.0.0.1:PORT."""
import os
import socket
import sys

end = sys.argv.index("--")
listeners, names = [], []
for argument in sys.argv[1:end]:
    name, _, address = argument.partition("=")
    if address.startswith("/"):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind(address)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, _, port = address.rpartition(":")
        s.bind((host, int(port)))
    s.listen(64)
    listeners.append(s)
    names.append(name)
high = [os.dup(s.fileno()) for s in listeners]
high = [os.dup2(fd, 100 + i) for i, fd in enumerate(high)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(3 + len(high), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=":".join(names))
os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
