# SPDX-License-Identifier: Apache-2.0
"""usage: load.py PORT URL_PATH CLIENTS

Posts inference requests without pause, one connection each, so that a listener that is
away for a moment shows as a refused connection.  Ends when its standard input ends and
prints what became of the requests, as JSON; every request is counted exactly once.
"""

import collections
import http.client
import json
import sys
import threading
import time

TIMEOUT_S = 60


def request_once(port, path, values):
    """Return "ok", or what went wrong."""
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4],
                                   "data": values}]})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json",
                                                "Connection": "close"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            return f"status {answer.status}: {text[:120].decode(errors='replace')}"
        if json.loads(text)["outputs"][0]["data"] != values:
            return "wrong answer"
        return "ok"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        return f"lost: {type(error).__name__}: {error}"
    finally:
        connection.close()


def main():
    """Run the clients until standard input ends."""
    port, path, clients = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    outcomes, lock, stop = collections.Counter(), threading.Lock(), threading.Event()
    longest = [0.0]

    def client(number):
        count = 0
        while not stop.is_set():
            count += 1
            began = time.monotonic()
            outcome = request_once(port, path, [number, count % 4096, 0.5, -1.0])
            took = time.monotonic() - began
            with lock:
                outcomes[outcome] += 1
                longest[0] = max(longest[0], took)
                if outcomes.total() == clients:
                    print("started", flush=True)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"outcomes": outcomes, "longest_s": round(longest[0], 3)}))


main()
