# SPDX-License-Identifier: Apache-2.0
"""https_client.py URL CA COUNT: waits for a line on stdin, then gets URL/0, URL/1, ... by ssl of the standard library, two to a connection."""
import http.client
import ssl
import sys
import urllib.parse

url, ca, count = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=ca)
sys.stdin.readline()
for i in range(0, count, 2):
    c = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=20)
    for k in (i, i + 1):
        c.request("GET", f"{url.path}/{k}")
        answer = c.getresponse()
        answer.read()
        print(answer.status, flush=True)
    c.close()
