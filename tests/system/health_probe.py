# SPDX-License-Identifier: Apache-2.0
"""Asks for the health of the port that is named, over a fresh connection each time, once and until
its standard input ends; then prints how long each answer took. A process of its own: in one with the
clients that make the load it would measure them."""
import http.client
import json
import select
import sys
import time

times_ms, bad = [], []
while not times_ms or not select.select([sys.stdin], [], [], 0.01)[0]:
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    try:
        connection.request("GET", "/v2/health/live")
        status = connection.getresponse().status
    except OSError as error:
        status = repr(error)
    connection.close()
    times_ms.append((time.monotonic() - begun) * 1e3)
    if status != 200:
        bad.append(status)
print(json.dumps({"times_ms": times_ms, "bad": bad}))
