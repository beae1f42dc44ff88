# SPDX-License-Identifier: Apache-2.0
"""gRPC: `server PORT LOG` serves package.Service on eight threads; `client PORT CALLS` waits for a line on stdin, then calls it CALLS
times on one channel, at most twenty at once. The server writes a line for each call to LOG, the client one for each to stdout."""
import concurrent.futures
import json
import sys
import time

import grpc


def serve(port, log):
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
    assert server.add_insecure_port(f"127.0.0.1:{port}") == int(port)
    server.start()
    server.wait_for_termination()


def call(port, calls):
    sys.stdin.readline()
    names = ["Echo", "Slow", "Missing", "Broken", "Unknown"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, concurrent.futures.ThreadPoolExecutor(20) as pool:
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


if __name__ == "__main__":
    {"server": serve, "client": call}[sys.argv[1]](*sys.argv[2:])
