# SPDX-License-Identifier: Apache-2.0
"""http.server with a thread for each connection; /count says how many requests it has had, that one included."""
import http.server
import itertools
import sys

count = itertools.count(1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True                 # head and body are two writes; 40 ms of waiting would be all one sees

    def do_GET(self):
        body = f"{next(count)}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
