# SPDX-License-Identifier: Apache-2.0
"""What a card lets nobody do: two processes where its compute mode has room for one, anything
where it has room for none, and a look at its memory by the host."""
import itertools
import re

from harness import Load, wait_for
from test_gpu import Card
from test_gpu_arena import CONTEXT, COPY, Bench, section, wide  # noqa: F401 (a fixture)
from test_inputs import rewrite

HEAD = "[device cuda:0]\nreserve = 0\n"


def last_error(moult, model):
    return wait_for("an error", lambda: moult.status(model)["last_error"])


def test_one_process_at_a_time(start, tmp_path, wide):  # noqa: F811
    """The old generation goes first, and what it leaves is taken over."""
    bench = Bench(start, tmp_path, wide, 3 * COPY, "exclusive")
    chunks = set(bench.chunks())
    load = Load(bench.moult.port)
    receipt = bench.rotate(1)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
    assert "compute mode" in receipt["gpu"]["decision"]["why"], receipt
    assert set(bench.chunks()) == chunks and bench.weights()["why_private"] is None
    receipt = bench.replace("two")
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
    assert receipt["gpu"]["prefilled_bytes"] == 0, receipt
    bench.kill()
    load.stop_and_check()
    # Whoever insists on two at once is told.
    rewrite(bench.moult, section(bench.file, **{**bench.keys, "strategy": "overlap"}))
    assert bench.moult.ctl("reload", "echo", "--wait").returncode == 1
    assert "compute mode of cuda:0 lets one process" in last_error(bench.moult, "echo")
    rewrite(bench.moult, section(bench.file, **{**bench.keys, "replicas": 2}))
    wait_for("a refusal", lambda: "set replicas = 1" in bench.moult.log_text())
    bench.settles_at(COPY + CONTEXT)


def test_who_comes_second_is_told_why(start, tmp_path, wide):  # noqa: F811
    """By the driver's own word, and not as if the card could not share."""
    card = Card(tmp_path, 512)
    card.faults("exclusive")
    moult = start(section(wide / "one.pt", "one"), section(wide / "two.pt", "two"),
                  supervisor=HEAD, environment=card.environment, ready=False)
    why = wait_for("an error", lambda: [model["last_error"] for model in
                                        moult.status()["models"] if model["last_error"]])[0]
    assert "CUDA_ERROR_DEVICE_UNAVAILABLE" in why and "compute mode" in why, why
    assert moult.log_text().count("event=weights_private") == 0


def test_nobody_at_all(start, tmp_path, wide):  # noqa: F811
    bench = Bench(start, tmp_path, wide, 3 * COPY)
    bench.card.faults("prohibited")
    turns = itertools.count(1)

    def refusal():
        """moultd knows the mode from the driver's next report."""
        receipt = bench.rotate(next(turns))
        return receipt["outcome"] == "failed" and receipt
    receipt = wait_for("a refusal", refusal)
    assert "lets nobody use it" in receipt["reason"], receipt
    assert bench.moult.status("echo")["generation"] == receipt["from"]["generation"]
    bench.card.faults()
    wait_for("a reload", lambda: bench.moult.reload("echo").returncode == 0)


def test_a_libtorch_that_finds_no_card(start, tmp_path, wide):  # noqa: F811
    """Found before anything is copied to the card, and before an old generation goes for it."""
    card = Card(tmp_path, 512, library="fakegpu-strict")
    moult = start(section(wide / "one.pt"), supervisor=HEAD, environment=card.environment,
                  ready=False)
    why = last_error(moult, "echo")
    # One with CUDA finds none either: the driver is a fake.
    assert re.search("there is no device 'cuda:0': libtorch .* finds 0 CUDA devices, with a "
                     r"driver for CUDA 13\.0", why), why
    log = moult.log_text()
    assert "event=loader_staged" not in log and "event=weights_placed" not in log
