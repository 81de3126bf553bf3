# SPDX-License-Identifier: Apache-2.0
"""Starting a loader when the machine has nothing left to give: a clear reason, what serves
goes on serving, and a reload works again when there is room."""
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from harness import BUILD, Load, echo_body, echo_section, patience, wait_for

MIB = 1 << 20
BODY = echo_body([1, 2, 3, 4])


def check_failed_reload(moult, *reasons):
    """A reload fails for one of @reasons while clients are served."""
    result = moult.reload("echo")
    assert result.returncode != 0
    receipt = moult.receipts("echo")[-1]
    assert receipt["outcome"] == "failed"
    assert any(reason in receipt["reason"] for reason in reasons), receipt["reason"]


def check_good_reload(moult):
    result = moult.reload("echo")
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_descriptors(start):
    moult = start(echo_section())
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    soft, hard = resource.prlimit(moult.pid, resource.RLIMIT_NOFILE)
    moult.ctl("status")
    highest = max(int(fd) for fd in os.listdir(f"/proc/{moult.pid}/fd"))
    # Two more for moultctl and what is opened for it; a loader needs nine.
    resource.prlimit(moult.pid, resource.RLIMIT_NOFILE, (highest + 3, hard))
    check_failed_reload(moult, "Too many open files")
    load.wait_more(100)
    resource.prlimit(moult.pid, resource.RLIMIT_NOFILE, (soft, hard))
    check_good_reload(moult)
    load.wait_more(100)
    load.stop_and_check()


@pytest.mark.parametrize("n_clients", [0, 3])
def test_no_descriptor_for_a_client(start, n_clients):
    """It waits, and is answered when there is one again, though nobody hangs up."""
    moult = start(echo_section())

    def ask():
        client = socket.create_connection(("127.0.0.1", moult.port), timeout=patience())
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        return client
    clients = [ask() for _ in range(n_clients)]
    assert all(client.recv(4096).startswith(b"HTTP/1.1 200") for client in clients)
    soft, hard = resource.prlimit(moult.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(moult.pid, resource.RLIMIT_NOFILE, (3, hard))
    late = [ask() for _ in range(3)]
    wait_for("a word", lambda: "event=http_no_descriptors" in moult.log_text())
    resource.prlimit(moult.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert all(client.recv(4096).startswith(b"HTTP/1.1 200") for client in late)
    for client in clients + late:
        client.close()


def test_clients_leave_descriptors_for_a_loader(start, monkeypatch):
    few = 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * few), hard))
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **keys: real(
        *arguments, **keys, preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (few, few))))
    moult = start(echo_section(warmup_runs=0))
    monkeypatch.setattr(subprocess, "Popen", real)
    assert "event=http_limited max_connections=1024 connections=168" in moult.log_text()
    moult.note_fds()
    clients = []
    for _ in range(300):
        clients.append(socket.create_connection(("127.0.0.1", moult.port), timeout=patience()))
        clients[-1].sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert clients[-1].recv(4096).startswith(b"HTTP/1.1 200")
    pid = moult.status("echo")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for("another loader", lambda: moult.status("echo")["pid"] not in (0, pid))
    assert moult.post("/v2/models/echo/infer", BODY)[0] == 200
    for client in clients:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_address_space(start):
    moult = start(echo_section(response_arena="64M"))
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    used = int(pathlib.Path(f"/proc/{moult.pid}/statm").read_text().split()[0])
    limit = used * resource.getpagesize() + 16 * MIB
    resource.prlimit(moult.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    check_failed_reload(moult, "Cannot allocate memory")
    load.wait_more(100)
    resource.prlimit(moult.pid, resource.RLIMIT_AS,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check_good_reload(moult)
    load.stop_and_check()


def pids_group():
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "pids" in controllers.split(","):
            root = pathlib.Path("/sys/fs/cgroup/pids")
        elif number == "0" and not controllers:
            root = pathlib.Path("/sys/fs/cgroup")
        else:
            continue
        here = root / path.lstrip("/")
        group = (here if here.exists() else root) / f"moult-pids-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "pids.max").exists():
            return group
        group.rmdir()
    return None


def test_no_large_files(start, tmp_path):
    """RLIMIT_FSIZE (LimitFSIZE=): what would be larger is refused, and nobody dies of it."""
    weights = tmp_path / "weights.bin"
    weights.write_bytes(os.urandom(4 * MIB))
    moult = start(echo_section(path=weights))
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    resource.prlimit(moult.pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    (tmp_path / "new").write_bytes(os.urandom(4 * MIB))
    os.rename(tmp_path / "new", weights)
    moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    check_failed_reload(moult, "File too large")
    load.wait_more(100)
    resource.prlimit(moult.pid, resource.RLIMIT_FSIZE,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    check_good_reload(moult)
    load.stop_and_check()


def test_no_processes(start):
    group = pids_group()
    if not group:
        pytest.skip("no control group for processes may be made here")
    try:
        moult = start(echo_section())
        load = Load(moult.port, clients=2)
        load.wait_more(100)
        (group / "cgroup.procs").write_text(str(moult.pid))
        (group / "pids.max").write_text("1")
        check_failed_reload(moult, "Resource temporarily unavailable")
        load.wait_more(100)
        (group / "pids.max").write_text("max")
        check_good_reload(moult)
        load.stop_and_check()
        moult.stop()
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        wait_for("an empty group", lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.parametrize("damage, reason", [
    ("missing", "No such file"),
    ("not executable", "Permission denied"),
    ("no program", "Exec format error"),
    ("another program", "exit code"),
])
def test_broken_loader_program(start, tmp_path, damage, reason):
    """An upgrade gone wrong: the loader that runs needs its program no more."""
    program = tmp_path / "moult-loader"
    shutil.copy2(BUILD / "moult-loader", program)
    moult = start(echo_section(), supervisor=f"loader = {program}\nengine_dir = {BUILD}\n")
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    program.unlink()
    if damage == "not executable":
        shutil.copy(BUILD / "moult-loader", program)
        program.chmod(0o644)
    elif damage == "no program":
        program.write_bytes(b"\x7fELF" + b"\0" * 100)
        program.chmod(0o755)
    elif damage == "another program":
        shutil.copy2("/bin/true", program)
    check_failed_reload(moult, reason)
    load.wait_more(100)
    # The one that runs dies, too: clients wait until the program is back.
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    wait_for("a vain attempt", lambda: sum(r["cause"] == "crash" and r["outcome"] == "failed"
                                           for r in moult.receipts("echo")) >= 1)
    program.unlink(missing_ok=True)
    fresh = tmp_path / "fresh"
    shutil.copy2(BUILD / "moult-loader", fresh)
    os.rename(fresh, program)
    load.wait_more(100)
    load.stop_and_check()


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "moult-test", place],
                             capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk(small_disk, start, tmp_path):
    """Receipts and what is kept of good generations are lost, loudly; requests are not."""
    (tmp_path / "state").symlink_to(small_disk)
    moult = start(echo_section())
    load = Load(moult.port, clients=2)
    load.wait_more(100)
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass
    # The last page of the receipts still has room: for a part of the next line.
    size = (small_disk / "receipts.jsonl").stat().st_size
    with open(small_disk / "receipts.jsonl", "ab") as receipts:
        receipts.write(b"\n" * (4096 - size % 4096 - 100))
    check_good_reload(moult)
    assert "event=receipt_lost" in moult.log_text()
    (moult.models / "0.conf").write_text(echo_section(max_batch=3, watch_window=0))
    wait_for("the new section", lambda: "event=last_good_lost" in moult.log_text())
    load.wait_more(100)
    (small_disk / "filler").unlink()
    check_good_reload(moult)
    lines = (small_disk / "receipts.jsonl").read_text().split("\n")
    assert all(json.loads(line)["model"] == "echo" for line in lines if line)
    load.stop_and_check()
