# SPDX-License-Identifier: Apache-2.0
"""What moultctl tells people: one name, one unit, no digit that is not known, true states."""
import pathlib
import re
import subprocess

import pytest

from harness import BUILD, Load, echo_body, echo_section, wait_for


def text_of(moult, *arguments):
    return subprocess.run([BUILD / "moultctl", "-s", moult.socket, *arguments],
                          capture_output=True, text=True, timeout=120, check=True).stdout


def members(moult, model="echo"):
    """The lines below the table, by their names."""
    found = {}
    for line in text_of(moult, "status", model).splitlines():
        pair = re.fullmatch(r"([a-z_0-9.]+) {2,}(\S.*)", line)
        if pair:
            assert pair[1] not in found, f"{line!r}, and {found[pair[1]]!r} before"
            found[pair[1]] = pair[2]
    return found


def test_one_name_one_unit(start):
    moult = start(echo_section())
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert moult.reload("echo").returncode == 0
    found = members(moult)
    assert found["requests.held"] == "0" and found["requests.held_bytes"] == "0 B"
    assert re.fullmatch(r"[\d.]+ (ms|s|min)", found["hold.usual.start"])
    for name, value in found.items():
        # What has a fraction has a unit.
        assert not re.fullmatch(r"\d+\.\d+", value), (name, value)


def test_no_digit_that_is_not_known(start):
    moult = start(echo_section(), echo_section("other"))
    load = Load(moult.port)
    load.wait_more(200)
    for _ in range(3):
        assert moult.reload("echo").returncode == 0
    load.stop_and_check()
    for arguments in (["status"], ["status", "echo"], ["receipts"]):
        text = moult.ctl(*arguments).stdout
        reals = re.findall(r"[:,\[](-?\d+\.\d+(?:e[-+]?\d+)?)", text)
        assert reals and not [real for real in reals
                              if "e" in real or len(real.split(".")[1]) > 3], arguments


def test_receipts_of_nobody(start):
    """A name that is wrong is an error; a model that is gone has left receipts."""
    moult = start(echo_section(), echo_section("gone"))
    (moult.models / "1.conf").unlink()
    wait_for("one model", lambda: len(moult.status()["models"]) == 1)
    assert len(moult.receipts("echo")) == 1 and len(moult.receipts("gone")) == 1
    result = moult.ctl("receipts", "eco")
    assert result.returncode == 1
    assert "there is no model 'eco', and no receipt of one" in result.stderr


def test_states_are_true(start, tmp_path):
    """Nothing ever served: nothing is started again, and no last good input is in use."""
    path = tmp_path / "model.bin"
    moult = start(echo_section(path=path), echo_section(
        "dies", engine="fault", **{"option.fault": "crash-on-stage"}), ready=False)
    states = set()

    def is_settled():
        states.update(moult.status(name)["state"] for name in ("echo", "dies"))
        return (moult.status("echo")["stale"] or moult.status("echo")["last_error"]) and \
            len(moult.receipts("dies")) >= 2
    wait_for("failures", is_settled)
    assert states <= {"starting", "loading", "failed"}, states
    assert "last good one is in use" not in text_of(moult, "status")


def reads(moult):
    """Of files, by moultd since it began: proc_pid_io(5)."""
    text = pathlib.Path(f"/proc/{moult.pid}/io").read_text()
    return int(re.search(r"^syscr: (\d+)$", text, re.M)[1])


def test_a_status_looks_at_each_loader_once(start):
    models = 16
    moult = start(*(echo_section(f"m{i}") for i in range(models)))
    if not pathlib.Path(f"/proc/{moult.pid}/io").exists():
        pytest.skip("the kernel counts no reads (CONFIG_TASK_IO_ACCOUNTING)")
    counts = []
    for _ in range(5):
        before = reads(moult)
        assert len(moult.status()["models"]) == models
        counts.append(reads(moult) - before)
    # The least: files are looked at meanwhile, too.
    assert min(counts) < 8 * models, counts
