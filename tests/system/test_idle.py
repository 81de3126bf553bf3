# SPDX-License-Identifier: Apache-2.0
"""moultd at rest: few wake-ups, little memory."""
import pathlib
import time

from harness import digits_section, echo_section, wait_for

WINDOW_S = 8


def read_status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split()[0] for name, _, value in
            (line.partition(":") for line in lines) if value.split()}


def test_idle(start):
    moult = start(digits_section(), echo_section())
    for _ in range(50):
        moult.get("/v2/health/live")

    def count():
        """Wake-ups a second in a window of the measurement."""
        before = int(read_status(moult.pid)["voluntary_ctxt_switches"])
        begun = time.monotonic()
        time.sleep(WINDOW_S)
        after = int(read_status(moult.pid)["voluntary_ctxt_switches"])
        return (after - before) / (time.monotonic() - begun)
    # A machine that is busy makes more of some; what is moultd's own is in each window.
    counts = []
    wait_for("a window at rest", lambda: counts.append(count()) or counts[-1] < 2)
    after = read_status(moult.pid)
    resident = int(after["VmRSS"]) - int(after["RssShmem"])
    print(f"{counts} wake-ups/s, {resident} kB resident without arenas")
    assert resident < 16 * 1024
