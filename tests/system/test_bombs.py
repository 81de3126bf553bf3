# SPDX-License-Identifier: Apache-2.0
"""Requests that cost their sender little and the model much: others do not wait for them."""
import concurrent.futures
import gzip
import json

import harness

BOMBS = 5


def bomb():
    """Some 8 MiB of JSON that take long to read, in a few KiB."""
    lists = b"[]," * (8 * 1024 * 1024 // 3 - 100)
    return gzip.compress(b'{"x":[' + lists + b'[]],"inputs":[]}')


def throw(moult, pool):
    """All of them at once, each by a client of its own."""
    body = bomb()
    return [pool.submit(moult.post, "/v2/models/echo/infer", body,
                        {"Content-Encoding": "gzip"}, 120) for _ in range(BOMBS)]


def test_bombs_are_overtaken(start):
    """One thread that takes all requests as they come answers the small one last."""
    moult = start(harness.echo_section(max_batch=1))
    moult.note_fds()
    with concurrent.futures.ThreadPoolExecutor(BOMBS) as pool:
        bombs = throw(moult, pool)
        harness.wait_for("the bombs' arrival", lambda: moult.status("echo")["requests"][
            "accepted"] == BOMBS)
        status, _, answer = moult.infer("echo", harness.echo_body([1, 2, 3, 4]))
        n_left = sum(not b.done() for b in bombs)
        assert status == 200, answer
        assert json.loads(answer)["outputs"][0]["data"] == [1, 2, 3, 4]
        # Each of them takes the thread that computes, or the one beside it, for long: one
        # may have been answered meanwhile, and one not be noticed yet.
        assert n_left >= 3, "the small request was answered behind the others"
        for b in bombs:
            status, _, answer = b.result()
            assert status == 400 and b"missing" in answer, answer


def test_ratio(start):
    moult = start(harness.echo_section())
    body = gzip.compress(b" " * (16 * 1024 * 1024))
    status, _, answer = moult.infer("echo", body, {"Content-Encoding": "gzip"})
    assert status == 413 and b"100 times" in answer, answer


def test_a_bomb_in_a_death(start):
    """A loader that dies while it decodes: all is answered by the next one, each once."""
    moult = start(harness.echo_section(max_batch=1))
    moult.note_fds()
    with concurrent.futures.ThreadPoolExecutor(BOMBS) as pool:
        bombs = throw(moult, pool)
        harness.wait_for("leases", lambda: moult.status("echo")["requests"]["leased"] > 1)
        loader = moult.status("echo")["pid"]
        harness.os.kill(loader, harness.signal.SIGKILL)
        load = harness.Load(moult.port, clients=2)
        for b in bombs:
            assert b.result()[0] == 400
        load.stop_and_check()
