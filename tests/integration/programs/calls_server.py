#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Serves HTTP/1.1, one connection at a time; the path names the system calls that the request's answer and the next request go through:
/CALL/BYTES. Listens on a TCP port, and serves there or, with
a path as second argument, on that Unix socket instead."""
import os
import socket
import sys

ROOM = 65536


def receive(call, s):
    if call == "read":
        return os.read(s.fileno(), ROOM)
    if call == "readv":
        pieces = [bytearray(3), bytearray(0), bytearray(ROOM)]
        n = os.readv(s.fileno(), pieces)
        return b"".join(pieces)[:n]
    if call == "recvmsg":
        return s.recvmsg(ROOM)[0]
    if call == "peek":
        s.recv(ROOM, socket.MSG_PEEK)
        s.recvmsg(ROOM, 0, socket.MSG_PEEK)
    return s.recv(ROOM)


def send_file(s, body):
    with open("body", "w+b") as f:
        f.write(body)
        f.flush()
        sent = 0
        while sent < len(body):
            sent += os.sendfile(s.fileno(), f.fileno(), sent, len(body) - sent)


def send_spliced(s, body):
    out, into = os.pipe()
    try:
        for i in range(0, len(body), 4096):
            piece = body[i:i + 4096]
            os.write(into, piece)
            left = len(piece)
            while left:
                left -= os.splice(out, s.fileno(), left)
    finally:
        os.close(out)
        os.close(into)


def answer(call, s, head, body):
    fd = s.fileno()
    if call == "sendfile":
        s.sendall(head)
        send_file(s, body)
    elif call == "splice":
        s.sendall(head)
        send_spliced(s, body)
    elif call in ("readv", "recvmsg"):
        # Pieces of both kinds: the list goes out as far as the socket takes it.
        pieces = [head[:7], b"", head[7:], *(body[i:i + 1000] for i in range(0, len(body), 1000))]
        while any(pieces):
            sent = os.writev(fd, pieces) if call == "readv" else s.sendmsg(pieces)
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if pieces:
                pieces[0] = pieces[0][sent:]
    elif call == "read":
        data = head + body
        while data:
            data = data[os.write(fd, data):]
    else:
        s.sendall(head + body)


def serve(s):
    call, held = "recv", b""
    while True:
        while b"\r\n\r\n" not in held:
            got = receive(call, s)
            if not got:
                return
            held += got
        request, held = held.split(b"\r\n\r\n", 1)
        call, size = request.split()[1].decode().strip("/").split("/")
        answer(call, s, b"HTTP/1.1 200 OK\r\ncontent-length: " + size.encode() + b"\r\n\r\n", b"b" * int(size))


def main(port, path=None):
    listener = socket.create_server(("127.0.0.1", int(port)))      # also tells whoever looks for servers
    if path:
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(path)
        unix.listen()
    while True:
        with (unix if path else listener).accept()[0] as s:
            serve(s)


if __name__ == "__main__":
    main(*sys.argv[1:])
