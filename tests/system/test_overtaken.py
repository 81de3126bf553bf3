# SPDX-License-Identifier: Apache-2.0
"""Newer inputs overtake a candidate that hangs in its load, and changes without end starve none."""
import pytest

from harness import BUILD, Gate, Load, echo_section, wait_for

ENGINES = f"engine_dir = {BUILD}\n"


def configure(moult, section):
    (moult.models / "0.conf").write_text(section)


def hanging(gate, where, version=0):
    """A section whose loader waits for the gate, in its @where."""
    return echo_section(engine="fault", **{"option.fault": f"slow-on-{where}", **gate.keys,
                                           "environment.VERSION": version})


@pytest.mark.parametrize("where", ["stage", "commit"])
def test_newer_inputs_overtake(start, tmp_path, where):
    """The gate stays shut: what hangs never gets to serve, and what served goes on."""
    gate = Gate(tmp_path)
    moult = start(echo_section(), supervisor=ENGINES)
    load = Load(moult.port, clients=2, pause_s=0.01)
    configure(moult, hanging(gate, where))
    wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    configure(moult, echo_section(**{"option.delay_us": 1}))
    failed = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "newer inputs were waiting" in failed["reason"], failed
    served = moult.wait_receipt("echo", lambda r: r["number"] > failed["number"])
    assert served["outcome"] == "ok", served
    load.stop_and_check()
    assert "event=reload_overtaken model=echo gen=2" in moult.log_text()


def test_the_first_one_is_not_overtaken_soon(start, tmp_path):
    """Nobody knows how long it takes."""
    gate = Gate(tmp_path)
    moult = start(hanging(gate, "stage"), supervisor=ENGINES, ready=False)
    wait_for("a candidate", lambda: moult.status("echo")["candidate"])
    configure(moult, echo_section(**{"option.delay_us": 1}))
    wait_for("a word", lambda: "event=reload_pending model=echo" in moult.log_text())
    gate.open()
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok")
    assert "event=reload_overtaken" not in moult.log_text()


def test_changes_without_end_starve_nobody(start, tmp_path):
    """Behind two that were overtaken, the third one has its time."""
    gate = Gate(tmp_path)
    moult = start(echo_section(), supervisor=ENGINES)
    versions = iter(range(1, 1_000_000))

    def change_until(what, condition):
        def is_so():
            configure(moult, hanging(gate, "stage", next(versions)))
            return condition()
        wait_for(what, is_so)

    def overtaken():
        return moult.log_text().count("event=reload_overtaken")
    change_until("two that are overtaken", lambda: overtaken() == 2)
    third = wait_for("the third", lambda: moult.status("echo")["candidate"])
    # The next one waits, and nobody looks any more whether it may go on.
    change_until("one behind it", lambda: moult.log_text().count("event=reload_pending") >= 3)
    gate.open()
    change_until("the third one's end", lambda: any(
        r["outcome"] == "ok" and r["to"]["generation"] == 4 for r in moult.receipts("echo")))
    assert third and overtaken() == 2
