# SPDX-License-Identifier: Apache-2.0
"""gRPC: `server PORT LOG [CERTIFICATE KEY]` serves package.Service on eight threads; `client PORT CALLS [CA]` waits for a line on stdin, then calls it
CALLS times on one channel, at most twenty at once. The server writes a line for each call to LOG, the client one for each to stdout. With files it is
TLS, by the BoringSSL that is part of grpcio."""
import concurrent.futures
import json
import pathlib
import sys
import time

import grpc


def serve(port, log, *files):
    out = open(log, "a", buffering=1)

    def handler(name, act):
        def run(request, context):
            begun = time.monotonic()
            code, answer = act(request)
            out.write(json.dumps({"method": name, "code": code.value[0], "asked": len(request), "seconds": time.monotonic() - begun}) + "\n")
            if code != grpc.StatusCode.OK:
                context.abort(code, "as asked")
            return answer
        return grpc.unary_unary_rpc_method_handler(run)

    def slow(request):
        time.sleep(0.01)
        return grpc.StatusCode.OK, request
    methods = {"Echo": lambda q: (grpc.StatusCode.OK, q), "Slow": slow, "Missing": lambda q: (grpc.StatusCode.NOT_FOUND, b""),
               "Broken": lambda q: (grpc.StatusCode.INTERNAL, b"")}
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("package.Service", {n: handler(n, a) for n, a in methods.items()})])
    if files:
        certificate, key = (pathlib.Path(f).read_bytes() for f in files)
        bound = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    assert bound == int(port)
    server.start()
    server.wait_for_termination()


def connect(port, ca=None):
    if ca is None:
        return grpc.insecure_channel(f"127.0.0.1:{port}")
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes()))


def call(port, calls, *ca):
    sys.stdin.readline()
    names = ["Echo", "Slow", "Missing", "Broken", "Unknown"]
    with connect(port, *ca) as channel, concurrent.futures.ThreadPoolExecutor(20) as pool:
        stubs = {n: channel.unary_unary(f"/package.Service/{n}") for n in names}

        def one(i):
            name = names[i % len(names)]
            try:
                stubs[name](b"x" * i, timeout=20)
                code = 0
            except grpc.RpcError as e:
                code = e.code().value[0]
            return {"method": name, "code": code}
        for done in pool.map(one, range(int(calls))):
            print(json.dumps(done), flush=True)
        sys.stdin.read()                           # its connection stays until the test has looked


if __name__ == "__main__":
    {"server": serve, "client": call}[sys.argv[1]](*sys.argv[2:])
