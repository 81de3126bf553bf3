# SPDX-License-Identifier: Apache-2.0
"""As whom moultd and its loaders run."""
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

import harness
from harness import BUILD, echo_body, echo_section, wait_for

USER = "nobody"
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody")


@pytest.fixture
def place():
    """Where an ordinary user may go, with programs of its own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        for program in ("moult-loader", "moult-engine-identity.so"):
            shutil.copy(BUILD / program, name)
            os.chmod(pathlib.Path(name, program), 0o755)
        yield pathlib.Path(name)


def supervisor(place):
    return f"loader = {place}/moult-loader\nengine_dir = {place}\n"


def ids(pid):
    """Real, effective, saved and file system user, and the same of groups."""
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return set(status["Uid"].split()), set(status["Gid"].split()), status


@NEEDS_ROOT
def test_root_becomes_the_user(place):
    entry = pwd.getpwnam(USER)
    moult = harness.Moult(place, [echo_section()],
                          supervisor=supervisor(place), user=USER)
    try:
        moult.wait_ready()
        for pid in (moult.pid, moult.status("echo")["pid"]):
            users, groups, status = ids(pid)
            assert users == {str(entry.pw_uid)}, status
            assert groups == {str(entry.pw_gid)}, status
            assert "0" not in status["Groups"].split() or entry.pw_gid == 0, status
            assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0, status
        assert (place / "state").stat().st_uid == entry.pw_uid
        assert moult.socket.stat().st_uid == entry.pw_uid
        assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
        assert moult.reload("echo").returncode == 0
        os.kill(moult.status("echo")["pid"], signal.SIGKILL)
        assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
        assert len(moult.receipts("echo")) >= 2
        assert "event=runs_as_root" not in moult.log_text()
        moult.stop()
        # What it left is its own: another start goes on there.
        moult.launch().wait_ready()
        moult.stop()
    finally:
        moult.kill()


def test_root_that_is_meant(start):
    """Whoever is not root stays who they are."""
    moult = start(echo_section())
    assert moult.log_text().count("event=runs_as_root") == (os.geteuid() == 0)
    check = subprocess.run([BUILD / "moultd", "-t", "-c", moult.config],
                           capture_output=True, text=True)
    assert check.returncode == 0 and "user" not in check.stderr, check.stderr


@NEEDS_ROOT
def test_root_without_a_user(start):
    moult = start(echo_section())
    moult.stop()
    moult.config.write_text(moult.head.replace("user = root\n", ""))
    moult.launch()
    assert moult.process.wait(60) == 1
    assert "event=start_failed" in moult.log_text()
    for how in ([], ["-t"], ["-t", "--load"]):
        refused = subprocess.run([BUILD / "moultd", *how, "-c", moult.config],
                                 capture_output=True, text=True)
        assert refused.returncode == 1
        assert refused.stderr.count("say in [supervisor] user = NAME") == 1, refused.stderr
        assert "or user = root if that is meant" in refused.stderr
        assert "event=loader" not in refused.stderr and refused.stdout == ""


@NEEDS_ROOT
def test_root_by_another_name(start, tmp_path):
    """As toor of the BSDs."""
    names = tmp_path / "passwd"
    names.write_text(pathlib.Path("/etc/passwd").read_text() + "toor:x:0:0::/root:/bin/sh\n")
    moult = start(echo_section())
    moult.stop()
    moult.config.write_text(moult.head.replace("user = root", "user = toor"))
    refused = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /etc/passwd && exec "$2" -c "$3"',
         "sh", names, BUILD / "moultd", moult.config], capture_output=True, text=True)
    if "unshare" in refused.stderr or "mount:" in refused.stderr:
        pytest.skip("no mount namespace here: " + refused.stderr)
    assert refused.returncode == 1 and "root by another name" in refused.stderr


@pytest.mark.parametrize("user, said", [("no-such-user", "there is no user")])
def test_a_user_that_cannot_be(start, user, said):
    moult = start(echo_section())
    moult.stop()
    moult.config.write_text(moult.head.replace("user = root", f"user = {user}"))
    moult.launch()
    assert moult.process.wait(60) == 1
    assert "event=start_failed" in moult.log_text() and said in moult.log_text()
    check = subprocess.run([BUILD / "moultd", "-t", "-c", moult.config],
                           capture_output=True, text=True)
    assert said in check.stderr, check.stderr


@NEEDS_ROOT
def test_an_ordinary_user_cannot_become_another(place):
    moult = harness.Moult(place, [echo_section()],
                          supervisor=supervisor(place), user="daemon")
    moult.kill()
    shutil.copy(BUILD / "moultd", place)
    result = subprocess.run(
        [place / "moultd", "-c", moult.config], user=USER, group="nogroup", extra_groups=[],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "cannot become 'daemon'" in result.stderr, result.stderr


def test_it_is_closed(start):
    """Whoever it is: nobody gets more rights by a program, and no core is written."""
    moult = start(echo_section())
    for pid in (moult.pid, moult.status("echo")["pid"]):
        _, _, status = ids(pid)
        assert status["NoNewPrivs"] == "1"
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits


@NEEDS_ROOT
def test_its_own_user_cannot_look_into_it(place):
    """Another program of moultd's user has neither its environment nor its memory."""
    entry = pwd.getpwnam(USER)
    moult = harness.Moult(place, [echo_section()],
                          supervisor=supervisor(place), user=USER)
    try:
        moult.wait_ready()
        for file in ("environ", "maps", "fd/0"):
            reader = subprocess.run(
                ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
                 "--clear-groups", "cat", f"/proc/{moult.pid}/{file}"],
                capture_output=True, check=False)
            assert reader.returncode != 0, file
        moult.check_conservation()
    finally:
        moult.stop()
