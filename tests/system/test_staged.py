# SPDX-License-Identifier: Apache-2.0
"""A candidate that is STAGED needs something else than its reload was decided by: it is decided
again before anything is placed, and memory stays within the budget."""
import os
import signal

import pytest

from harness import Load, echo_section, wait_for
from hostile import Hostile
from test_inputs import rewrite
from test_share import SharedSampler, copies, share_begin
from test_strategy import COPY, MIB, device, write_model

TIGHT = COPY * 13 // 10 // MIB
PRIVATE = {"option.private": "yes"}
NEWS = "the weights cannot be shared"


def turn_private(moult, tmp_path, **keys):
    """What shares now is configured not to be able to: its loader finds out. The receipt."""
    before = len(moult.receipts())
    rewrite(moult, echo_section(path=tmp_path / "weights.bin", secrets=tmp_path / "secrets",
                                **PRIVATE, **keys))
    return wait_for("a receipt", lambda: moult.receipts()[before:])[0]


@pytest.mark.parametrize("share", ["memory", "file"])
@pytest.mark.parametrize("budget, wanted, strategy", [
    (TIGHT, "auto", "staged"),
    (TIGHT, "overlap", "refused"),
    (TIGHT, "staged", "staged"),
    (TIGHT, "stop-first", "stop-first"),
    (COPY * 26 // 10 // MIB, "auto", "overlap"),
    (COPY * 26 // 10 // MIB, "overlap", "overlap"),
])
def test_what_cannot_share_is_decided_again(start, tmp_path, share, budget, wanted, strategy):
    copy = COPY if share == "memory" else 0
    moult = share_begin(start, tmp_path, device(budget), share=share, strategy=wanted)
    generation = moult.status("echo")["generation"]
    load, sampler = Load(moult.port), SharedSampler(moult.pid)
    receipt = turn_private(moult, tmp_path, share=share, strategy=wanted)
    if share == "file" and strategy in ("refused", "staged") and wanted in ("auto", "overlap"):
        # Nothing of its own was there: it fits.
        strategy = "overlap"
    load.wait_more()
    peak = sampler.stop()
    load.stop_and_check()
    assert receipt["strategy"] == strategy, receipt
    assert peak <= budget * MIB, peak
    assert f"reason=\"{NEWS}\"" in moult.log_text()
    if strategy == "refused":
        assert receipt["outcome"] == "failed", receipt
        assert f"{NEWS}: not enough memory: 4" in receipt["reason"], receipt
        assert moult.status("echo")["generation"] == generation
        assert list(copies(moult.pid).values()) == [copy]
        return
    assert receipt["outcome"] == "ok", receipt
    assert (receipt["phases_ms"]["pause"] > 0) == (strategy in ("staged", "stop-first")), receipt
    assert COPY < receipt["decision"]["need_bytes"] < COPY + 8 * MIB, receipt
    assert copies(moult.pid) == {}
    # The next one is known to have its own.
    assert COPY < moult.explain("echo")["need_bytes"] < COPY + 8 * MIB, moult.explain("echo")


@pytest.mark.parametrize("budget", [TIGHT, 3 * COPY // MIB])
def test_a_replica_that_cannot_share_is_decided_again(start, tmp_path, budget):
    hostile = Hostile(tmp_path)
    moult = share_begin(start, tmp_path, hostile.supervisor + device(budget))
    hostile.say("echo", "share-private-on-staging#once")
    moult.ctl("scale", "echo", "2")
    wait_for("two loaders", lambda: moult.status("echo")["replicas"]["serving"] == 2)
    moult.note_fds()
    log = moult.log_text()
    assert log.count("event=weights_private") == 1
    # The next one shares, as the first was to.
    assert log.count("event=replica_failed") == (budget == TIGHT)
    assert ("another loader needs 48." in log) == (budget == TIGHT)


def test_a_loader_after_a_crash_that_cannot_share_has_the_room_of_the_copy(start, tmp_path):
    """The copy that served is of no use to it, and goes before its own comes."""
    hostile = Hostile(tmp_path)
    moult = share_begin(start, tmp_path, hostile.supervisor + device(TIGHT),
                        strategy="overlap", spare="yes")
    before = len(moult.receipts())
    hostile.say("echo", "share-private-on-staging#once")
    os.kill(moult.status("echo")["pid"], signal.SIGKILL)
    receipt = wait_for("a receipt", lambda: moult.receipts()[before:])[0]
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "stop-first", receipt
    assert receipt["decision"]["need_bytes"] > COPY, receipt
    assert copies(moult.pid) == {}
    moult.note_fds()
