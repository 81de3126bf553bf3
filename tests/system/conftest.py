# SPDX-License-Identifier: Apache-2.0
import pytest

import harness


@pytest.fixture
def start(tmp_path):
    """start(sections, ...) gives a ready Moult; it is stopped and checked afterwards."""
    running = []

    def make(*sections, ready=True, **keys):
        moult = harness.Moult(tmp_path, sections, **keys)
        running.append(moult)
        return moult.wait_ready() if ready else moult.wait_control()

    yield make
    for moult in running:
        if moult.process.poll() is None:
            moult.stop()
