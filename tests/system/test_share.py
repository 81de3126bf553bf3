# SPDX-License-Identifier: Apache-2.0
"""One copy of the weights for all loaders that need it, and none that nobody needs.

The memory is real: what loaders hold for themselves (RssAnon) and what moultd holds for
them (memfds, by their blocks) is sampled a thousand times a second.
"""
import os
import pathlib
import re
import signal

import pytest

from harness import Load, echo_section, stretch, wait_for
from hostile import Hostile, status, wait_settled
from test_hostile import UNKILLABLE, end_stuck, stuck_pids, traced
from test_inputs import rewrite
from test_strategy import COPY, MIB, RELOADS, Sampler, begin, device, rotate, write_model


def copies(pid):
    """Shared copies of weights: {inode: bytes in memory}."""
    found = {}
    try:
        fds = list(pathlib.Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return found
    for fd in fds:
        try:
            if "memfd:moult-weights" in os.readlink(fd):
                status = os.stat(fd)
                found[status.st_ino] = status.st_blocks * 512
        except OSError:
            pass
    return found


class SharedSampler(Sampler):
    """What moultd holds counts as well: its descriptors live as long as the memory does."""

    def extra(self):
        return sum(copies(self.pid).values())


def share_begin(start, tmp_path, supervisor="", **keys):
    return begin(start, tmp_path, supervisor, **{"share": "memory", **keys})


def test_secrets_rotate_over_one_copy(start, tmp_path):
    moult = share_begin(start, tmp_path, device(COPY * 13 // 10 // MIB))
    before = copies(moult.pid)
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    for i in range(3 * RELOADS):
        receipt = rotate(moult, tmp_path, f"good-{i + 1}")
        assert receipt["outcome"] == "ok" and receipt["strategy"] == "handoff", receipt
        assert receipt["phases_ms"]["pause"] == 0
        assert receipt["memory"]["peak"]["shared_bytes"] == COPY
    peak = sampler.stop()
    load.stop_and_check()
    assert COPY <= peak < COPY * 1.3, peak
    # The very same memory, all the time.
    assert copies(moult.pid) == before and list(before.values()) == [COPY]
    weights = moult.status("echo")["weights"]
    assert weights == {"share": "memory", "shared_bytes": COPY, "device_bytes": 0,
                       "why_private": None}


@pytest.mark.parametrize("wanted", ["auto", "staged", "stop-first"])
def test_a_new_file_takes_the_place_of_the_old(start, tmp_path, wanted):
    moult = share_begin(start, tmp_path, device(COPY * 13 // 10 // MIB), strategy=wanted)
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    for i in range(RELOADS):
        before = len(moult.receipts())
        write_model(tmp_path / "weights.bin", seed=i + 2)
        receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
        assert receipt["outcome"] == "ok", receipt
        assert receipt["strategy"] == ("staged" if wanted == "auto" else wanted), receipt
    peak = sampler.stop()
    load.stop_and_check()
    assert COPY <= peak < COPY * 1.3, peak
    assert list(copies(moult.pid).values()) == [COPY]


def test_both_copies_live_side_by_side_where_there_is_room(start, tmp_path):
    moult = share_begin(start, tmp_path)
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    for i in range(RELOADS):
        before = len(moult.receipts())
        write_model(tmp_path / "weights.bin", seed=i + 2)
        receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
        assert receipt["strategy"] == "overlap", receipt
        assert receipt["phases_ms"]["pause"] == 0
        assert receipt["memory"]["peak"]["shared_bytes"] == 2 * COPY
        assert receipt["memory"]["after"]["shared_bytes"] == COPY
    load.stop_and_check()
    # What the other tests take for their limit, this one must be seen to break.
    assert sampler.stop() > 1.5 * COPY
    assert list(copies(moult.pid).values()) == [COPY]


def test_the_next_loader_adopts_what_a_dead_one_filled(start, tmp_path):
    moult = share_begin(start, tmp_path)
    [inode] = copies(moult.pid)
    sha256 = moult.status("echo")["weights_sha256"]
    load = Load(moult.port)
    for _ in range(5):
        pid = moult.status("echo")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for("another loader", lambda: moult.status("echo")["pid"] not in (0, pid))
        assert list(copies(moult.pid)) == [inode]
        assert moult.status("echo")["weights_sha256"] == sha256
    load.stop_and_check()


def test_two_models_of_one_file_have_one_copy(start, tmp_path):
    write_model(tmp_path / "weights.bin")
    moult = start(echo_section(path=tmp_path / "weights.bin"),
                  echo_section("other", path=tmp_path / "weights.bin"))
    wait_for("both", lambda: all(moult.status(n)["state"] == "ready"
                                 for n in ("echo", "other")))
    # They started at once: one filled it, the other waited for that.
    assert list(copies(moult.pid).values()) == [COPY]
    [waited] = re.findall("event=reload_waits model=(\\w+)", moult.log_text())
    moult.note_fds()
    # A new file brings both of them over to one new copy.
    for seed in (2, 3, 4):
        before = len(moult.receipts())
        sampler = SharedSampler(moult.pid)
        write_model(tmp_path / "weights.bin", seed=seed)
        receipts = wait_for("two receipts", lambda: moult.receipts()[before + 1:])
        assert receipts[0]["outcome"] == "ok", receipts
        assert list(copies(moult.pid).values()) == [COPY]
        assert sampler.stop() < 2.3 * COPY


@pytest.mark.parametrize("words", ["silence", "kill", "segv", "exit=1"])
def test_nobody_waits_for_ever_for_a_copy(start, tmp_path, words):
    """The loader that fills it hangs, dies, or cannot even be killed: the other goes on."""
    write_model(tmp_path / "weights.bin")
    hostile = Hostile(tmp_path)
    hostile.say("first", ",".join(f"{word}-on-staging#{word[:4]}" for word in words.split(",")))
    keys = {"path": tmp_path / "weights.bin", "stage_timeout": stretch(1000), **UNKILLABLE}
    moult = start(echo_section("first", **keys), echo_section("second", **keys),
                  supervisor=hostile.supervisor)
    for name in ("first", "second"):
        wait_settled(moult, name)
    assert "event=reload_waits model=second" in moult.log_text()
    assert moult.post("/v2/models/second/infer", b"a body")[0] == 200
    assert list(copies(moult.pid).values()) == [COPY]


def test_a_loader_that_hangs_holds_up_its_own_model_only(start, tmp_path):
    """Nothing serves, and the copy does not grow: the next one is not waited for longer."""
    write_model(tmp_path / "weights.bin")
    hostile = Hostile(tmp_path)
    hostile.say("first", "silence-on-staging#once")
    keys = {"path": tmp_path / "weights.bin", "stage_timeout": "300s", **UNKILLABLE}
    names = ("first", "second", "third")
    moult = start(*(echo_section(name, **keys) for name in names),
                  supervisor=hostile.supervisor, ready=False)
    for name in names[1:]:
        wait_settled(moult, name)
        assert moult.post(f"/v2/models/{name}/infer", b"a body")[0] == 200
        assert moult.log_text().count(f"event=reload_waits model={name}") == 1
    assert status(moult, "first")["candidate"]["state"] == "staging"
    # One more copy, and not one for each.
    assert sorted(copies(moult.pid).values()) == [0, COPY]
    (moult.models / "0.conf").unlink()
    wait_for("one copy", lambda: list(copies(moult.pid).values()) == [COPY])


@traced
def test_nobody_waits_for_a_copy_that_the_kernel_holds(start, tmp_path):
    write_model(tmp_path / "weights.bin")
    hostile = Hostile(tmp_path)
    keys = {"path": tmp_path / "weights.bin", **UNKILLABLE}
    hostile.say("first", "unkillable-on-staging#held,chan-garbage-on-staging#noise")
    moult = start(echo_section("first", **keys), echo_section("second", **keys),
                  supervisor=hostile.supervisor)
    for name in ("first", "second"):
        wait_settled(moult, name)
    assert "event=reload_waits model=second" in moult.log_text()
    end_stuck(moult, hostile, stuck_pids(moult, "first"))
    wait_for("nobody stuck", lambda: not status(moult, "first")["stuck"])
    assert list(copies(moult.pid).values()) == [COPY]


@pytest.mark.parametrize("strategy", ["overlap", "staged", "stop-first"])
@pytest.mark.parametrize("lie, reason", [
    ("share-open", "did not seal"), ("share-hash", "did not seal"),
    ("share-ahead", "took more of the GPU beforehand than it was given"),
])
def test_a_copy_that_is_none_ends_the_candidate(start, tmp_path, strategy, lie, reason):
    hostile = Hostile(tmp_path)
    moult = share_begin(start, tmp_path, hostile.supervisor, strategy=strategy)
    load = Load(moult.port)
    hostile.say("echo", f"{lie}-on-staging#once")
    before = len(moult.receipts())
    write_model(tmp_path / "weights.bin", seed=2)
    receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
    assert receipt["outcome"] == "failed" and reason in receipt["reason"], receipt
    wait_settled(moult, "echo")
    load.stop_and_check()
    assert list(copies(moult.pid).values()) == [COPY]


def test_a_copy_that_nobody_can_use_is_made_again(start, tmp_path):
    """A loader gone mad sealed an empty one and served: its successors cannot use that."""
    hostile = Hostile(tmp_path)
    hostile.say("echo", "share-empty-on-staging#once")
    moult = share_begin(start, tmp_path, hostile.supervisor)
    [inode] = copies(moult.pid)
    pid = moult.status("echo")["pid"]
    load = Load(moult.port)
    os.kill(pid, signal.SIGKILL)
    wait_for("another loader", lambda: moult.status("echo")["pid"] not in (0, pid))
    load.stop_and_check()
    [other] = copies(moult.pid)
    assert other != inode
    assert moult.log_text().count("event=weights_doubted") == 1
    assert moult.status("echo")["state"] == "ready"


def test_a_loader_may_say_that_it_shares_nothing(start, tmp_path):
    hostile = Hostile(tmp_path)
    hostile.say("echo", "share-private-on-staging#once")
    moult = share_begin(start, tmp_path, hostile.supervisor)
    assert copies(moult.pid) == {}
    weights = moult.status("echo")["weights"]
    assert weights["share"] == "off" and "so the hostile" in weights["why_private"]
    assert moult.reload("echo").returncode == 0
    # Somebody asks, so the next one may say otherwise: there is a copy then.
    assert moult.status("echo")["weights"]["share"] == "memory"
    assert len(copies(moult.pid)) == 1
    moult.note_fds()


def test_an_engine_that_cannot_share_has_its_own(start, tmp_path):
    moult = share_begin(start, tmp_path, device(COPY * 13 // 10 // MIB),
                        **{"option.private": "yes"})
    weights = moult.status("echo")["weights"]
    assert weights["share"] == "off" and weights["shared_bytes"] == 0, weights
    assert "option.private" in weights["why_private"], weights
    assert copies(moult.pid) == {}
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    for i in range(RELOADS):
        receipt = rotate(moult, tmp_path, f"good-{i + 1}")
        assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
    assert sampler.stop() < COPY * 1.3
    load.stop_and_check()
    # It is not asked again: that would cost a copy each time.
    assert moult.log_text().count("weights_private") == 1
    assert moult.status("echo")["weights"]["why_private"] == weights["why_private"]


def test_the_file_itself(start, tmp_path):
    moult = share_begin(start, tmp_path, share="file")
    assert copies(moult.pid) == {}
    sha256 = moult.status("echo")["weights_sha256"]
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    receipt = rotate(moult, tmp_path, "good-1")
    assert receipt["strategy"] == "handoff", receipt
    write_model(tmp_path / "weights.bin", seed=2)
    wait_for("a receipt", lambda: moult.receipts()[2:])
    load.stop_and_check()
    assert sampler.stop() < COPY / 4
    assert moult.status("echo")["weights_sha256"] != sha256


def test_sharing_is_switched_off_and_on(start, tmp_path):
    write_model(tmp_path / "weights.bin")
    moult = start(echo_section(path=tmp_path / "weights.bin"))
    load = Load(moult.port)
    for share, count in (("off", 0), ("memory", 1), ("file", 0)):
        before = len(moult.receipts())
        rewrite(moult, echo_section(path=tmp_path / "weights.bin", share=share))
        receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
        assert receipt["outcome"] == "ok", receipt
        wait_for("the copies", lambda: len(copies(moult.pid)) == count)
        assert moult.status("echo")["weights"]["share"] == share
    load.stop_and_check()


@pytest.mark.parametrize("wanted", ["auto", "staged", "stop-first"])
def test_what_is_shared_no_more_makes_room(start, tmp_path, wanted):
    moult = share_begin(start, tmp_path, device(COPY * 13 // 10 // MIB), strategy=wanted)
    load = Load(moult.port)
    sampler = SharedSampler(moult.pid)
    rewrite(moult, echo_section(path=tmp_path / "weights.bin", share="off",
                                secrets=tmp_path / "secrets", strategy=wanted))
    receipt = wait_for("a receipt", lambda: moult.receipts()[1:])[0]
    assert receipt["outcome"] == "ok", receipt
    assert receipt["strategy"] == ("staged" if wanted == "auto" else wanted), receipt
    load.wait_more()
    peak = sampler.stop()
    load.stop_and_check()
    assert COPY <= peak < COPY * 1.3, peak
    assert copies(moult.pid) == {}
