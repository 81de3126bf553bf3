# SPDX-License-Identifier: Apache-2.0
"""Who else could change what moultd goes by."""
import json
import os
import subprocess

import pytest

from harness import BUILD, Load, echo_section, wait_for


def check(moult):
    return subprocess.run([BUILD / "moultd", "-t", "-c", moult.config], capture_output=True,
                          text=True, check=False)


def open_mode(path):
    path.chmod(0o666)


def give_away(path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize("act, says", [(open_mode, "everybody may write to it (mode 0666)"),
                                       (give_away, "belongs to user 65534")])
@pytest.mark.parametrize("name", ["moult.conf", "models.d/0.conf"])
def test_a_configuration_of_others_is_refused(start, act, says, name):
    moult = start(echo_section())
    load = Load(moult.port)
    path = moult.home / name
    act(path)
    assert says in moult.reload().stderr
    result = check(moult)
    assert result.returncode == 1 and says in result.stderr and name in result.stderr
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o644)
    assert moult.reload().returncode == 0
    load.wait_more()
    load.stop_and_check()


def test_warnings_name_what_others_may_change(start, tmp_path):
    secrets = tmp_path / "secrets"
    (tmp_path / "elsewhere").write_text("x")
    moult = start(echo_section())
    moult.swap_secrets(secrets, {"token": "x"})
    moult.models.chmod(0o777)
    (moult.home / "state").chmod(0o777)
    secrets.chmod(0o777)
    os.symlink("../elsewhere", secrets / "linked")
    (moult.models / "0.conf").write_text(echo_section(secrets=secrets))
    assert moult.reload().returncode == 0
    for says in (f"models_dir {moult.models}: everybody may write there (mode 0777)",
                 f"state_dir {moult.home / 'state'}: everybody may write there",
                 f"secrets directory {secrets}: everybody may write there",
                 f"secret {secrets / 'linked'} is a link to {tmp_path / 'elsewhere'}"):
        assert says in moult.log_text(), says
    assert "secrets/token is a link" not in moult.log_text()
    for path in (moult.models, moult.home / "state", secrets):
        path.chmod(0o755)


def test_receipts_that_are_somebody_elses(start, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "theirs").write_text("")
    os.link(tmp_path / "theirs", tmp_path / "state" / "receipts.jsonl")
    moult = start(echo_section())
    wait_for("the warning", lambda: "event=receipt_lost model=echo error=\"Too many links"
             in moult.log_text())
    assert (tmp_path / "theirs").read_text() == ""
    (tmp_path / "theirs").unlink()
    assert moult.reload("echo").returncode == 0
    assert "echo" in (tmp_path / "state" / "receipts.jsonl").read_text()


def test_receipts_that_a_machine_left_as_it_stopped(start, tmp_path):
    """Zeros and half a line: what was whole is read, and what comes then, too."""
    (tmp_path / "state").mkdir()
    old = json.dumps({"model": "echo", "to": {"generation": 41}})
    (tmp_path / "state" / "receipts.jsonl").write_text(
        old + "\n" + "\0" * 5000 + old + "\n" + old[:20])
    moult = start(echo_section())
    assert moult.status("echo")["generation"] == 42
    assert moult.reload("echo").returncode == 0
    assert [r["to"]["generation"] for r in moult.receipts("echo")] == [41, 41, 42, 43]


def test_receipts_that_cannot_be_written_say_where(start):
    moult = start(echo_section())
    path = moult.home / "state" / "receipts.jsonl"
    path.unlink()
    path.mkdir()
    assert moult.reload("echo").returncode == 0
    wait_for("the warning", lambda: f'error="Is a directory" path="{path}"' in moult.log_text()
             or f'error="Is a directory" path={path}' in moult.log_text())
