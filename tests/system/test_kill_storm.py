# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the loader, ten times a second, under load: nothing lost, nothing wrong.

MOULT_STORM_S says how long. Printed: from each death of a loader that held requests to the
first answer of its successor, which is a replayed one: the oldest request goes first.
"""
import os
import re
import signal
import statistics
import time

from harness import echo_section, patience, wait_for
from hostile import Stream, status, wait_settled

STORM_S = float(os.environ.get("MOULT_STORM_S", "5"))
PERIOD_S = 0.1
CLIENTS = 16


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def strike(moult, deaths):
    """Kills the loader that serves, or else the one that is about to."""
    state = status(moult, "echo")
    victim = state if state["pid"] else state["candidate"]
    if not victim or (deaths and state["generation"] == deaths[-1][0]):
        return False  # none, or one that takes its time to die
    try:
        os.kill(victim["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return False
    if state["pid"]:
        deaths.append((state["generation"], time.monotonic_ns()))
    return True


def test_storm(start):
    moult = start(echo_section(watch_window=0))
    moult.note_fds()
    stream = Stream(moult.port, "echo", clients=CLIENTS, pause_us=1000)
    stream.wait_more(100)
    deaths = []
    n_kills = n_missed = 0
    begun = tick = time.monotonic()
    # One that is killed before it serves is no use, and the next one comes later.
    while tick < begun + STORM_S or n_kills < 2 * STORM_S:
        if strike(moult, deaths):
            n_kills += 1
        else:
            n_missed += 1
        tick += PERIOD_S
        time.sleep(max(0.0, tick - time.monotonic()))
        assert time.monotonic() < begun + STORM_S + patience(), (n_kills, n_missed)
    wait_settled(moult, "echo")
    stream.wait_more(100)
    firsts = sorted(stream.firsts().items())
    requests = status(moult, "echo")["requests"]
    stream.ask()
    totals = stream.stop()
    had_leases = {int(number) for number in re.findall(
        r"event=loader_exit model=echo gen=(\d+) .* leases=[1-9]", moult.log_text())}
    recoveries_ms = [
        (min(ns for number, ns in firsts if number > generation) - killed_ns) / 1e6
        for generation, killed_ns in deaths if generation in had_leases]
    print(f"\n{n_kills} kills in {tick - begun:.0f} s, {n_missed} times there was none to kill; "
          f"{len(recoveries_ms)} of loaders that held requests")
    print(f"clients: {totals}; slowest answer {stream.slowest_ms:.0f} ms")
    print(f"moultd: {requests}")
    print(f"from death to the first replayed answer: median "
          f"{statistics.median(recoveries_ms):.1f} ms, p99 "
          f"{percentile(recoveries_ms, 0.99):.1f} ms, longest {max(recoveries_ms):.1f} ms")
    assert totals["lost"] == 0 and totals["wrong"] == 0, totals
    assert totals["sent"] == totals["answered"] + totals["failed"], totals
    assert requests["replayed"] > 0
    wait_for("conservation", lambda: (lambda r: r["accepted"] == r["answered"] + r["failed"])(
        status(moult, "echo")["requests"]))
