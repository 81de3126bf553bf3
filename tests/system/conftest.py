# SPDX-License-Identifier: Apache-2.0
import pytest

import harness

# Of each log, where a test failed: its folder is gone when somebody reads of it.
LINES_SHOWN = 100


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    item.has_failed = getattr(item, "has_failed", False) or report.failed
    home = item.funcargs.get("tmp_path") if report.failed else None
    for log in sorted(home.rglob("moultd.log")) if home else ():
        lines = log.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        report.sections.append((str(log.relative_to(home)), "\n".join(lines)))


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
