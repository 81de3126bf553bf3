# SPDX-License-Identifier: Apache-2.0
"""The commands of the guides that change from another server to moult, word for word but for the
port. docs/guides/systemd.md is followed by tests/debian/systemd_test.py."""
import os
import re
import signal
import subprocess

import pytest

from harness import BUILD, ROOT, free_port, patience

GUIDES = ROOT / "docs" / "guides"
pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")
# What is among the answers of each.
ANSWERS = {"gunicorn": ["first", "second"], "torchserve": ["MOULT!", "MOULT?"],
           "triton": ["[2.0,4.0]", "double"]}


def commands(name):
    blocks = re.findall(r"^    (.*\n)", (GUIDES / f"{name}.md").read_text(), re.M)
    return "".join(blocks).replace("127.0.0.1:8080", f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_guide(tmp_path, name):
    if name == "triton" and subprocess.run(["/usr/bin/python3", "-c", "import numpy"],
                                           check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no numpy in /usr/bin/python3 here")
    environment = {"PATH": f"{BUILD}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8",
                   "XDG_RUNTIME_DIR": str(tmp_path)}
    shell = subprocess.Popen(["bash", "-e", "-o", "pipefail", "-c", commands(name)], cwd=tmp_path,
                             env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, start_new_session=True)
    try:
        output, log = shell.communicate(timeout=5 * patience())
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, f"{output}\n{log}"
    for answer in ANSWERS[name]:
        assert answer in output, f"{output}\n{log}"
    assert "event=stopped result=0" in log, log


def test_the_keys_of_the_guides_are_there():
    """What their tables give as a key, with a value or without, is one of moult.conf(5), but
    for a parameter of requests and a package."""
    page = (BUILD / "moult.conf.5").read_text()
    known = set(re.findall(r"^\.It Ic ([a-z_]+)", page, re.M))
    for name in ANSWERS:
        rows = re.findall(r"^\|[^|]*\|([^|]*)\|$", (GUIDES / f"{name}.md").read_text(), re.M)
        told = set(re.findall(r"`([a-z_]+)(?: = |`)", "".join(rows))) - {"timeout", "torchserve"}
        assert told and told <= known, f"{name}: {told - known}"
