# SPDX-License-Identifier: Apache-2.0
"""moultd at rest: few wake-ups, little memory."""
import pathlib
import time

from harness import digits_section, echo_section

WINDOW_S = 8


def read_status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split()[0] for name, _, value in
            (line.partition(":") for line in lines) if value.split()}


def test_idle(start):
    moult = start(digits_section(), echo_section())
    for _ in range(50):
        moult.get("/v2/health/live")
    before = read_status(moult.pid)
    time.sleep(WINDOW_S)  # the window of the measurement, not a wait for something
    after = read_status(moult.pid)
    switches = (int(after["voluntary_ctxt_switches"]) -
                int(before["voluntary_ctxt_switches"])) / WINDOW_S
    resident = int(after["VmRSS"]) - int(after["RssShmem"])
    print(f"{switches:.2f} wake-ups/s, {resident} kB resident without arenas")
    assert switches < 2
    assert resident < 16 * 1024
