# SPDX-License-Identifier: Apache-2.0
"""Staged reloads onto a GPU that holds more than one copy and less than two: what there is room
for comes while the old generation serves, and the pause copies the rest.
"""
import json
import os
import signal

import pytest

from harness import Load, slowness, wait_for
from test_gpu import MIB, gpu, printed
from test_gpu_arena import CONTEXT, COPY, Bench, Sampler, section, wide  # noqa: F401 (a fixture)

CHUNK = 32  # MiB
LAST = COPY % CHUNK
ONE = COPY + CONTEXT  # what a generation takes


def room_for(mib):
    """A card that leaves so much for weights beside an old generation and a candidate."""
    return ONE + CONTEXT + mib


def slices(path):
    """What each chunk of a file is to begin with."""
    data = path.read_bytes()
    return sorted(data[at:at + CHUNK * MIB] for at in range(0, len(data), CHUNK * MIB))


def check_contents(bench):
    """Every byte of what moultd holds is one of the file's."""
    wanted = slices(bench.file)
    found = sorted(fd.read_bytes() for fd in bench.chunks().values())
    assert len(found) == len(wanted)
    # Only the last chunk is longer than its part of the file.
    assert all(have[:len(want)] == want and len(have) - len(want) < 2 * MIB
               for have, want in zip(found, wanted))


def prefilled(receipt):
    return receipt["gpu"]["prefilled_bytes"] // MIB


def staged(bench):
    """Whatever was logged of the last candidate that was staged."""
    lines = [line for line in bench.moult.log_lines()
             if "event=loader_staged " in line]
    return lines[-1] if lines else ""


def candidate(bench):
    return wait_for("a candidate", lambda: bench.moult.status("echo")["candidate"])["pid"]


@pytest.mark.parametrize("room, most, ahead", [
    (41, 41, LAST),                     # a card of one and a half copies
    (61, 61, LAST + CHUNK),
    (CHUNK - 1, 0, 0),                  # not worth it
])
def test_what_fits_comes_first(start, tmp_path, wide, room, most, ahead):  # noqa: F811
    bench = Bench(start, tmp_path, wide, room_for(room))
    load, sampler = Load(bench.moult.port), Sampler(bench)
    for i, model in enumerate(("two", "one") if ahead > LAST else ("two",)):
        receipt = bench.replace(model)
        assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
        assert receipt["gpu"]["decision"]["prefill_bytes"] == most * MIB, receipt
        assert prefilled(receipt) == ahead, receipt
        assert (receipt["phases_ms"]["stage_prefill"] > 0) == (ahead > 0), receipt
        assert receipt["gpu"]["reclaim"]["verdict"] in ("freed", "unknown"), receipt
        check_contents(bench)
        bench.settles_at(ONE)
        # The next loader of the same finds them whole.
        receipt = bench.rotate(f"next-{i}")
        assert receipt["strategy"] == "handoff", receipt
    assert sampler.stop()[1] <= room_for(room)
    load.stop_and_check()
    pauses = [line for line in bench.moult.log_lines()
              if "event=weights_placed " in line][1:]
    assert all(f"kept={(COPY - ahead) // CHUNK + (ahead == 0)} " in line
               for line in pauses), pauses
    print(f"{room} MiB of room: {ahead} of {COPY} MiB before the pause; the commit after it "
          f"took {receipt['phases_ms']['commit']:.1f} ms")


@pytest.mark.parametrize("room, pieces", [(61, 4), (0, 11)])
def test_the_pause_copies_the_rest(start, tmp_path, wide, room, pieces):  # noqa: F811
    """Pieces of 8 MiB, each of which takes long; as many at once as there are processors, for
    nobody serves meanwhile."""
    bench = Bench(start, tmp_path, wide, room_for(room), threads=1)
    load = Load(bench.moult.port)
    slow_ms = int(200 * slowness())
    bench.card.faults(f"slow-copy {slow_ms}")
    receipt = bench.replace("two")
    commit = receipt["phases_ms"]["commit"]
    at_once = min(8, len(os.sched_getaffinity(0)))
    assert -(-pieces // at_once) * slow_ms <= commit, receipt
    assert not room or commit < COPY // 8 * slow_ms, receipt
    load.stop_and_check()
    bench.card.faults()
    print(f"{room} MiB of room: {pieces} pieces in the pause, which was "
          f"{receipt['phases_ms']['pause']:.0f} ms")


def test_two_models_do_not_count_on_it(start, tmp_path, wide):  # noqa: F811
    """What one model's candidate is about to fill no other model's reload gets."""
    bench = Bench(start, tmp_path, wide, room_for(61) + ONE + 32)
    (tmp_path / "other.pt").hardlink_to(wide / "large.pt")
    (tmp_path / "other").write_text(section(tmp_path / "other.pt", "other", strategy="overlap"))
    os.rename(tmp_path / "other", bench.moult.models / "1.conf")
    wait_for("the other", lambda: any(m["name"] == "other" and m["state"] == "ready"
                                      for m in bench.moult.status()["models"]))
    bench.moult.note_fds()
    before = gpu(bench.moult)["loaders_bytes"]
    assert before == (2 * ONE + 32) * MIB
    bench.card.faults(f"slow-copy {int(200 * slowness())}")
    bench.put("two")
    wait_for("a claim", lambda: gpu(bench.moult)["loaders_bytes"] > before)
    said = json.loads(bench.moult.ctl("reload", "other", "--explain").stdout.splitlines()[0])
    assert said["gpu_decision"]["free_bytes"] == 0, said
    bench.card.faults()
    assert wait_for("a receipt", lambda: bench.moult.receipts("echo")[1:])[0]["outcome"] == "ok"


def test_a_budget_is_room_as_well(start, tmp_path, wide):  # noqa: F811
    """Never more than it, and nobody else counts on what is being filled."""
    bench = Bench(start, tmp_path, wide, 1024, device=f"budget = {room_for(61)}M\n")
    load, sampler = Load(bench.moult.port), Sampler(bench)
    bench.card.faults(f"slow-copy {int(100 * slowness())}")
    bench.put("two")
    wait_for("a chunk", lambda: bench.used() > ONE + CONTEXT)
    figures = gpu(bench.moult)
    assert figures["loaders_bytes"] == room_for(61) * MIB, figures
    bench.card.faults()
    receipt = wait_for("a receipt", lambda: bench.moult.receipts("echo")[1:])[0]
    assert receipt["outcome"] == "ok" and prefilled(receipt) == LAST + CHUNK, receipt
    assert sampler.stop()[1] <= room_for(61)
    load.stop_and_check()
    check_contents(bench)
    bench.settles_at(ONE)


def test_nothing_is_left_for_the_pause(start, tmp_path, wide):  # noqa: F811
    """Both would fit, and staged is what was asked for."""
    bench = Bench(start, tmp_path, wide, 3 * COPY, strategy="staged")
    load = Load(bench.moult.port)
    chunks = bench.chunks().keys()
    receipt = bench.replace("two")
    assert receipt["outcome"] == "ok" and prefilled(receipt) == COPY, receipt
    assert not bench.chunks().keys() & chunks
    check_contents(bench)
    # Weights that stay need none of that, and stop-first has no candidate by then.
    assert prefilled(bench.rotate(1)) == 0
    load.stop_and_check()
    bench.settles_at(ONE)


@pytest.mark.parametrize("fault", ["none", "blind", "slow 100"])
def test_other_sizes(start, tmp_path, wide, fault):  # noqa: F811
    """Chunks of the old one, new ones and those that came beforehand make up any file, and
    what the old one had is proven to be back although the candidate holds a part of it."""
    bench = Bench(start, tmp_path, wide, ONE + 32 + CONTEXT + 40)
    if fault != "none":
        bench.card.faults(fault)
    load, sampler = Load(bench.moult.port), Sampler(bench)
    sizes = [("large", COPY + 32), ("small", COPY - 32), ("large", COPY + 32), ("one", COPY)]
    for model, mib in sizes if fault == "none" else sizes[:2]:
        receipt = bench.replace(model)
        assert receipt["outcome"] == "ok", receipt
        reclaim = receipt["gpu"]["reclaim"]
        assert reclaim["verdict"] in ("freed", "unknown"), receipt
        check_contents(bench)
        bench.settles_at(mib + CONTEXT)
        if receipt["strategy"] == "staged":
            assert prefilled(receipt) > 0, receipt
    # The sizes that were measured meanwhile are those of a loader alone.
    assert receipt["gpu"]["decision"]["need_bytes"] < (mib + CONTEXT + 4) * MIB, receipt
    slack = 100 * (fault == "slow 100")
    assert sampler.stop()[1] <= ONE + 32 + CONTEXT + 40 + slack
    load.stop_and_check()


def test_killed_meanwhile(start, tmp_path, wide):  # noqa: F811
    """While it fills and when it waits: its part is back, and the next one comes through."""
    bench = Bench(start, tmp_path, wide, room_for(61))
    load = Load(bench.moult.port)
    before = bench.moult.status("echo")["generation"]
    bench.card.faults(f"slow-copy {int(200 * slowness())}")
    bench.put("two")
    wait_for("a chunk", lambda: bench.used() > ONE + CONTEXT)
    os.kill(candidate(bench), signal.SIGKILL)
    receipt = wait_for("a receipt", lambda: bench.moult.receipts("echo")[1:])[0]
    assert receipt["outcome"] == "failed", receipt
    assert bench.moult.status("echo")["generation"] == before
    assert receipt["gpu"]["reclaim"]["verdict"] in ("freed", "unknown"), receipt
    # What it had is back when the next one begins: that one is made again by itself.
    bench.card.faults(f"slow {int(500 * slowness())}")
    wait_for("the next one", lambda: "prefilled_bytes=0" not in (staged(bench) or
                                                                  "prefilled_bytes=0"))
    pid = bench.moult.status("echo")["candidate"]
    assert pid, bench.moult.status("echo")
    os.kill(pid["pid"], signal.SIGKILL)
    # The candidate may have been further by then than it was seen to be, with nobody serving:
    # what comes next is not to wait for a slow driver.
    bench.card.faults()
    load.wait_more(50)
    wait_for("the new file", lambda: bench.moult.status("echo")["state"] == "ready" and
             bench.moult.receipts("echo")[-1]["outcome"] == "ok" and
             bench.says("weights_placed") >= 2)
    load.stop_and_check()
    bench.moult.wait_quiet()
    assert len(bench.chunks()) == 3
    bench.settles_at(ONE)


def test_somebody_else_takes_the_room(start, tmp_path, wide):  # noqa: F811
    """The card is full although it had room a moment ago: the reload goes on as without."""
    bench = Bench(start, tmp_path, wide, room_for(61))
    load = Load(bench.moult.port)
    bench.card.faults("oom 1000000")
    chunks = bench.chunks().keys()
    receipt = bench.replace("two")
    assert receipt["outcome"] == "ok" and receipt["strategy"] == "staged", receipt
    assert receipt["gpu"]["decision"]["prefill_bytes"] == 61 * MIB
    assert prefilled(receipt) == 0 and bench.chunks().keys() == chunks, receipt
    bench.card.faults()
    check_contents(bench)
    load.stop_and_check()
    bench.settles_at(ONE)


def test_the_old_one_dies_meanwhile(start, tmp_path, wide):  # noqa: F811
    """Clients wait from then on: what is there has to do."""
    bench = Bench(start, tmp_path, wide, room_for(61))
    load = Load(bench.moult.port)
    bench.card.faults("slow-copy 500")
    bench.put("two")
    wait_for("a chunk", lambda: bench.used() > ONE + CONTEXT)
    before = bench.says("loader_staged")
    os.kill(bench.moult.status("echo")["pid"], signal.SIGKILL)
    # Copying is slow until it has stopped: what it would go on with is seen.
    wait_for("its end", lambda: bench.says("loader_staged") > before)
    bench.card.faults()
    wait_for("the new one", lambda: bench.says("weights_placed") == 2 and
             bench.moult.status("echo")["state"] == "ready")
    receipt = bench.moult.receipts("echo")[1]
    assert receipt["outcome"] == "ok" and prefilled(receipt) < LAST + CHUNK, receipt
    load.stop_and_check()
    check_contents(bench)
    bench.settles_at(ONE)


def test_a_needless_candidate_gives_it_back(start, tmp_path, wide):  # noqa: F811
    bench = Bench(start, tmp_path, wide, room_for(61))
    load = Load(bench.moult.port)
    chunks = bench.chunks().keys()
    (tmp_path / "same.pt").write_bytes(bench.file.read_bytes())
    os.rename(tmp_path / "same.pt", bench.file)
    receipt = wait_for("a receipt", lambda: bench.moult.receipts("echo")[1:])[0]
    assert receipt["outcome"] == "unchanged", receipt
    assert prefilled(receipt) == LAST + CHUNK, receipt
    assert bench.chunks().keys() == chunks
    load.stop_and_check()
    bench.settles_at(ONE)


def test_people_are_told(start, tmp_path, wide):  # noqa: F811
    bench = Bench(start, tmp_path, wide, room_for(61), watch_model_file="no")
    bench.put("two")
    said = json.loads(bench.moult.ctl("reload", "echo", "--explain").stdout.splitlines()[0])
    assert said["decision"]["strategy"] == "staged", said
    assert said["gpu_decision"]["prefill_bytes"] == 61 * MIB, said
    assert ", prefill 61.0 MiB" in printed(bench.moult, "reload", "echo", "--explain")
    assert bench.moult.reload("echo").returncode == 0
    assert "; 50.0 MiB of weights came before the pause" in printed(
        bench.moult, "receipts", "echo", "-n", "1")
    metrics = bench.moult.get("/metrics")[1].decode()
    assert f'moult_reload_gpu_bytes{{model="echo",at="prefilled"}} {50 * MIB}\n' in metrics
    assert 'moult_reload_seconds{model="echo",phase="stage_prefill"}' in metrics
