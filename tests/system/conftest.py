# SPDX-License-Identifier: Apache-2.0
import pytest

import harness


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    item.has_failed = getattr(item, "has_failed", False) or outcome.get_result().failed


@pytest.fixture
def start(tmp_path, request):
    """start(sections, ...) gives a ready Moult; it is stopped and checked afterwards."""
    running = []

    def make(*sections, ready=True, **keys):
        moult = harness.Moult(tmp_path, sections, **keys)
        running.append(moult)
        return moult.wait_ready() if ready else moult.wait_control()

    yield make
    # Clients of a test that failed are there still: nobody waits for their end.
    harness.end_loads()
    for moult in running:
        if request.node.has_failed:
            moult.kill()
        elif moult.process.poll() is None:
            moult.stop()
