# SPDX-License-Identifier: Apache-2.0
"""curl_client.py LIBRARY CA URL COUNT: waits for a line on stdin, then gets URL/0, URL/1, ... with that libcurl, all on one handle; a line for each status.
libcurl-gnutls.so.4 is the one whose TLS is GnuTLS."""
import ctypes
import sys

URL, CAINFO, WRITEFUNCTION, RESPONSE_CODE = 10002, 10065, 20011, 0x200000 + 2     # curl/curl.h

curl = ctypes.CDLL(sys.argv[1])
curl.curl_easy_init.restype = ctypes.c_void_p
handle = ctypes.c_void_p(curl.curl_easy_init())
write = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)(lambda data, size, n, to: size * n)
sys.stdin.readline()


def set_option(option, value):
    assert curl.curl_easy_setopt(handle, ctypes.c_int(option), value) == 0, option


set_option(CAINFO, ctypes.c_char_p(sys.argv[2].encode()))
set_option(WRITEFUNCTION, write)
for i in range(int(sys.argv[4])):
    url = f"{sys.argv[3]}/{i}".encode()
    set_option(URL, ctypes.c_char_p(url))
    code = curl.curl_easy_perform(handle)
    assert code == 0, f"curl's error {code}"
    status = ctypes.c_long()
    curl.curl_easy_getinfo(handle, ctypes.c_int(RESPONSE_CODE), ctypes.byref(status))
    print(status.value, flush=True)
