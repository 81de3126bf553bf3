# SPDX-License-Identifier: Apache-2.0
"""Reloads in memory that holds one copy: which way is taken, and that it is kept to.

The memory is real: engine identity holds a private copy of its model file, and the sum of
what all loaders hold (RssAnon) is sampled a thousand times a second.
"""
import os
import pathlib
import subprocess
import threading
import time

import pytest

from harness import BUILD, Load, children, digits_section, echo_section, wait_for

MIB = 1 << 20
COPY = 48 * MIB
RELOADS = int(os.environ.get("MOULT_COPY_RELOADS", "8"))  # of each strategy
ENGINES = f"engine_dir = {BUILD}\n"


def anon_bytes(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Sampler:
    def __init__(self, pid):
        self.pid = pid
        self.samples = self.peak = 0
        self.parts = ()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def extra(self):
        return 0

    def run(self):
        while not self.is_over.is_set():
            # There and back: what a loader holds both times it held in between, when the
            # others were looked at. One look each would add the old one's last moment to
            # the new one's first when this thread is held up between the two.
            pids = children(self.pid)
            extra = self.extra()
            there = {pid: anon_bytes(pid) for pid in pids}
            back = {pid: anon_bytes(pid) for pid in reversed(pids)}
            held = {pid: min(there[pid], back[pid]) for pid in pids}
            total = sum(held.values()) + min(extra, self.extra())
            if total > self.peak:
                self.peak = total
                self.parts = time.time(), held, total - sum(held.values())
            self.samples += 1
            time.sleep(0.001)

    def stop(self):
        self.is_over.set()
        self.thread.join()
        print(f"peak {self.peak / MIB:.1f} MiB in {self.samples} samples: {self.parts}")
        return self.peak


def write_model(path, size=COPY, seed=1):
    """Renamed into place, as model files should be."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(seed.to_bytes(8, "little") * (size // 8))
    os.rename(fresh, path)


def device(budget_mib, reserve_mib=0):
    return f"[device host]\nbudget = {budget_mib}M\nreserve = {reserve_mib}M\n"


def begin(start, tmp_path, supervisor="", share="off", **keys):
    write_model(tmp_path / "weights.bin")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("good-0")
    moult = start(echo_section(path=tmp_path / "weights.bin", secrets=tmp_path / "secrets",
                               share=share, **keys), supervisor=supervisor)
    moult.note_fds()
    return moult


def rotate(moult, tmp_path, value):
    """A new secret, and the receipt of the reload that it causes."""
    before = len(moult.receipts())
    moult.write_secret(tmp_path / "secrets", "token", value)
    return wait_for("a receipt", lambda: moult.receipts()[before:])[0]


@pytest.mark.parametrize("wanted", ["auto", "staged", "stop-first"])
def test_one_copy_at_a_time(start, tmp_path, wanted):
    moult = begin(start, tmp_path, device(COPY * 13 // 10 // MIB), strategy=wanted)
    load = Load(moult.port)
    sampler = Sampler(moult.pid)
    pauses = []
    for i in range(RELOADS):
        receipt = rotate(moult, tmp_path, f"good-{i + 1}")
        assert receipt["outcome"] == "ok", receipt
        assert receipt["strategy"] == ("staged" if wanted == "auto" else wanted), receipt
        pauses.append(receipt["phases_ms"]["pause"])
    peak = sampler.stop()
    load.stop_and_check()
    print(f"{wanted}: pause median {sorted(pauses)[len(pauses) // 2]:.1f} ms, "
          f"longest {max(pauses):.1f} ms")
    assert COPY < peak < COPY * 1.3, peak
    assert all(p > 0 for p in pauses)
    assert sampler.samples > 100


def test_the_sampler_sees_two_copies(start, tmp_path):
    moult = begin(start, tmp_path)
    load = Load(moult.port)
    sampler = Sampler(moult.pid)
    for i in range(10):
        receipt = rotate(moult, tmp_path, f"good-{i + 1}")
        assert receipt["strategy"] == "overlap" and receipt["phases_ms"]["pause"] == 0
    assert sampler.stop() > 2 * COPY
    load.stop_and_check()


def test_explain_says_the_numbers_and_does_nothing(start, tmp_path):
    moult = begin(start, tmp_path, device(64))
    generation = moult.status("echo")["generation"]
    decision = moult.explain("echo")
    assert decision["strategy"] == "staged"
    assert decision["budget_bytes"] == 64 * MIB and decision["reserve_bytes"] == 0
    assert COPY < decision["need_bytes"] < COPY + 8 * MIB
    assert COPY < decision["old_bytes"] < COPY + 8 * MIB
    assert decision["free_bytes"] == 64 * MIB - decision["used_bytes"] - \
        decision["headroom_bytes"]
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "reload", "--explain"],
                          capture_output=True, text=True, timeout=60).stdout
    assert "echo: staged: " in text and "budget 64" in text, text
    assert moult.status("echo")["generation"] == generation


def test_a_model_that_does_not_fit_is_refused_with_numbers(start, tmp_path):
    moult = begin(start, tmp_path, device(64))
    load = Load(moult.port)
    generation = moult.status("echo")["generation"]
    write_model(tmp_path / "weights.bin", size=80 * MIB)
    [receipt] = wait_for("a receipt", lambda: moult.receipts()[1:])
    assert receipt["outcome"] == "failed" and receipt["strategy"] == "refused"
    assert "not enough memory" in receipt["reason"] and "budget" in receipt["reason"]
    assert moult.status("echo")["generation"] == generation
    write_model(tmp_path / "weights.bin", size=40 * MIB, seed=7)
    wait_for("the next generation", lambda: moult.status("echo")["generation"] > generation)
    load.stop_and_check()


@pytest.mark.parametrize("strategy", ["staged", "stop-first"])
def test_what_served_is_rebuilt(start, tmp_path, strategy):
    """The candidate fails when the old generation is gone already."""
    moult = begin(start, tmp_path, strategy=strategy, supervisor=ENGINES, engine="fault",
                  **{"option.fault": "refuse-device", "option.secret": "token",
                     "option.secret_is": "bad"})
    load = Load(moult.port)
    digest = moult.status("echo")["secrets_digest"]
    for _ in range(5):
        failed = rotate(moult, tmp_path, "bad")
        rebuilt = moult.wait_receipt("echo", lambda r: r["number"] > failed["number"])
        assert failed["outcome"] == "failed" and failed["cause"] == "secrets", failed
        assert rebuilt["outcome"] == "ok" and rebuilt["cause"] == "rebuild", rebuilt
        model = moult.status("echo")
        assert model["secrets_digest"] == digest and model["state"] == "ready"
        assert model["last_error"], "the bad secret is still on disk"
        # The same content again is no change; another bad one is tried again.
        moult.write_secret(tmp_path / "secrets", "token", "good-0")
        wait_for("a way back", lambda: moult.status("echo")["last_error"] is None)
        digest = moult.status("echo")["secrets_digest"]
    load.stop_and_check()


def test_a_crash_with_bad_inputs_on_disk(start, tmp_path):
    """What was refused is not tried again after a crash: what served is."""
    moult = begin(start, tmp_path, supervisor=ENGINES, engine="fault",
                  **{"option.fault": "refuse", "option.secret": "token",
                     "option.secret_is": "bad"})
    load = Load(moult.port)
    digest = moult.status("echo")["secrets_digest"]
    assert rotate(moult, tmp_path, "bad")["outcome"] == "failed"
    for _ in range(3):
        before = moult.status("echo")
        os.kill(before["pid"], 9)
        after = wait_for("a successor", lambda: moult.status("echo")["generation"]
                         > before["generation"] and moult.status("echo"))
        assert after["secrets_digest"] == digest
    (tmp_path / "weights.bin").unlink()
    before = moult.status("echo")
    os.kill(before["pid"], 9)
    wait_for("a successor without the file on disk",
             lambda: moult.status("echo")["generation"] > before["generation"])
    load.stop_and_check()


def test_rollback(start, tmp_path):
    moult = begin(start, tmp_path, strategy="staged")
    load = Load(moult.port)
    first = moult.status("echo")["secrets_digest"]
    assert moult.ctl("rollback", "echo").returncode == 1
    write_model(tmp_path / "weights.bin", seed=2)
    wait_for("the second", lambda: len(moult.receipts()) == 2)
    rotate(moult, tmp_path, "good-2")
    second = moult.status("echo")
    assert second["secrets_digest"] != first
    done = moult.ctl("rollback", "echo", "--wait")
    assert done.returncode == 0, done.stderr
    third = moult.status("echo")
    assert third["secrets_digest"] == first and third["generation"] > second["generation"]
    assert third["weights_sha256"] == second["weights_sha256"]
    again = moult.ctl("rollback", "echo", "--wait")
    assert again.returncode == 1 and "no other inputs" in again.stderr
    # Nobody asked: what was rolled back from does not come back by itself.
    os.kill(third["pid"], 9)
    wait_for("a successor", lambda: moult.status("echo")["generation"] > third["generation"])
    assert moult.status("echo")["secrets_digest"] == first
    assert moult.reload("echo").returncode == 0
    assert moult.status("echo")["secrets_digest"] == second["secrets_digest"]
    load.stop_and_check()


def test_crash_storm_in_a_one_copy_budget(start, tmp_path):
    """Loaders are killed at any moment of staged reloads: never two copies, none lost."""
    moult = begin(start, tmp_path, device(COPY * 13 // 10 // MIB))
    load = Load(moult.port)
    sampler = Sampler(moult.pid)
    for i in range(20):
        moult.write_secret(tmp_path / "secrets", "token", f"storm-{i}")
        deadline = time.monotonic() + (i % 10) * 0.008
        while time.monotonic() < deadline:
            time.sleep(0.001)
        for pid in children(moult.pid):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        load.wait_more(20)
    assert sampler.stop() < COPY * 1.3
    load.stop_and_check()


def test_torch_waits_for_its_memory(start):
    moult = start(digits_section(strategy="staged"))
    for _ in range(2):
        assert moult.reload("digits").returncode == 0
        receipt = moult.receipts()[-1]
        assert receipt["strategy"] == "staged" and receipt["phases_ms"]["pause"] > 0


def test_two_models_that_grow_keep_to_the_budget(start, tmp_path):
    """Each would fit by itself. What one of them is about to take, the other cannot."""
    names = ["a", "b"]
    for name in names:
        write_model(tmp_path / name, 20 * MIB)
    moult = start(*[echo_section(name, path=tmp_path / name, watch_model_file="no")
                    for name in names], supervisor=device(110))
    for strategy in ["stop-first", "staged"]:
        for i, name in enumerate(names):
            write_model(tmp_path / name, 20 * MIB)
            (moult.models / f"{i}.conf").write_text(echo_section(
                name, path=tmp_path / name, watch_model_file="no", strategy=strategy))
        moult.reload()
        sampler = Sampler(moult.pid)
        for name in names:
            write_model(tmp_path / name, 65 * MIB, seed=2)
        result = moult.reload()
        assert sampler.stop() <= 110 * MIB, strategy
        assert result.returncode == 1 and "not enough memory" in result.stderr, result
        assert sorted(moult.receipts(name)[-1]["outcome"] for name in names) == \
            ["failed", "ok"]
