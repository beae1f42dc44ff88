# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 server (prior knowledge) that answers several streams with one call: http2_bulk.py PORT MODE STREAMS BYTES [CERTIFICATE KEY].
MODE one: one buffer; cut: a list of buffers, each frame's header cut in two; file: the payload of DATA by sendfile, but of the later half of the streams
in one buffer again; tls: one buffer, encrypted.
It reads a megabyte at a time, after a pause, so that what clients send is long calls, too. Writes a line for each request: stream and bytes it brought."""
import os
import socket
import ssl
import sys
import tempfile
import threading
import time

PORT, MODE, STREAMS, BYTES = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
FRAME = 16384
ZEROS = tempfile.TemporaryFile()
ZEROS.write(bytes(FRAME))
ZEROS.flush()


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def answer(stream):
    """:status 200 is number 8 of HPACK's static table."""
    frames = [frame(HEADERS, 4, stream, b"\x88")]
    for left in range(BYTES, 0, -FRAME):
        frames.append(frame(DATA, left <= FRAME, stream, bytes(min(FRAME, left))))
    return frames


def send(connection, frames):
    if MODE in ("one", "tls"):
        connection.sendall(b"".join(frames))
    elif MODE == "cut":
        pieces = [memoryview(f)[a:b] for f in frames for a, b in ((0, 4), (4, len(f)))]
        while pieces:
            sent = connection.sendmsg(pieces[:1000])
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = pieces[0][sent:]
    else:
        half = len(frames) // 2
        for f in frames[:half]:
            if f[3] != DATA:
                connection.sendall(f)
                continue
            connection.sendall(f[:9])
            at = 0
            while at < len(f) - 9:
                at += os.sendfile(connection.fileno(), ZEROS.fileno(), at, len(f) - 9 - at)
        connection.sendall(b"".join(frames[half:]))


def serve(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if MODE == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[5], sys.argv[6])
        context.set_alpn_protocols(["h2"])
        connection = context.wrap_socket(connection, server_side=True)
    connection.sendall(frame(SETTINGS, 0, 0, b"\0\4\0\xff\xff\xff") + frame(WINDOW_UPDATE, 0, 0, b"\0\xff\0\0"))
    held, buffer, bodies, ended = b"", bytearray(1 << 20), {}, []
    begun = False
    while n := connection.recv_into(buffer):
        held += buffer[:n]
        if not begun:
            if len(held) < 24:
                continue
            assert held.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            held, begun = held[24:], True
        while len(held) >= 9 and len(held) >= 9 + (size := int.from_bytes(held[:3], "big")):
            kind, flags, stream = held[3], held[4], int.from_bytes(held[5:9], "big")
            if kind == SETTINGS and not flags & 1:
                connection.sendall(frame(SETTINGS, 1, 0))
            elif kind == PING and not flags & 1:
                connection.sendall(frame(PING, 1, 0, held[9:17]))
            elif kind == HEADERS:
                bodies[stream] = 0
            elif kind == DATA:
                bodies[stream] += size
            if kind in (HEADERS, DATA) and flags & 1:
                ended.append(stream)
            held = held[9 + size:]
        while len(ended) >= STREAMS:
            now, ended = ended[:STREAMS], ended[STREAMS:]
            for stream in now:
                print(stream, bodies.pop(stream), flush=True)
            send(connection, [f for stream in now for f in answer(stream)])
        if MODE != "tls":                            # a record at a time is all that TLS gives
            time.sleep(0.02)
    connection.close()


listener = socket.create_server(("127.0.0.1", PORT))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
