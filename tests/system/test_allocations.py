# SPDX-License-Identifier: Apache-2.0
"""Memory that moultd asks for while it serves: none of its own for a request."""
import contextlib
import socket

import pytest

from counted import Counted, unsanitized
from harness import echo_section, patience
from test_idle_memory import INFER
from test_large_bodies import ECHO, take

REQUESTS = 10_000
# What is asked for by the clock, whoever asks: a figure that is noted, a look at the machine. On a
# busy machine the same requests take longer.
FEW = REQUESTS // 20


@unsanitized
@pytest.mark.parametrize("clients", [1, 64])
def test_none_for_a_request(start, tmp_path, clients):
    """libmicrohttpd's are one for a response and three for each of its header fields."""
    counted = Counted(tmp_path)
    moult = start(echo_section(**ECHO), environment=counted.environment)
    moult.note_fds()
    with contextlib.ExitStack() as stack:
        def connect():
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", moult.port), patience()))
            return client, stack.enter_context(client.makefile("rb"))
        connections = [connect() for _ in range(clients)]

        def ask(n):
            for _ in range(n // clients):
                for client, _ in connections:
                    client.sendall(INFER)
                for _, stream in connections:
                    assert take(stream)[0] == 200
        ask(1000)
        n = REQUESTS // clients * clients
        counts = counted.open().during(lambda: ask(REQUESTS))
    print({name: count / n for name, count in counts.items()})
    assert counts["ours"] < FEW and counts["others"] < 10 * FEW, counts
    assert n <= counts["microhttpd"] < 8 * n, counts
