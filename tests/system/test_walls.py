# SPDX-License-Identifier: Apache-2.0
"""The walls round a loader: what a hostile model tries, with each layer and without."""
import ctypes
import os
import re
import socket
import subprocess

import pytest

from harness import BUILD, ROOT, echo_section, wait_for

VERSION = ctypes.CDLL(None).syscall(444, None, 0, 1)
LACKING = ROOT / "tests" / "system" / "lacking.py"

# What moultd itself keeps from everybody but root, because it is not dumpable.
OF_MOULTD = {"environ", "memory", "descriptors", "vm_read", "take_descriptor", "ptrace"}
LANDLOCK = OF_MOULTD | {"secret", "early_thread", "configuration", "passwd"}
if VERSION >= 4:
    LANDLOCK |= {"network"}
if VERSION >= 6:
    LANDLOCK |= {"kill", "kill_group"}
SECCOMP = {"mode", "vm_read", "take_descriptor", "ptrace", "kill", "kill_group", "limits",
           "control", "network", "fork", "exec", "namespace"}
ALL = LANDLOCK | SECCOMP

needs_landlock = pytest.mark.skipif(VERSION < 1, reason="this kernel has no landlock")


BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'


@pytest.fixture
def listener():
    """Somebody on this machine who has nothing to do with the model."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def loader_that_lacks(tmp_path, what):
    """A moult-loader whose kernel lacks @what."""
    path = tmp_path / "moult-loader"
    path.write_text(f"#!/bin/sh\nexec {LACKING} {what} {BUILD}/moult-loader \"$@\"\n")
    path.chmod(0o755)
    return f"loader = {path}\n"


def breakout(tmp_path, **keys):
    secret = tmp_path / "secret"
    secret.write_text("of another model")
    secret.chmod(0o600)
    lines = {"engine": "breakout", "input": "x FP32 [-1]", "output": "x FP32 [-1]",
             "option.secret": secret, "option.folder": tmp_path / "models.d",
             "option.control": tmp_path / "moultd.sock", **keys}
    return "[model breakout]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def outcomes(moult):
    """{name: "done" or "refused"} of the attacks that the engine logged."""
    return dict(re.findall(r"breakout (\w+)=(done|refused)", moult.log_text()))


def walls(moult, model="breakout"):
    return moult.status(model)["walls"]


@needs_landlock
@pytest.mark.parametrize("case, lacks, stopped", [
    ("off", None, set()),
    ("landlock", "seccomp", LANDLOCK),
    ("seccomp", "landlock", SECCOMP),
    ("both", None, ALL),
])
def test_native_code(start, tmp_path, listener, case, lacks, stopped):
    """Every attack with each layer: an engine with native code of its own."""
    moult = start(breakout(tmp_path, sandbox="off" if case == "off" else "strict",
                           **{"option.port": listener.getsockname()[1]}),
                  supervisor=loader_that_lacks(tmp_path, lacks) if lacks else "")
    found = outcomes(moult)
    print(case, sorted(found.items()))
    # Root's rights over moultd are the loader's only outside of its walls.
    if case != "off" or os.geteuid() != 0:
        stopped = stopped | OF_MOULTD
    assert {name for name in found if found[name] == "refused"} == stopped
    assert found["legit"] == "done" and ALL < set(found)
    assert moult.infer("breakout", BODY)[0] == 200
    standing = walls(moult)
    assert standing["sandbox"] == ("off" if case == "off" else "strict")
    for layer in ("landlock", "seccomp"):
        assert (layer in standing["layers"]) == (case in (layer, "both"))
        assert (layer in standing["missing"]) == (case not in (layer, "both"))
    assert ("not_dumpable" in standing["layers"]) == (case != "off")
    assert "no_core" in standing["layers"] and "no_new_privs" in standing["layers"]
    metrics = moult.get("/metrics")[1].decode()
    assert (f'moult_walls{{model="breakout",layer="landlock"}} {int(case in ("landlock", "both"))}'
            in metrics)
    receipt = moult.receipts("breakout")[-1]
    assert receipt["walls"]["layers"] == standing["layers"]
    assert ("event=sandbox_off" in moult.log_text()) == (case == "off")


def test_a_kernel_that_has_nothing(start, tmp_path):
    """The model serves, and status says what is missing."""
    moult = start(breakout(tmp_path), supervisor=loader_that_lacks(tmp_path, "both"))
    standing = walls(moult)
    assert "landlock: the kernel has none" in standing["missing"], standing
    assert "seccomp: the kernel has none" in standing["missing"], standing
    said = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"],
                          capture_output=True, text=True, check=True).stdout
    assert "walls are missing: landlock" in said, said


@pytest.mark.parametrize("lacks, reason, standing", [
    ("landlock", "there is no landlock", "no_capabilities, seccomp"),
    ("both", "there is no seccomp", "no_capabilities"),
])
def test_one_warning_at_start(start, tmp_path, lacks, reason, standing):
    """Who starts moultd is told before the first model is, and once, whatever is lacking."""
    moult = start(breakout(tmp_path), echo_section(sandbox="strict"), under=[LACKING, lacks])
    lines = [line for line in moult.log_lines() if "event=walls_lacking" in line]
    assert len(lines) == 1 and "landlock=0" in lines[0], lines
    assert reason in lines[0] and f'{standing}"' in lines[0], lines
    assert "(model 'breakout')" in lines[0], lines


def test_no_warning_without_need(start):
    """Who asks for no walls, or has all that he asks for, is not warned."""
    off = start(echo_section(sandbox="off"), under=[LACKING, "both"])
    assert "event=walls_lacking" not in off.log_text()


def test_a_path_that_is_not_there(start, tmp_path):
    moult = start(breakout(tmp_path, sandbox_read=tmp_path / "none"), ready=False)
    wait_for("the refusal", lambda: "sandbox_read: '" in moult.log_text())
    assert f"sandbox_read: '{tmp_path}/none' cannot be opened: No such file" in moult.log_text()


@needs_landlock
def test_paths_of_the_section(start, tmp_path):
    """What sandbox_read and sandbox_write name can be reached, and nothing beside it."""
    moult = start(breakout(tmp_path, sandbox_read=tmp_path / "secret",
                           sandbox_write=tmp_path / "models.d"))
    found = outcomes(moult)
    assert found["secret"] == found["early_thread"] == found["configuration"] == "done"
    assert found["passwd"] == "refused"
