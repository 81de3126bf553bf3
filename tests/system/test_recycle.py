# SPDX-License-Identifier: Apache-2.0
"""Loaders that have answered, lived or grown as much as they may are replaced, and nothing is
lost."""
import re
import subprocess

import pytest

from harness import BUILD, Load, echo_body, echo_section, wait_for

ENGINES = f"engine_dir = {BUILD}\n"
MIB = 1 << 20


def recycles(moult, outcome="ok"):
    return [r for r in moult.receipts("echo")
            if r["cause"] == "recycle" and r["outcome"] == outcome]


def section(**keys):
    return echo_section(**{"watch_window": "0s", **keys})


LEAK = {"engine": "fault", "option.fault": "leak", "option.bytes": 64 << 10}


@pytest.mark.parametrize("keys, replicas, sentence", [
    ({"max_requests": 200}, 1, r"loader (\d+) has answered (\d+) requests "
                               r"\(max_requests = 200\)"),
    ({"max_requests": 200}, 3, r"loader (\d+) has answered (\d+) requests "
                               r"\(max_requests = 200\)"),
    ({"max_age": "300ms"}, 1, r"loader (\d+) has served for ([\d.]+) s "
                              r"\(max_age = 0.3 s\)"),
    ({"max_growth": "4M", **LEAK}, 1, r"loader (\d+) has grown by ([\d.]+) MiB, "
                                      r"from [\d.]+ MiB \(max_growth = 4.0 MiB\)"),
])
def test_a_loader_goes_at_its_limit(start, keys, replicas, sentence):
    moult = start(section(replicas=replicas, **keys), supervisor=ENGINES)
    load = Load(moult.port)
    receipts = wait_for("five", lambda: len(recycles(moult)) >= 5 and recycles(moult))
    load.stop_and_check()
    for receipt in receipts:
        said = re.fullmatch(sentence, receipt["recycle"])
        assert said, receipt["recycle"]
        assert replicas > 1 or int(said[1]) == receipt["from"]["pid"], receipt
        assert receipt["strategy"] == "overlap", receipt
        # Up to a tenth more, in steps: no two machines end at the same moment.
        assert float(said[2]) >= {"max_requests": 200, "max_age": .3,
                                  "max_growth": 4}[next(iter(keys))], receipt
    assert len({receipt["to"]["pid"] for receipt in receipts}) == len(receipts)
    assert moult.log_text().count("event=recycle ") >= 5
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "receipts", "echo"],
                          capture_output=True, text=True, check=True).stdout
    assert f"  limit     {receipts[0]['recycle']}\n" in text, text
    metrics = moult.get("/metrics")[1].decode()
    assert re.search(r'moult_reloads_total\{model="echo",cause="recycle",outcome="ok"\} \d+',
                     metrics)


def test_one_that_is_below_its_limits_stays(start):
    moult = start(section(max_requests=100_000, max_age="1h", max_growth="1G"))
    Load(moult.port).stop_and_check()
    # A look a second: three of them.
    looked = moult.status()["supervisor"]["uptime_s"]
    wait_for("some looks", lambda: moult.status()["supervisor"]["uptime_s"] >= looked + 3)
    assert not recycles(moult) and moult.status("echo")["generation"] == 1


def test_a_limit_counts_when_it_is_written(start):
    moult = start(section())
    Load(moult.port).stop_and_check()
    pid = moult.status("echo")["pid"]
    (moult.models / "0.conf").write_text(section(max_requests=1))
    wait_for("another", lambda: moult.status("echo")["pid"] not in (0, pid))
    (moult.models / "0.conf").write_text(section())
    wait_for("no more limit", lambda: "max_requests" not in
             moult.ctl("show-config", "echo").stdout)


def test_where_there_is_no_room_the_old_one_serves_and_it_is_tried_again(start, tmp_path):
    model = tmp_path / "model"
    model.write_bytes(bytes(48 * MIB))
    moult = start(section(path=model, share="off", strategy="overlap", max_requests=100,
                          retry_delay="100ms"),
                  supervisor="[device host]\nbudget = 70M\nreserve = 0\n")
    load = Load(moult.port)
    failed = wait_for("three tries", lambda: len(recycles(moult, "failed")) >= 3
                      and recycles(moult, "failed"))
    assert all("not enough memory" in receipt["reason"] for receipt in failed), failed
    # Each waits longer than the one before; a receipt's time is whole milliseconds of a clock.
    times = [receipt["time_ms"] for receipt in failed]
    assert times[1] - times[0] >= 95 and times[2] - times[1] >= 195, times
    (moult.models / "0.conf").write_text(section(
        path=model, share="off", strategy="staged", max_requests=100, retry_delay="100ms"))
    receipt = wait_for("the reload", lambda: recycles(moult))[0]
    assert receipt["strategy"] == "staged", receipt
    load.stop_and_check()


def test_with_a_broken_change_on_disk_the_same_comes_again(start):
    """A recycle is no reason to try once more what was refused."""
    moult = start(section(engine="fault"), supervisor=ENGINES)
    broken = {"engine": "fault", "option.fault": "refuse-model"}
    (moult.models / "0.conf").write_text(section(**broken))
    moult.wait_receipt("echo", lambda r: r["cause"] == "config" and r["outcome"] == "failed")
    (moult.models / "0.conf").write_text(section(max_requests=50, **broken))
    load = Load(moult.port)
    wait_for("some", lambda: len(recycles(moult)) >= 3)
    load.stop_and_check()
    assert not recycles(moult, "failed")


def test_a_body_that_ended_loaders_is_remembered(start):
    moult = start(section(engine="fault", max_age="1s",
                          **{"option.magic": 666, "option.magic_fault": "crash"}),
                  supervisor=ENGINES)
    assert moult.infer("echo", echo_body([666, 0, 0, 0]))[0] == 500
    n = len(recycles(moult))
    wait_for("another", lambda: len(recycles(moult)) > n)
    assert moult.infer("echo", echo_body([666, 0, 0, 0]))[0] == 500
    assert sum(r["cause"] == "crash" for r in moult.receipts("echo")) == 2
