# SPDX-License-Identifier: Apache-2.0
"""Weights that lie on a GPU and outlive the loaders that compute with them: one copy for all,
whatever is rotated, killed or scaled.

libcuda.so.1 is a fake whose memory is memfds, so who holds what is the kernel's account; the
torch engine computes over that very memory, because the driver says that the host can read it.
"""
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, DIGITS, Load, digits_section, echo_section, wait_for
from test_gpu import DRIVER, MIB, Card, favour_helper, glance, gpu, rotate
from test_inputs import rewrite
from test_share_torch import BODY, answers, models  # noqa: F401 (a fixture)

TABLE = 80  # MiB of weights: three chunks
CONTEXT = 16  # MiB that the fake takes for one
COPY = TABLE + 2  # MiB that they take on the card, with what else is in the file
ROTATIONS = int(os.environ.get("MOULT_GPU_ROTATIONS", "10"))


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Writes models that echo, if their weights are what they should be."""
    torch = pytest.importorskip("torch")
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")

    class Wide(torch.nn.Module):
        def __init__(self, value: float, mib: int = TABLE):
            super().__init__()
            self.table = torch.nn.Parameter(torch.full((mib * MIB // 4,), float(value)))
            self.eye = torch.nn.Parameter(torch.eye(4))
            self.register_buffer("calls", torch.zeros(1))
            self.expected = 64. * mib * value

        def forward(self, x):
            self.calls += 1
            return x @ self.eye + (self.table[::4096].sum() - self.expected)

    class Writer(Wide):
        """Writes to its weights through a view that is no parameter."""

        def __init__(self, value: float):
            super().__init__(value)
            self.register_buffer("view", self.table.detach()[:4])

        def forward(self, x):
            self.view += 0
            return x @ self.eye + (self.table[::4096].sum() - self.expected)

    folder = tmp_path_factory.mktemp("wide")
    for name, module in {"one": Wide(1), "two": Wide(2), "writer": Writer(1),
                         "small": Wide(3, TABLE - 32), "large": Wide(4, TABLE + 32)}.items():
        torch.jit.script(module).save(str(folder / f"{name}.pt"))
    return folder


def section(path, name="echo", **keys):
    return echo_section(name, **{"engine": "torch", "device": "cuda:0", "path": path,
                                 "reclaim_timeout": "5s", "retry_delay": "100ms",
                                 "watch_window": "0s", "watch_model_file": "yes", **keys})


class Bench:
    def __init__(self, start, tmp_path, wide, mib, *faults, model="one", device="", **keys):
        self.card = Card(tmp_path, mib)
        self.card.faults(*faults)
        self.secrets, self.file = tmp_path / "secrets", tmp_path / "model.pt"
        self.tmp_path, self.wide = tmp_path, wide
        self.secrets.mkdir()
        (self.secrets / "token").write_text("0")
        os.link(wide / f"{model}.pt", self.file)
        self.keys = {"secrets": self.secrets, **keys}
        self.moult = start(section(self.file, **self.keys),
                           supervisor=f"[device cuda:0]\nreserve = 0\n{device}",
                           environment=self.card.environment)
        favour_helper(self.moult)
        self.moult.note_fds()

    def rotate(self, value):
        return rotate(self.moult, self.tmp_path, value)

    def put(self, model):
        os.link(self.wide / f"{model}.pt", self.tmp_path / "fresh.pt")
        os.rename(self.tmp_path / "fresh.pt", self.file)

    def replace(self, model):
        """The model file."""
        before = len(self.moult.receipts("echo"))
        self.put(model)
        return wait_for("a receipt", lambda: self.moult.receipts("echo")[before:])[0]

    def used(self):
        """MiB of the card, without what its driver has."""
        bytes_ = wait_for("figures", lambda: gpu(self.moult)["used_bytes"])
        return bytes_ // MIB - DRIVER

    def chunks(self):
        """Inodes of those that moultd holds, and where they are."""
        found = {}
        for fd in pathlib.Path(f"/proc/{self.moult.pid}/fd").iterdir():
            try:
                if "memfd:fakegpu-" in os.readlink(fd):
                    found[os.stat(fd).st_ino] = fd
            except OSError:
                pass
        return found

    def weights(self):
        return self.moult.status("echo")["weights"]

    def kill(self):
        pid = self.moult.status("echo")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for("another loader", lambda: self.moult.status("echo")["pid"] not in (0, pid)
                 and self.moult.status("echo")["state"] == "ready")

    def settles_at(self, mib):
        wait_for(f"{mib} MiB in use", lambda: self.used() == mib)

    def text(self):
        """What people see."""
        return subprocess.run([BUILD / "moultctl", "-s", self.moult.socket, "status"],
                              capture_output=True, text=True, check=True).stdout

    def says(self, event):
        return self.moult.log_text().count(f"event={event} ")


class Sampler:
    """The most and the least that the card had in use."""

    def __init__(self, bench):
        self.bench, self.seen, self.is_over = bench, set(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        gpu(self.bench.moult)  # from here on none is of before
        while not self.is_over.is_set():
            figures = glance(self.bench.moult)["used_bytes"]
            if figures is not None:  # the helper did not get to run in time
                self.seen.add(figures // MIB - DRIVER)
            time.sleep(0.01)

    def stop(self):
        self.is_over.set()
        self.thread.join()
        return min(self.seen), max(self.seen)


def test_secrets_rotate_and_the_weights_stay(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, COPY * 13 // 10 + CONTEXT)
    assert bench.used() == COPY + CONTEXT
    chunks = bench.chunks().keys()
    assert len(chunks) == 3
    assert bench.weights()["device_bytes"] == COPY * MIB
    assert bench.weights()["why_private"] is None
    load, sampler = Load(bench.moult.port), Sampler(bench)
    for i in range(ROTATIONS):
        receipt = bench.rotate(i + 1)
        assert receipt["outcome"] == "ok" and receipt["strategy"] == "handoff", receipt
        assert receipt["gpu"]["decision"]["resident"], receipt
        assert receipt["phases_ms"]["pause"] == 0, receipt
        assert receipt["gpu"]["reclaim"]["verdict"] in ("freed", "unknown"), receipt
    least, most = sampler.stop()
    load.stop_and_check()
    # One copy at all times, and a context beside another while they pass it on.
    assert COPY <= least and most <= COPY + 2 * CONTEXT, (least, most)
    assert bench.chunks().keys() == chunks and bench.used() == COPY + CONTEXT
    assert bench.says("weights_placed") == 1 and bench.says("weights_mapped") == ROTATIONS
    assert f"echo: {COPY}.0 MiB of weights on the GPU, shared by its loaders" in bench.text()


def test_a_crash_costs_no_copy(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, COPY * 13 // 10 + CONTEXT)
    chunks = bench.chunks().keys()
    load = Load(bench.moult.port)
    for _ in range(5):
        bench.kill()
        load.wait_more(50)
    load.stop_and_check()
    assert bench.chunks().keys() == chunks and bench.says("weights_placed") == 1
    bench.settles_at(COPY + CONTEXT)


def test_replicas_share_one_copy(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, COPY + 5 * CONTEXT, replicas=4)
    load = Load(bench.moult.port)
    wait_for("four", lambda: bench.moult.status("echo")["replicas"]["serving"] == 4)
    bench.settles_at(COPY + 4 * CONTEXT)
    assert bench.says("weights_placed") == 1
    bench.moult.ctl("scale", "echo", "1")
    bench.settles_at(COPY + CONTEXT)
    load.stop_and_check()


@pytest.mark.parametrize("mib, strategy", [(2 * COPY + 2 * CONTEXT, "overlap"),
                                           (COPY * 3 // 2 + 2 * CONTEXT, "staged")])
def test_another_file_is_another_copy(start, tmp_path, wide, mib, strategy):
    """And the last one goes, for which there may be no room."""
    bench = Bench(start, tmp_path, wide, mib)
    load = Load(bench.moult.port)
    for i in range(2):
        chunks = bench.chunks()
        receipt = bench.replace(("two", "one")[i % 2])
        assert receipt["outcome"] == "ok" and receipt["strategy"] == strategy, receipt
        assert len(bench.chunks()) == 3
        # One that could not be there beside the old one lies where that did.
        # But for the last chunk: for that there was room.
        assert len(bench.chunks().keys() & chunks.keys()) == (strategy == "staged") * 2
        bench.settles_at(COPY + CONTEXT)
        receipt = bench.rotate(f"next-{i}")
        assert receipt["strategy"] == "handoff", receipt
    load.stop_and_check()


def test_nothing_stays_without_the_model(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, 2 * COPY)
    rewrite(bench.moult, echo_section("other", device="cuda:0"))
    wait_for("its end", lambda: not bench.chunks())
    bench.settles_at(0)


def test_two_models_of_one_file(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, COPY + 4 * CONTEXT)
    (tmp_path / "twin").write_text(section(bench.file, "twin"))
    os.rename(tmp_path / "twin", bench.moult.models / "1.conf")
    wait_for("the twin", lambda: any(m["name"] == "twin" and m["pid"] and
                                     m["state"] == "ready"
                                     for m in bench.moult.status()["models"]))
    assert bench.used() == COPY + 2 * CONTEXT
    assert len(bench.chunks()) == 3
    bench.moult.note_fds()


def test_what_is_handed_over_is_nobodys(start, tmp_path, wide):
    """A loader that has got the chunks and has not said so yet holds no memory because of
    them: what the other model's loader finds then is compared with when that goes."""
    bench = Bench(start, tmp_path, wide, COPY + 6 * CONTEXT)
    moult = bench.moult
    (tmp_path / "other").write_text(echo_section("other", **{
        "engine": "fakegpu", "device": "cuda:0", "option.mib": 8, "watch_window": "0s"}))
    os.rename(tmp_path / "other", moult.models / "1.conf")
    wait_for("the other", lambda: any(m["name"] == "other" and m["state"] == "ready"
                                      for m in moult.status()["models"]))
    for n in (2, 3, 4):
        moult.ctl("scale", "echo", str(n))
        wait_for("a loader that stages", lambda: any(
            other["state"] == "staging"
            for other in moult.status("echo")["replicas"]["others"]))
        assert moult.reload("other").returncode == 0
        wait_for("all of them", lambda: moult.status("echo")["replicas"]["serving"] == n)
        assert moult.reload("other").returncode == 0
        receipt = moult.receipts("other")[-1]
        assert receipt["gpu"]["reclaim"]["verdict"] in ("freed", "unknown"), receipt["gpu"]
    moult.note_fds()


def test_killed_in_every_state(start, tmp_path, wide):
    """The loader that copies and the one that maps; then the one that serves beside it."""
    bench = Bench(start, tmp_path, wide, COPY * 3 // 2 + 3 * CONTEXT)
    bench.card.faults("slow-copy 50", "slow 50", "oom 1")
    load = Load(bench.moult.port)
    models = itertools.cycle(["two", "one"])
    for state in ("staging", "staged", "committing", "warming", "active"):
        for what in ("secret", "file"):
            seen = bench.moult.log_text().count(f"to={state} ")
            if what == "secret":
                bench.moult.write_secret(bench.secrets, "token", f"{state}-{what}")
            else:
                bench.put(next(models))
            lines = wait_for(f"a loader that is {state}", lambda: [
                line for line in bench.moult.log_lines()
                if f"to={state} " in line][seen:])
            pids = {int(re.search(r"pid=(\d+)", lines[0])[1])}
            if state in ("committing", "warming"):
                pids.add(bench.moult.status("echo")["pid"])
            for pid in pids - {0}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            load.wait_more(20)
    load.stop_and_check()
    bench.card.faults()
    bench.moult.wait_quiet()
    # Whatever the last kill left on the way: the next reload finds one copy or makes it.
    assert bench.moult.reload("echo").returncode == 0
    assert len(bench.chunks()) == 3
    bench.settles_at(COPY + CONTEXT)


def test_memory_that_comes_late_is_waited_for(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, 2 * COPY, "oom 3")
    assert bench.weights()["why_private"] is None and len(bench.chunks()) == 3


def test_a_card_that_cannot_share(start, tmp_path, wide):
    """Each loader has its own then, and it is said why."""
    bench = Bench(start, tmp_path, wide, 3 * COPY, "no-vmm")
    assert "no virtual memory management" in bench.weights()["why_private"]
    assert not bench.chunks() and bench.used() == COPY + CONTEXT
    assert "echo: weights are private to each loader: the GPU has no virtual memory" in \
        bench.text()
    load = Load(bench.moult.port)
    receipt = bench.rotate(1)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "overlap", receipt
    load.stop_and_check()
    bench.settles_at(COPY + CONTEXT)
    # Not the next secret's business, but that of whoever asks, or of another file.
    bench.card.faults()
    bench.rotate(2)
    assert "no virtual memory management" in bench.weights()["why_private"]
    assert bench.moult.reload("echo").returncode == 0
    assert bench.weights()["why_private"] is None and len(bench.chunks()) == 3
    bench.moult.note_fds()


def test_another_file_may_share(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, 3 * COPY, "no-vmm")
    assert "no virtual memory management" in bench.weights()["why_private"]
    bench.card.faults()
    assert bench.replace("two")["outcome"] == "ok"
    assert bench.weights()["why_private"] is None and len(bench.chunks()) == 3
    bench.moult.note_fds()


def test_a_driver_that_takes_no_descriptor(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, 3 * COPY)
    bench.card.faults("no-import")
    load = Load(bench.moult.port)
    receipt = bench.rotate(1)
    assert receipt["outcome"] == "ok", receipt
    assert "CUDA_ERROR_NOT_SUPPORTED" in bench.weights()["why_private"]
    assert bench.says("weights_private") == 1
    bench.settles_at(COPY + CONTEXT)
    # It is asked again, and needs room for two.
    receipt = bench.rotate(2)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "overlap", receipt
    assert bench.says("weights_private") == 2
    assert not bench.chunks()
    bench.card.faults()
    assert bench.rotate(3)["outcome"] == "ok"
    assert bench.weights()["why_private"] is None and len(bench.chunks()) == 3
    receipt = bench.rotate(4)
    assert receipt["strategy"] == "handoff", receipt
    load.stop_and_check()
    bench.settles_at(COPY + CONTEXT)


def test_a_driver_that_takes_no_descriptor_from_the_start(start, tmp_path, wide):
    """Found before anything depends on it: there is room for one copy and nothing else."""
    bench = Bench(start, tmp_path, wide, COPY + CONTEXT + 8, "no-import", strategy="staged")
    assert "a chunk by its descriptor: CUDA_ERROR_NOT_SUPPORTED" in \
        bench.weights()["why_private"]
    load = Load(bench.moult.port)
    receipt = bench.replace("two")
    assert receipt["outcome"] == "ok", receipt
    load.stop_and_check()
    assert not bench.chunks()
    bench.settles_at(COPY + CONTEXT)


def test_without_room_it_is_refused(start, tmp_path, wide):
    """Somebody else has taken it meanwhile: the old generation serves on."""
    bench = Bench(start, tmp_path, wide, 3 * COPY, strategy="overlap")
    generation = bench.moult.status("echo")["generation"]
    bench.card.faults("oom 1000000")
    load = Load(bench.moult.port)
    receipt = bench.replace("two")
    assert receipt["outcome"] == "failed", receipt
    assert "the GPU is out of memory" in receipt["reason"], receipt
    assert bench.moult.status("echo")["generation"] == generation
    bench.card.faults()
    wait_for("the new one", lambda: bench.moult.status("echo")["generation"] != generation
             and bench.moult.status("echo")["state"] == "ready")
    load.stop_and_check()
    bench.settles_at(COPY + CONTEXT)


def test_weights_that_were_changed_are_not_used(start, tmp_path, wide):
    bench = Bench(start, tmp_path, wide, 3 * COPY)
    for fd in pathlib.Path(f"/proc/{bench.moult.pid}/fd").iterdir():
        if "memfd:fakegpu-" in os.readlink(fd):
            with open(fd, "r+b") as chunk:
                chunk.write(b"somebody was here")
    receipt = bench.rotate(1)
    assert receipt["outcome"] == "ok", receipt
    assert "are not what was put there" in bench.weights()["why_private"]
    Load(bench.moult.port).stop_and_check()
    assert not bench.chunks()
    bench.settles_at(COPY + CONTEXT)
    # The next one fills a copy anew.
    assert bench.rotate(2)["outcome"] == "ok"
    assert bench.weights()["why_private"] is None and len(bench.chunks()) == 3
    bench.settles_at(COPY + CONTEXT)


def test_a_model_that_writes_to_its_weights(start, tmp_path, wide):
    """It dies in the warm-up, before anybody is answered, and gets its own."""
    bench = Bench(start, tmp_path, wide, 3 * COPY, model="writer", warmup_runs=0)
    assert "over weights that nobody may write to" in bench.weights()["why_private"]
    load = Load(bench.moult.port)
    receipt = bench.rotate(1)
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "overlap", receipt
    assert bench.moult.log_text().count("over weights that nobody may write to") >= 1
    # Whoever asks is not given a loader that dies.
    assert bench.moult.reload("echo").returncode == 0
    load.stop_and_check()
    assert not bench.chunks()
    bench.settles_at(COPY + CONTEXT)


def test_one_that_begins_to(start, tmp_path, wide):
    """The old generation serves on meanwhile."""
    bench = Bench(start, tmp_path, wide, 3 * COPY)
    load = Load(bench.moult.port)
    before = bench.moult.status("echo")["generation"]
    assert bench.replace("writer")["outcome"] == "failed"
    wait_for("the private one", lambda: bench.weights()["why_private"])
    assert bench.moult.status("echo")["generation"] > before
    load.stop_and_check()
    bench.settles_at(COPY + CONTEXT)


def test_a_warm_up_without_memory_is_no_write(start, tmp_path):
    """What it needs is less memory, and not weights of its own."""
    keys = {"device": "cuda:0", "retry_delay": 0}
    moult = start(digits_section(**keys), supervisor="[device cuda:0]\nreserve = 0\n",
                  environment=Card(tmp_path, 256).environment)
    section = digits_section(**keys, max_batch=20000, working_memory="1M")
    rewrite(moult, section)
    assert moult.ctl("reload", "digits", "--wait").returncode == 1
    receipt = wait_for("a receipt", lambda: moult.receipts()[1:])[-1]
    assert receipt["outcome"] == "failed" and "working_memory" in receipt["reason"], receipt
    assert "event=weights_private" not in moult.log_text()
    rewrite(moult, digits_section(**keys, warmup_runs=2))
    assert moult.ctl("reload", "digits", "--wait").returncode == 0
    assert moult.receipts()[-1]["strategy"] == "handoff", moult.receipts()[-1]
    assert moult.status("digits")["weights"]["why_private"] is None


def test_answers_are_those_of_the_cpu(start, tmp_path, models):  # noqa: F811
    """Buffers are each loader's own, constants and ties are kept."""
    card = Card(tmp_path, 512)
    names = {"buffer": "[-1,2]", "constant": "[-1,2]", "tied": "[-1,1]", "sum": "[-1,1]"}
    sections = []
    for name, output in names.items():
        for device in ("cpu", "cuda:0"):
            keys = {"engine": "torch", "path": models / f"{name}.pt", "share": "memory",
                    "input": "x FP32 [-1,2]", "output": f"y FP32 {output}", "max_batch": 1,
                    "warmup_runs": 1, "device": device, "retry_delay": "100ms"}
            sections.append(f"[model {name}-{device[:3]}]\n" + "".join(
                f"{key} = {value}\n" for key, value in keys.items()))
    moult = start(*sections, supervisor="[device cuda:0]\nreserve = 0\n",
                  environment=card.environment)
    for name in names:
        expected = answers(moult, f"{name}-cpu", [BODY] * 3)
        assert answers(moult, f"{name}-cud", [BODY] * 3) == expected, name
        why = moult.status(f"{name}-cud")["weights"]["why_private"]
        assert bool(why) == (name == "tied"), (name, why)


def test_the_bundled_model(start, tmp_path):
    expected = json.loads((DIGITS / "expected.json").read_text())["predictions"][:60]
    bodies = (DIGITS / "heldout.jsonl").read_text().splitlines()[:60]
    moult = start(digits_section(device="cuda:0"), environment=Card(tmp_path, 256).environment)
    scores = answers(moult, "digits", bodies)
    assert [row.index(max(row)) for row in scores] == expected
    assert moult.status("digits")["weights"]["device_bytes"] > 0
