# SPDX-License-Identifier: Apache-2.0
"""What connections that have asked and are idle keep of moultd's memory."""
import pathlib
import re
import resource
import socket

import pytest

from counted import unsanitized
from harness import echo_body, echo_section, patience

IDLE = 2000
# libmicrohttpd keeps 9 KiB (connection_memory and 1 KiB) and 600 bytes; moultd 1,600.
MOST_BYTES = 11_800
BODY = echo_body([1, 2, 3, 4]).encode()
INFER = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
         % (len(BODY), BODY))


def private_bytes(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"(?m)^Private_Dirty: +(\d+) kB", rollup)[1]) * 1024


@unsanitized
def test_idle_connections_are_small(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * IDLE:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = []
    try:
        moult = start(echo_section(), supervisor=f"max_connections = {2 * IDLE}\n"
                                                 "max_connections_per_address = 0\n")
        moult.note_fds()

        def ask(n):
            for _ in range(n):
                client = socket.create_connection(("127.0.0.1", moult.port), patience())
                client.sendall(INFER)
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
                clients.append(client)
        ask(100)
        before = private_bytes(moult.pid)
        ask(IDLE)
        each = (private_bytes(moult.pid) - before) / IDLE
        print(f"{each:.0f} bytes for each of {IDLE} idle connections")
        assert each < MOST_BYTES
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
