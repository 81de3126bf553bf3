# SPDX-License-Identifier: Apache-2.0
"""Reloads on a GPU, or on what tests/fakes makes of memfds: which way is taken, and that the
memory of a loader that is gone is proven to be back.

The fake's memory is the kernel's own account, so kill -9 gives back exactly what it does.
"""
import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from harness import (BUILD, Load, children, echo_section, is_alive, slowness, stretch,
                     wait_for)

MIB = 1 << 20
WEIGHTS = 64  # MiB, of engine fakegpu
DRIVER = 256  # MiB that the fake's driver holds of a card
UUIDS = [f"GPU-00000000-0000-4000-8000-00000000000{i}" for i in range(2)]
MACHINES = itertools.count()
RELOADS = int(os.environ.get("MOULT_GPU_RELOADS", "40"))


class Card:
    """The fake driver's settings for one moultd."""

    def __init__(self, tmp_path, mib, library="fakegpu", cards=1):
        self.control = tmp_path / "gpu-faults"
        self.environment = {"LD_LIBRARY_PATH": str(BUILD / library),
                            "NVIDIA_FAKE_MACHINE": f"{os.getpid()}.{next(MACHINES)}",
                            "NVIDIA_FAKE_CARDS": str(cards),
                            "NVIDIA_FAKE_MIB": str(mib + DRIVER),
                            "NVIDIA_FAKE_CONTROL": str(self.control)}

    def faults(self, *lines):
        fresh = self.control.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in lines))
        os.rename(fresh, self.control)


def section(name="echo", device="cuda:0", mib=WEIGHTS, **keys):
    return echo_section(name, engine="fakegpu", device=device,
                        **{"option.mib": mib, "reclaim_timeout": "5s", **keys})


def begin(start, tmp_path, mib, *sections, reserve=0, library="fakegpu", head="", cards=1,
          visible=None, context=None, **keys):
    card = Card(tmp_path, mib, library, cards)
    if visible is not None:
        card.environment["CUDA_VISIBLE_DEVICES"] = visible
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    supervisor = head or f"[device cuda:0]\nreserve = {reserve}M\n"
    sections = sections or [section(secrets=tmp_path / "secrets", **keys)]
    moult = start(*sections, supervisor=supervisor, environment=card.environment,
                  context=context)
    favour_helper(moult)
    return moult, card


def favour_helper(moult):
    """A decision waits 50 ms for it and then does without: that is not to depend on who else
    computes here."""
    pid = helper(moult)
    if pid:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, pid, -20)


def glance(moult, i=0):
    """Whoever looks on waits for nothing: the figures are of the last report."""
    return moult.status()["supervisor"]["devices"][i]


def gpu(moult, i=0):
    """Figures that are no older than this call."""
    begun = time.monotonic()

    def fresh():
        card = glance(moult, i)
        # moultd rounds down.
        is_fresh = card["known"] and card["age_ms"] + 1 < (time.monotonic() - begun) * 1000
        return is_fresh and card
    return wait_for("figures", fresh)


def helper(moult):
    """The pid of moult-nvml."""
    return next((pid for pid in children(moult.pid) if pathlib.Path(
        f"/proc/{pid}/comm").read_text().strip() == "moult-nvml"), None)


def printed(moult, *arguments):
    """What moultctl says to people."""
    return subprocess.run([BUILD / "moultctl", "-s", moult.socket, *arguments],
                          capture_output=True, text=True, check=True).stdout


def is_so(figure, mib):
    """A helper that does not get to run leaves figures out, and says no wrong ones."""
    return figure is None or figure == mib * MIB


def rotate(moult, tmp_path, value):
    before = len(moult.receipts("echo"))
    moult.write_secret(tmp_path / "secrets", "token", str(value))
    return wait_for("a receipt", lambda: moult.receipts("echo")[before:])[0]


def rotate_until_known(moult, tmp_path, is_enough=lambda reclaim: True):
    """Rotates until moultd could tell what became of the old one's memory: on a busy machine no
    figure may have come between a loader's start and its first memory. Its receipt, which is
    enough."""
    number = itertools.count(len(moult.receipts("echo")))

    def rotate_once():
        gpu(moult)  # the old one is noted as being there
        receipt = rotate(moult, tmp_path, f"known-{next(number)}")
        assert receipt["outcome"] == "ok", receipt
        reclaim = receipt["gpu"]["reclaim"]
        return reclaim["verdict"] != "unknown" and is_enough(reclaim) and receipt
    return wait_for("a receipt that knows", rotate_once)


@pytest.mark.parametrize("mib, wanted, strategy", [
    (3 * WEIGHTS, "auto", "overlap"),
    (WEIGHTS * 3 // 2, "auto", "staged"),
    (WEIGHTS * 3 // 2, "staged", "staged"),
    (WEIGHTS * 3 // 2, "stop-first", "stop-first"),
])
def test_the_card_decides(start, tmp_path, mib, wanted, strategy):
    moult, _ = begin(start, tmp_path, mib, strategy=wanted)
    moult.note_fds()
    load = Load(moult.port)
    first = gpu(moult)
    assert first["uuid"] == UUIDS[0] and first["known"], first
    assert first["used_bytes"] == (DRIVER + WEIGHTS) * MIB
    assert first["loaders_bytes"] == WEIGHTS * MIB
    n_known = n_freed = n = 0

    def rotate_once():
        nonlocal n_known, n_freed, n
        n += 1
        receipt = rotate(moult, tmp_path, n)
        assert receipt["outcome"] == "ok" and receipt["strategy"] == strategy, receipt
        card = receipt["gpu"]
        assert card["uuid"] == UUIDS[0]
        copies = 2 if strategy == "overlap" else 1
        assert is_so(card["before_bytes"], DRIVER + WEIGHTS), card
        assert is_so(card["peak_bytes"], DRIVER + copies * WEIGHTS), card
        assert is_so(card["after_bytes"], DRIVER + WEIGHTS), card
        n_known += card["peak_bytes"] is not None
        assert card["reclaim"]["verdict"] in ("freed", "unknown"), card
        if card["reclaim"]["verdict"] == "freed":
            assert 0 <= card["reclaim"]["unlisted_ms"] <= card["reclaim"]["freed_ms"] < 5000
            n_freed += 1
        return n >= 5 and n_known > 0 and n_freed > 0
    wait_for("one that is known and proven", rotate_once)
    load.stop_and_check()


def test_what_people_see(start, tmp_path):
    moult, _ = begin(start, tmp_path, 3 * WEIGHTS)
    number = itertools.count(1)

    def has_all():
        """Each of the four was had in time: on a busy machine one may be missing."""
        card = rotate(moult, tmp_path, next(number))["gpu"]
        return card["reclaim"]["verdict"] == "freed" and None not in (
            card["before_bytes"], card["peak_bytes"], card["after_bytes"])
    wait_for("a receipt with all figures", has_all)
    gpu(moult)
    metrics = moult.get("/metrics")[1].decode()
    label = f'{{device="cuda:0",uuid="{UUIDS[0]}"}}'
    assert f"moult_device_total_bytes{label} {(DRIVER + 3 * WEIGHTS) * MIB}\n" in metrics
    assert f"moult_device_used_bytes{label} {(DRIVER + WEIGHTS) * MIB}\n" in metrics
    text = printed(moult, "receipts", "-n", "1")
    assert "  gpu       cuda:0 in use: 320.0 MiB before, 384.0 MiB at the peak, " \
        "320.0 MiB after\n" in text, text
    assert re.search(r"  reclaim   freed; reaped after \S+ m?s, off the driver's list after "
                     r"\S+ m?s, bytes back after \S+ m?s\n", text), text
    card = gpu(moult)
    assert [loader["bytes"] for loader in card["loaders"]] == [WEIGHTS * MIB], card
    assert card["loaders"][0]["pid"] == moult.status("echo")["pid"]
    assert f"moult_device_loaders_bytes{label} {WEIGHTS * MIB}\n" in metrics
    assert f"moult_device_xids_total{label} 0\n" in metrics
    text = printed(moult, "status")
    assert f"cuda:0 ({UUIDS[0]}): 320.0 MiB of 448.0 MiB in use, 64.0 MiB by loaders\n" \
        in text, text
    explained = json.loads(moult.ctl("reload", "echo", "--explain").stdout.splitlines()[0])
    assert explained["gpu_decision"]["need_bytes"] == WEIGHTS * MIB, explained


def test_overlap_is_refused_where_two_do_not_fit(start, tmp_path):
    moult, _ = begin(start, tmp_path, WEIGHTS * 3 // 2, strategy="overlap")
    generation = moult.status("echo")["generation"]
    receipt = rotate(moult, tmp_path, 1)
    assert receipt["outcome"] == "failed" and receipt["strategy"] == "refused"
    assert "raise budget in [device cuda:0]" in receipt["reason"], receipt
    assert moult.status("echo")["generation"] == generation


def test_the_budget_of_a_card_counts(start, tmp_path):
    moult, _ = begin(start, tmp_path, 1024,
                     head=f"[device cuda:{UUIDS[0]}]\nbudget = {WEIGHTS * 3 // 2}M\n"
                          "reserve = 0\n")
    assert gpu(moult)["budget_bytes"] == WEIGHTS * 3 // 2 * MIB
    assert rotate(moult, tmp_path, 1)["strategy"] == "staged"


def test_handoff_of_the_host_is_an_overlap_on_the_card(start, tmp_path):
    """Weights are shared in main memory only."""
    (tmp_path / "weights.bin").write_bytes(b"w" * MIB)
    moult, _ = begin(start, tmp_path, 3 * WEIGHTS, path=tmp_path / "weights.bin")
    receipt = rotate(moult, tmp_path, 1)
    assert receipt["strategy"] == "overlap", receipt
    assert receipt["gpu"]["decision"]["strategy"] == "overlap"


def test_cards_are_known_by_uuid(start, tmp_path):
    """Two names of one card, and a loader sees no other."""
    moult, _ = begin(start, tmp_path, 512, section("a", device="cuda:1"),
                     section("b", device=f"cuda:{UUIDS[1]}"), head="[device host]\n", cards=2)
    devices = moult.status()["supervisor"]["devices"]
    assert [d["uuid"] for d in devices] == [UUIDS[1]], devices
    card = gpu(moult)
    assert card["loaders_bytes"] == 2 * WEIGHTS * MIB
    assert card["used_bytes"] == (DRIVER + 2 * WEIGHTS) * MIB


@pytest.mark.parametrize("visible, uuid", [
    ("1,0", UUIDS[1]),
    (UUIDS[1], UUIDS[1]),
    ("GPU-00000000", None),  # both of them
    ("MIG-5c89852c-d268-5c3f-1b07-005d5ae1dc3f", None),
])
def test_numbers_count_in_what_is_visible(start, tmp_path, visible, uuid):
    """What CUDA alone can tell is left to it: such a model has its budget only."""
    moult, _ = begin(start, tmp_path, 512, visible=visible, cards=2)
    assert glance(moult)["uuid"] == uuid
    receipt = rotate(moult, tmp_path, 1)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "overlap", receipt


def test_replicas_need_room_on_the_card(start, tmp_path):
    moult, _ = begin(start, tmp_path, WEIGHTS * 5 // 2, replicas=3)
    wait_for("a second", lambda: moult.status("echo")["replicas"]["serving"] == 2)
    wait_for("a refusal", lambda: "event=replica_refused" in moult.log_text())
    assert "64.0 MiB of cuda:0" in moult.log_text()
    assert gpu(moult)["used_bytes"] == (DRIVER + 2 * WEIGHTS) * MIB
    # All of the old ones go before the one that needs their place.
    receipt = rotate(moult, tmp_path, 1)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
    wait_for("a second", lambda: moult.status("echo")["replicas"]["serving"] == 2)


def test_a_slow_card_is_waited_for(start, tmp_path):
    """The process is gone at once, its memory is not: nothing is built on it before."""
    moult, card = begin(start, tmp_path, WEIGHTS * 3 // 2, reclaim_timeout="60s")
    slow_ms = int(400 * slowness())
    card.faults(f"slow {slow_ms}")
    load = Load(moult.port)
    for _ in range(3):
        # The process goes from the list before its memory does; a late look sees both at once.
        receipt = rotate_until_known(
            moult, tmp_path, lambda reclaim: reclaim["unlisted_ms"] < reclaim["freed_ms"])
        assert receipt["strategy"] == "staged", receipt
        reclaim = receipt["gpu"]["reclaim"]
        assert reclaim["verdict"] == "freed", reclaim
        assert 0.95 * slow_ms < reclaim["freed_ms"], reclaim
    load.stop_and_check()


def test_a_pid_that_stays_on_the_list(start, tmp_path):
    moult, card = begin(start, tmp_path, 3 * WEIGHTS, reclaim_timeout=stretch(300))
    card.faults("stick")
    # The candidate serves already: it goes on.
    reclaim = rotate_until_known(moult, tmp_path)["gpu"]["reclaim"]
    assert reclaim["verdict"] == "residual", reclaim
    assert reclaim["unlisted_ms"] is None and reclaim["freed_ms"] is None, reclaim
    pid = re.findall(r"event=reclaim .*?pid=(\d+) .*?verdict=residual", moult.log_text())[-1]
    assert f"process {pid} holds 64.0 MiB" in reclaim["residue"], reclaim
    card.faults()


def hold_memory(tmp_path, pid):
    """Somebody else, whom moultd does not know and may not kill, has the memory of @pid too."""
    name = tmp_path / "moult-other"  # one that the fake driver lists
    name.symlink_to("/bin/sleep")
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:fakegpu" in os.readlink(fd):
            mine = os.open(fd, os.O_RDWR)
            holder = subprocess.Popen([name, "3600"], pass_fds=[mine])
            os.close(mine)
            return holder
    raise AssertionError("there is none")


def test_what_is_left_behind_is_named_and_refused(start, tmp_path):
    """Somebody else keeps the memory: the candidate that needs it is not let to try."""
    moult, _ = begin(start, tmp_path, WEIGHTS * 3 // 2, reclaim_timeout=stretch(300),
                     retry_delay="100ms")
    holder = hold_memory(tmp_path, moult.status("echo")["pid"])
    try:
        receipt = rotate(moult, tmp_path, 1)
        assert receipt["outcome"] == "failed", receipt
        reclaim = receipt["gpu"]["reclaim"]
        if "out of memory" in receipt["reason"] or reclaim["verdict"] == "unknown":
            # The helper's figures came too late to be a reason.
            assert slowness() > 2, receipt
        else:
            assert receipt["strategy"] == "staged", receipt
            assert reclaim["verdict"] == "residual", receipt
            assert reclaim["residual_bytes"] == WEIGHTS * MIB
            assert reclaim["unlisted_ms"] is not None and reclaim["freed_ms"] is None
            assert f"process {holder.pid} holds 64.0 MiB" in receipt["reason"], receipt
    finally:
        holder.kill()
        holder.wait()
    # As soon as it is gone the model serves again, by itself.
    wait_for("a generation", lambda: moult.status("echo")["generation"])
    wait_for("one copy", lambda: gpu(moult)["used_bytes"] == (DRIVER + WEIGHTS) * MIB)


@pytest.mark.parametrize("fault", ["none", "slow 50", "blind"])
def test_killed_at_any_moment(start, tmp_path, fault):
    moult, card = begin(start, tmp_path, WEIGHTS * 3 // 2)
    if fault != "none":
        card.faults(fault)
    moult.note_fds()
    load = Load(moult.port)
    for i in range(20):
        moult.write_secret(tmp_path / "secrets", "token", f"kill-{i}")
        deadline = time.monotonic() + (i % 10) * 0.01
        while time.monotonic() < deadline:
            time.sleep(0.001)
        for pid in children(moult.pid):
            if pid != helper(moult):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
        load.wait_more(20)
    load.stop_and_check()
    moult.wait_quiet()
    wait_for("one copy", lambda: gpu(moult)["used_bytes"] == (DRIVER + WEIGHTS) * MIB)


def test_nothing_is_left_after_many_reloads(start, tmp_path):
    moult, _ = begin(start, tmp_path, WEIGHTS * 5 // 2)
    moult.note_fds()
    load = Load(moult.port, clients=2)
    reclaims, n = [], 0
    # One whose helper did not get to run in time has no figure to begin with.
    while n < RELOADS or len(reclaims) < RELOADS * 3 // 4:
        n += 1
        assert n < 10 * RELOADS, reclaims
        receipt = rotate(moult, tmp_path, n)
        assert receipt["outcome"] == "ok", receipt
        assert is_so(receipt["gpu"]["after_bytes"], DRIVER + WEIGHTS), receipt
        reclaim = receipt["gpu"]["reclaim"]
        if reclaim["verdict"] == "freed":
            reclaims.append(reclaim["freed_ms"])
        else:
            assert reclaim["verdict"] == "unknown", receipt
    assert gpu(moult)["used_bytes"] == (DRIVER + WEIGHTS) * MIB
    load.stop_and_check()
    print(f"{n} reloads, {len(reclaims)} proven, "
          f"reclaim median {sorted(reclaims)[len(reclaims) // 2]:.1f} ms, "
          f"longest {max(reclaims):.1f} ms")


def test_an_old_driver(start, tmp_path):
    moult, _ = begin(start, tmp_path, WEIGHTS * 3 // 2, library="fakegpu-old")
    assert gpu(moult)["used_bytes"] == (DRIVER + WEIGHTS) * MIB
    receipt = rotate_until_known(moult, tmp_path)
    assert receipt["strategy"] == "staged"
    assert receipt["gpu"]["reclaim"]["verdict"] == "freed", receipt


def test_without_a_driver(start, tmp_path):
    """Budgets count as ever; what nobody knows is null, and it is said once."""
    moult, _ = begin(start, tmp_path, 1024, library="nowhere",
                     head=f"[device cuda:0]\nbudget = {WEIGHTS * 3 // 2}M\nreserve = 0\n")
    card = glance(moult)
    assert not card["known"] and card["used_bytes"] is None and card["uuid"] is None
    for i in range(3):
        receipt = rotate(moult, tmp_path, i + 1)
        assert receipt["outcome"] == "ok", receipt
        assert receipt["gpu"]["reclaim"]["verdict"] == "unknown", receipt
    assert moult.log_text().count("event=gpu_unknown") == 1
    assert helper(moult) is None


def test_models_of_the_host_need_no_driver(start):
    moult = start(echo_section())
    assert moult.status()["supervisor"]["devices"] == []
    assert helper(moult) is None and "gpu" not in moult.log_text()


def test_the_driver_goes_and_comes(start, tmp_path):
    """A helper that dies, or calls that fail: reloads go on, on less knowledge."""
    moult, card = begin(start, tmp_path, 3 * WEIGHTS, reclaim_timeout=stretch(200))
    load = Load(moult.port, clients=2)
    card.faults("fail")
    receipt = rotate(moult, tmp_path, "fail")
    assert receipt["outcome"] == "ok", receipt
    assert receipt["gpu"]["after_bytes"] is None
    assert receipt["gpu"]["reclaim"]["verdict"] == "unknown", receipt
    card.faults()
    wait_for("figures", lambda: glance(moult)["known"])
    first = helper(moult)
    os.kill(first, signal.SIGKILL)
    wait_for("its end", lambda: not is_alive(first))
    assert rotate(moult, tmp_path, "die")["outcome"] == "ok"
    wait_for("another helper", lambda: helper(moult))
    wait_for("figures", lambda: glance(moult)["known"])
    assert rotate(moult, tmp_path, "back")["outcome"] == "ok"
    load.stop_and_check()


def test_a_driver_that_hangs_stops_nobody(start, tmp_path):
    moult, card = begin(start, tmp_path, 3 * WEIGHTS, reclaim_timeout=stretch(200))
    load = Load(moult.port, clients=2)
    card.faults("silent 5000")
    receipt = rotate(moult, tmp_path, "silent")
    assert receipt["outcome"] == "ok", receipt
    # Each look of a decision waits 50 ms at most, and none does once it is known.
    wait_for("the word", lambda: glance(moult) and "event=gpu_silent" in moult.log_text())
    longest = 0
    for _ in range(20):
        begun = time.monotonic()
        moult.get("/v2/health/live")
        longest = max(longest, time.monotonic() - begun)
    assert longest < slowness(), longest
    load.stop_and_check()
    card.faults()
    wait_for("answers", lambda: glance(moult) and "event=gpu_answers" in moult.log_text())


@contextlib.contextmanager
def somebody_else(tmp_path, card, mib):
    """Holds so much of the card, and moultd does not know it."""
    name = tmp_path / "moult-other"
    name.symlink_to("/bin/sleep")
    memory = os.memfd_create(f"fakegpu-{card.environment['NVIDIA_FAKE_MACHINE'][:16]}-0")
    os.truncate(memory, mib * MIB)
    holder = subprocess.Popen([name, "3600"], pass_fds=[memory])
    os.close(memory)
    try:
        yield
    finally:
        holder.kill()
        holder.wait()


def test_figures_that_come_late_decide_nevertheless(start, tmp_path):
    """On a busy machine the helper runs later than a look waits: a reload beside what serves is
    decided by what the card has left now, and not by what it had."""
    moult, card = begin(start, tmp_path, 3 * WEIGHTS, strategy="overlap")
    pid = helper(moult)
    os.kill(pid, signal.SIGSTOP)
    with somebody_else(tmp_path, card, 3 * WEIGHTS // 2):
        before = len(moult.receipts("echo"))
        moult.write_secret(tmp_path / "secrets", "token", "1")
        wait_for("the wait, or its end", lambda: "event=reload_waits" in moult.log_text() or
                 moult.receipts("echo")[before:])
        os.kill(pid, signal.SIGCONT)
        receipt = wait_for("a receipt", lambda: moult.receipts("echo")[before:])[0]
        assert receipt["outcome"] == "failed" and receipt["strategy"] == "refused", receipt
        assert "32.0 MiB are free" in receipt["reason"], receipt
    assert moult.reload("echo").returncode == 0


def test_a_helper_that_speaks_garbage(start, tmp_path):
    """It is killed at its first word, and nothing it said is kept; moultd goes on."""
    moult, card = begin(start, tmp_path, 3 * WEIGHTS)
    moult.note_fds()
    load = Load(moult.port, clients=2)
    first = helper(moult)
    card.faults("garbage")
    wait_for("the word", lambda: glance(moult) and "event=gpu_helper_garbage" in moult.log_text())
    wait_for("its end", lambda: not is_alive(first))
    assert rotate(moult, tmp_path, "garbage")["outcome"] == "ok"
    card.faults()
    wait_for("figures", lambda: glance(moult)["known"])
    assert rotate(moult, tmp_path, "sound")["outcome"] == "ok"
    load.stop_and_check()
    moult.wait_quiet()


def test_a_helper_that_is_stopped(start, tmp_path):
    """It neither answers nor ends: reloads go on, and all that moultd does stays quick."""
    moult, _ = begin(start, tmp_path, 3 * WEIGHTS, reclaim_timeout=stretch(200))
    load = Load(moult.port, clients=2)
    pid = helper(moult)
    os.kill(pid, signal.SIGSTOP)
    assert rotate(moult, tmp_path, "stopped")["outcome"] == "ok"
    assert rotate(moult, tmp_path, "again")["outcome"] == "ok"
    os.kill(pid, signal.SIGCONT)
    wait_for("figures", lambda: glance(moult)["known"])
    os.kill(pid, signal.SIGSTOP)
    load.stop_and_check()
    # The end does not wait for it either.
    moult.stop()
    assert not is_alive(pid)


def test_a_card_that_is_not_there(start, tmp_path):
    """A typing error in a UUID is refused and named; what serves goes on serving."""
    wrong = "cuda:GPU-00000000-0000-4000-8000-0000000000ff"
    moult, _ = begin(start, tmp_path, 3 * WEIGHTS)
    load = Load(moult.port, clients=2)
    generation = moult.status("echo")["generation"]
    moult.config.write_text(moult.head + f"[device {wrong}]\nbudget = 1G\n")
    wait_for("a word", lambda: "event=gpu_section_unused" in moult.log_text())
    one = moult.models / "0.conf"
    good = one.read_text()
    one.write_text(good.replace("cuda:0", wrong))
    receipt = wait_for("a refusal", lambda: [r for r in moult.receipts("echo")
                                             if r["outcome"] == "failed"])[0]
    assert receipt["strategy"] == "refused", receipt
    assert f"{wrong}: there is no such GPU" in receipt["reason"], receipt
    assert UUIDS[0] in receipt["reason"], receipt
    assert moult.status("echo")["generation"] == generation
    assert [d["name"] for d in moult.status()["supervisor"]["devices"]] == ["cuda:0"]
    one.write_text(good)
    load.stop_and_check()


def test_a_critical_error_is_told(start, tmp_path):
    """An Xid: logged, counted, and in the receipt of the loader that goes after it."""
    moult, card = begin(start, tmp_path, 3 * WEIGHTS)
    card.faults("xid 31 1")
    seen = wait_for("the error", lambda: glance(moult)["xids"] and glance(moult))
    assert seen["xids"] == 1 and seen["last_xid"] == 31, seen
    assert f"event=gpu_xid uuid={UUIDS[0]} xid=31" in moult.log_text()
    receipt = rotate(moult, tmp_path, 1)
    assert receipt["gpu"]["reclaim"]["xid"] == 31, receipt
    card.faults("xid 79 2")
    wait_for("another", lambda: glance(moult)["last_xid"] == 79)
    metrics = moult.get("/metrics")[1].decode()
    assert f'moult_device_xids_total{{device="cuda:0",uuid="{UUIDS[0]}"}} 2\n' in metrics
    assert "2 critical errors, the last of them Xid 79" in printed(moult, "status")


def test_an_idle_helper_costs_little(start, tmp_path):
    """It is asked once a second, however often somebody looks."""
    moult, _ = begin(start, tmp_path, 3 * WEIGHTS)
    pid = helper(moult)

    def cpu_ms():
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    before, begun = cpu_ms(), time.monotonic()
    while time.monotonic() - begun < 2:
        moult.get("/metrics")
        time.sleep(0.005)
    share = (cpu_ms() - before) / 1000 / (time.monotonic() - begun)
    print(f"moult-nvml: {share * 100:.1f} % of a core")
    assert share < 0.3, share


def test_moultd_opens_no_card_itself(start, tmp_path):
    moult, _ = begin(start, tmp_path, 1024)
    maps = pathlib.Path(f"/proc/{moult.pid}/maps").read_text()
    assert "nvidia" not in maps and "cuda" not in maps
    assert "libnvidia-ml" in pathlib.Path(f"/proc/{helper(moult)}/maps").read_text()
