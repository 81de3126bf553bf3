# SPDX-License-Identifier: Apache-2.0
"""slowhttptest's four modes: while its clients hold on to all that they can get, health is
answered and predictions are made, and afterwards nothing of them is left. How fast that is, is
printed; tests/system/test_crowd.py has crowds that do nothing."""
import http.client
import resource
import shutil
import subprocess

import pytest

from harness import echo_body, echo_section, patience, wait_for
from test_crowd import Health

CLIENTS = 1000
SECONDS = 5
TURNED_AWAY = 0
# slowhttptest(1): slow headers, slow bodies, ranges, slow reading.
MODES = {
    "headers": ["-H", "-i", "1", "-u", "/v2/models/echo"],
    "bodies": ["-B", "-i", "1", "-s", "8192", "-u", "/v2/models/echo/infer"],
    "ranges": ["-R", "-u", "/metrics", "-a", "10", "-b", "3000"],
    "reading": ["-X", "-w", "16", "-y", "32", "-n", "1", "-z", "32", "-k", "3", "-u", "/metrics"],
}

pytestmark = pytest.mark.skipif(not shutil.which("slowhttptest"),
                                reason="there is no slowhttptest(1)")


@pytest.fixture
def files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 1000:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def predict(moult):
    """The status. A client that this machine lets wait before it asks is idle, and makes room."""
    try:
        return moult.infer("echo", echo_body([1, 2, 3, 4]))[0]
    except (OSError, http.client.HTTPException):
        return TURNED_AWAY


@pytest.mark.parametrize("mode", MODES)
def test_mode(start, files, tmp_path, mode):
    moult = start(echo_section(), supervisor="max_connections = 256\nheader_timeout = 2s\n"
                                             "body_timeout = 2s\nidle_timeout = 2s\n")
    moult.note_fds()
    arguments = list(MODES[mode])
    at = arguments.index("-u") + 1
    arguments[at] = f"http://127.0.0.1:{moult.port}{arguments[at]}"
    health = Health(moult)
    with open(tmp_path / "said", "wb") as said:
        slow = subprocess.Popen(
            ["slowhttptest", "-c", str(CLIENTS), "-r", "500", "-l", str(SECONDS), "-p", "5",
             *arguments], stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=tmp_path)
    try:
        wait_for("its clients", lambda: moult.status()["supervisor"]["http"]["accepted_total"] >
                 CLIENTS // 2)
        statuses = []
        while slow.poll() is None:
            statuses.append(predict(moult))
        print(f"{mode}: {statuses.count(200)} of {len(statuses)} predictions were made")
        assert set(statuses) <= {200, 503, TURNED_AWAY}
    finally:
        slow.kill()
        slow.wait(patience())
    health.stop_and_check(mode)
    wait_for("their end", lambda: moult.status()["supervisor"]["http"]["connections"] == 0)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
