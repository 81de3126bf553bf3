# SPDX-License-Identifier: Apache-2.0
"""What moultd may not do: who it is, what forbids it, and what would help are said. Needs
root, to run it as somebody else."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import BUILD, echo_section, free_port, wait_for

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def home():
    """A place that others may look into; pytest's own they may not."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="moult-permission-"))
    path.chmod(0o755)
    for name in ("state", "run"):
        (path / name).mkdir()
        os.chown(path / name, NOBODY, NOBODY)
    for name in ("models.d", "secrets", "golden"):
        (path / name).mkdir()
        (path / name).chmod(0o755)
    write(path / "secrets" / "token", "x")
    write(path / "secrets" / "other", "x")
    write(path / "model.bin", "x")
    write(path / "moult.conf", f"[supervisor]\nuser = root\nlisten = 127.0.0.1:{free_port()}\n"
          "control = run/moultd.sock\nstate_dir = state\nmodels_dir = models.d\n")
    write(path / "models.d" / "echo.conf", echo_section(
        path=path / "model.bin", secrets=path / "secrets", golden=path / "golden"))
    yield path
    shutil.rmtree(path)


def write(path, text):
    path.write_text(text)
    path.chmod(0o644)


def launch(home):
    if subprocess.run([BUILD / "moultd", "--version"], user=NOBODY, group=NOBODY,
                      extra_groups=[], check=False, capture_output=True).returncode:
        pytest.skip("the build tree is closed to others")
    with open(home / "log", "wb") as log:
        return subprocess.Popen([BUILD / "moultd", "-c", home / "moult.conf"], stderr=log,
                                user=NOBODY, group=NOBODY, extra_groups=[])


def says(path):
    return (f"{path} belongs to user 0 (root), group 0, with mode "
            f"{path.stat().st_mode & 0o7777:04o}: ")


FATAL = ["moult.conf", "models.d", "models.d/echo.conf", "run"]


@pytest.mark.parametrize("name", FATAL)
def test_no_start(home, name):
    os.chown(home / name, 0, 0)
    (home / name).chmod(0o700)
    process = launch(home)
    try:
        assert process.wait(60) == 1
    finally:
        process.kill()
    log = (home / "log").read_text()
    assert "Permission denied for user 65534 (nobody), as whom moultd runs: " in log, log
    assert says(home / name) in log, log


LATER = ["secrets", "secrets/token", "model.bin", "golden", "state"]


@pytest.mark.parametrize("name", LATER)
def test_later(home, name):
    """It starts, and says in status and log what it cannot use."""
    os.chown(home / name, 0, 0)
    (home / name).chmod(0o700)
    process = launch(home)
    # A loader that looks for its golden requests has walls, and cannot read who user 0 is.
    wanted = says(home / name).replace(" (root)", "" if name == "golden" else " (root)")
    try:
        wait_for("the sentence", lambda: wanted.replace('"', '\\"') in
                 (home / "log").read_text())
        assert "as whom moult" in (home / "log").read_text()
        if name == "secrets/token":  # the other one serves
            status = json.loads(wait_for("status", lambda: subprocess.run(
                [BUILD / "moultctl", "-s", home / "run" / "moultd.sock", "--json", "status"],
                capture_output=True, text=True, check=False).stdout))
            assert says(home / name) in status["models"][0]["secrets_skipped"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (home / "log").read_text()
