# SPDX-License-Identifier: Apache-2.0
"""A loader that was started ahead takes the place of one that died or that a reload replaces."""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import (BUILD, DIGITS, Gate, Load, digits_section, echo_body, echo_section,
                     is_alive, patience, wait_for)
from hostile import Stream, status, wait_settled

TOKEN = "a-secret-that-no-spare-may-hold"
STORM_S = float(os.environ.get("MOULT_STORM_S", "5"))


def spare(moult, engine="identity"):
    return next((s for s in moult.status()["supervisor"]["spares"] if s["engine"] == engine),
                None)


def ready_spare(moult, engine="identity", other_than=0):
    def is_there():
        found = spare(moult, engine)
        return found if found and found["state"] == "ready" and \
            found["pid"] != other_than else None
    return wait_for("a spare loader", is_there)["pid"]


def kill(pid, number=signal.SIGKILL):
    """Where there is one, and it has not died just now."""
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_loader(moult, model="echo"):
    """The pid of the loader that serves after the serving one was killed."""
    pid = moult.status(model)["pid"]
    os.kill(pid, signal.SIGKILL)
    return successor(moult, pid, model)


def successor(moult, pid, model="echo"):
    def other():
        state = moult.status(model)
        return state["state"] == "ready" and state["pid"] not in (0, pid) and state["pid"]
    return wait_for("another loader", other)


def answers(moult, model="echo"):
    code, _, body = moult.infer(model, echo_body([1.0, 2.0, 3.0, 4.0]))
    assert code == 200, body
    return json.loads(body)["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]


def memory_has(pid, needle):
    """Reads everything that @pid has mapped."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(n, 16) for n in line.split()[0].split("-"))
            # A sanitizer's shadow has no bytes of ours, and terabytes of its own.
            if line.split()[1][0] != "r" or "[v" in line or end - start > 1 << 32:
                continue
            memory.seek(start)
            left, tail = end - start, b""
            while left > 0:
                try:
                    chunk = memory.read(min(left, 1 << 22))
                except OSError:
                    break
                if needle in tail + chunk:
                    return True
                if not chunk:
                    break
                left -= len(chunk)
                tail = chunk[-len(needle):]
    return False


def kept_engines(tmp_path):
    """A loader and engines of one's own, to be replaced."""
    folder = tmp_path / "engines"
    folder.mkdir()
    shutil.copy2(BUILD / "moult-engine-identity.so", folder)
    return folder


def replace(path):
    fresh = path.with_suffix(".new")
    shutil.copy(path, fresh)
    os.rename(fresh, path)


def test_none_without_the_key(start):
    moult = start(echo_section())
    assert moult.status()["supervisor"]["spares"] == []
    assert b"moult_spare" not in moult.get("/metrics")[1]


def test_takes_the_place_of_a_dead_one(start):
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    moult.note_fds()
    load = Load(moult.port)
    load.wait_more()
    for _ in range(3):
        assert kill_loader(moult) == pid
        load.wait_more()
        pid = ready_spare(moult, other_than=pid)
    load.stop_and_check()
    found = spare(moult)
    assert found["taken"] == 3 and found["lost"] == 0 and found["last_error"] is None
    metrics = moult.get("/metrics")[1].decode()
    assert 'moult_spare_ready{engine="identity"} 1' in metrics
    assert 'moult_spares_taken_total{engine="identity"} 3' in metrics
    receipt = moult.receipts("echo", 1)[-1]
    assert receipt["to"]["pid"] == moult.status("echo")["pid"] and receipt["spare"] is True
    assert moult.receipts("echo")[0]["spare"] is False
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"],
                          capture_output=True, text=True).stdout
    assert re.search(rf"spare loader of engine identity: ready, pid {pid}, .* taken 3", text)
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "receipts", "echo"],
                          capture_output=True, text=True).stdout
    assert text.count("spare     the loader had been started ahead") == 3, text


@pytest.mark.parametrize("strategy", ("overlap", "staged", "stop-first"))
def test_reloads_take_it(start, tmp_path, strategy):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    moult = start(echo_section(spare="yes", strategy=strategy, secrets=tmp_path / "secrets"))
    pid = ready_spare(moult)
    moult.note_fds()
    load = Load(moult.port)
    taken = lost = 0
    while taken < 3:
        load.wait_more()
        moult.write_secret(tmp_path / "secrets", "token", f"other {taken + lost}")
        receipt = moult.wait_receipt("echo", lambda r: r["number"] == taken + lost + 2)
        assert [receipt[k] for k in ("strategy", "cause", "outcome")] == [strategy, "secrets", "ok"]
        # Not taken where the machine kept it asleep for too long, and only there.
        has_slept = f'pid={pid} reason="it does not answer"' in moult.log_text()
        assert receipt["spare"] is (receipt["to"]["pid"] == pid) is not has_slept, receipt
        assert moult.status("echo")["pid"] == receipt["to"]["pid"]
        taken, lost = taken + (not has_slept), lost + has_slept
        assert lost < 10
        pid = ready_spare(moult, other_than=pid)
    load.wait_more()
    load.stop_and_check()
    assert spare(moult)["taken"] >= 3 and spare(moult)["lost"] == lost


def test_reloads_faster_than_spares_come(start):
    """What is not there is started as ever, and nobody waits for it."""
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    load = Load(moult.port)
    for _ in range(10):
        assert moult.reload("echo").returncode == 0
    load.wait_more()
    load.stop_and_check()
    took = [r["to"]["pid"] for r in moult.receipts("echo") if r["spare"]]
    assert took[0] == pid and len(took) < 10, took


def test_memory_is_counted_once(start):
    """Room for two loaders, and not for three: the spare is one of the two."""
    moult = start(echo_section(spare="yes", strategy="overlap"))
    pid = ready_spare(moult)
    held = spare(moult)["anon_bytes"]
    decision = moult.explain("echo")
    need = max(decision["need_bytes"], decision["loading_bytes"])
    # Measured a little later: what is in use may have grown by pages.
    budget = decision["used_bytes"] + need + decision["headroom_bytes"] + held // 4
    assert 0 < held
    moult.config.write_text(moult.head + f"[device host]\nbudget = {budget}\nreserve = 0\n")
    wait_for("the budget", lambda: moult.explain("echo")["budget_bytes"] == budget)
    assert moult.reload("echo").returncode == 0
    receipt = moult.receipts("echo")[-1]
    assert receipt["spare"] is True and receipt["to"]["pid"] == pid, receipt


def test_goes_when_memory_is_short(start):
    """Without any reload: what serves needs what the spare holds."""
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    used = moult.explain("echo")["used_bytes"] + spare(moult)["anon_bytes"]
    moult.config.write_text(moult.head +
                            f"[device host]\nbudget = {used}\nreserve = {used // 2}\n")
    wait_for("its end", lambda: not is_alive(pid))
    assert 'reason="memory is short"' in moult.log_text()
    assert answers(moult)


def test_holds_no_secret_and_no_device(start, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text(TOKEN)
    moult = start(echo_section(spare="yes", secrets=tmp_path / "secrets"))
    pid = ready_spare(moult)
    loader = moult.status("echo")["pid"]
    assert memory_has(loader, TOKEN.encode()), "the search finds nothing"
    assert not memory_has(pid, TOKEN.encode())
    check_waits_bare(pid)
    wait_for("one thread", lambda: os.listdir(f"/proc/{pid}/task") == [str(pid)])
    assert TOKEN not in pathlib.Path(f"/proc/{pid}/environ").read_text()


def check_waits_bare(pid):
    # What its libraries' threads look at while they begin is closed soon.
    wait_for("four descriptors", lambda: sorted(map(int, os.listdir(
        f"/proc/{pid}/fd"))) == [0, 1, 2, 3])
    fds = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(4)}
    assert fds[0] == "/dev/null" and fds[3].startswith("socket:"), fds
    assert not re.search(r" /dev/(nvidia|dri)", pathlib.Path(f"/proc/{pid}/maps").read_text())
    # It waits at ordinary priority, also its libraries' own threads.
    wait_for("the end of the idle time", lambda: all(
        os.sched_getscheduler(int(task)) == os.SCHED_OTHER
        for task in os.listdir(f"/proc/{pid}/task")))
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


def test_its_own_death_is_backed_off_from(start):
    moult = start(echo_section(spare="yes"))
    pid = 0
    for _ in range(3):
        pid = ready_spare(moult, other_than=pid)
        os.kill(pid, signal.SIGKILL)
        wait_for("its loss", lambda: spare(moult)["pid"] != pid)
    delays = [float(s) for s in re.findall(r"event=spare_lost .*delay_s=(\S+)",
                                           moult.log_text())]
    assert delays == [0.5, 1.0, 2.0], delays
    assert ready_spare(moult, other_than=pid)
    assert spare(moult)["lost"] == 3 and "Killed" in spare(moult)["last_error"]
    assert answers(moult)


def test_one_that_cannot_start_is_no_busy_loop(start, tmp_path):
    folder = kept_engines(tmp_path)
    moult = start(echo_section(spare="no"), supervisor=f"engine_dir = {folder}\n")
    (folder / "fresh").write_text("no library")
    os.rename(folder / "fresh", folder / "moult-engine-identity.so")
    path = moult.models / "0.conf"
    path.write_text(echo_section(spare="yes"))
    wait_for("two tries", lambda: spare(moult) and spare(moult)["lost"] >= 2)
    assert "identity" in spare(moult)["last_error"]
    assert spare(moult)["started"] <= 3
    assert answers(moult)


def test_a_stopped_one_does_not_hold_up_a_restart(start):
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    moult.note_fds()
    load = Load(moult.port)
    load.wait_more()
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    fresh = kill_loader(moult)
    took = time.monotonic() - begun
    assert fresh != pid
    load.wait_more()
    load.stop_and_check()
    print(f"{took * 1e3:.0f} ms with a stopped spare")
    wait_for("its end", lambda: not is_alive(pid))
    assert "event=spare_useless" in moult.log_text()
    receipt = moult.wait_receipt("echo", lambda r: r["cause"] == "crash")
    assert receipt["outcome"] == "ok" and receipt["to"]["pid"] == fresh, receipt
    assert receipt["spare"] is False
    assert ready_spare(moult, other_than=pid)
    assert spare(moult)["lost"] == 1


def test_one_that_dies_when_taken(start):
    """Both are killed at once: whatever moultd sees first, a loader serves."""
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    load = Load(moult.port)
    for _ in range(3):
        load.wait_more()
        serving = moult.status("echo")["pid"]
        os.kill(moult.pid, signal.SIGSTOP)
        os.kill(serving, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.kill(moult.pid, signal.SIGCONT)
        assert successor(moult, serving) != pid
        pid = ready_spare(moult, other_than=pid)
    load.stop_and_check()


@pytest.mark.parametrize("what", ("engine", "loader"))
def test_thrown_away_when_its_files_change(start, tmp_path, what):
    folder = kept_engines(tmp_path)
    loader = tmp_path / "moult-loader"
    shutil.copy2(BUILD / "moult-loader", loader)
    moult = start(echo_section(spare="yes"),
                  supervisor=f"engine_dir = {folder}\nloader = {loader}\n")
    pid = ready_spare(moult)
    replace(folder / "moult-engine-identity.so" if what == "engine" else loader)
    # Whether the look or the crash comes first: it is not used.
    assert kill_loader(moult) != pid
    assert ready_spare(moult, other_than=pid)
    pid = ready_spare(moult)
    replace(folder / "moult-engine-identity.so" if what == "engine" else loader)
    wait_for("its end", lambda: not is_alive(pid))
    assert re.search(r"event=spare_ended .*was replaced", moult.log_text())
    fresh = ready_spare(moult, other_than=pid)
    assert kill_loader(moult) == fresh


def kill_candidate(moult, served, state):
    """The pid of the candidate after @served, killed once it is in @state."""
    def candidate():
        echo = moult.status("echo")
        assert echo["pid"] in (0, served), "it was not slow"
        found = echo["candidate"]
        return found and found["state"] == state and found["pid"]
    pid = wait_for(f"a candidate {state}", candidate)
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize("phase, state", (("stage", "staging"), ("commit", "committing"),
                                          ("warmup", "warming")))
def test_killed_after_it_was_taken(start, tmp_path, phase, state):
    """From there on it is a loader like any other, which somebody killed."""
    when = tmp_path / "when"
    moult = start(echo_section(**{"spare": "yes", "engine": "fault",
                                  "option.fault": f"slow-on-{phase}", "option.when": when,
                                  **Gate(tmp_path).keys}))
    pid = ready_spare(moult, "fault")
    load = Load(moult.port)
    load.wait_more()
    when.touch()
    served = moult.status("echo")["pid"]
    os.kill(served, signal.SIGSEGV)  # a fault: what follows warms up
    assert kill_candidate(moult, served, state) == pid
    when.unlink()
    assert successor(moult, pid) != pid
    load.wait_more()
    load.stop_and_check()
    assert spare(moult, "fault")["taken"] >= 1
    assert ready_spare(moult, "fault", other_than=pid)


def test_a_library_behind_a_link(start, tmp_path):
    """Nothing is gone from disk: the name leads to another file."""
    maps = subprocess.run(["ldd", BUILD / "moult-loader"], capture_output=True, text=True).stdout
    name, path = re.search(r"(libjansson\S+) => (\S+)", maps).groups()
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        shutil.copy2(path, tmp_path / version / name)
    link = tmp_path / "current"
    link.symlink_to("old")
    moult = start(echo_section(spare="yes"), environment={"LD_LIBRARY_PATH": str(link)})
    pid = ready_spare(moult)
    assert "/old/libjansson" in pathlib.Path(f"/proc/{pid}/maps").read_text()
    (tmp_path / "next").symlink_to("new")
    os.rename(tmp_path / "next", link)
    fresh = kill_loader(moult)
    assert fresh != pid and spare(moult)["pid"] != pid
    assert re.search(r"event=spare_useless .*exit code 70", moult.log_text())
    assert "/new/libjansson" in pathlib.Path(f"/proc/{fresh}/maps").read_text()
    wait_for("its end", lambda: not is_alive(pid))
    pid = ready_spare(moult)
    assert kill_loader(moult) == pid


def test_another_engine(start):
    """A reload of the configuration takes the models to another engine, and the spare too."""
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    load = Load(moult.port)
    load.wait_more()
    (moult.models / "0.conf").write_text(echo_section(spare="yes", engine="fault"))
    wait_for("the end of the old", lambda: spare(moult) is None and not is_alive(pid))
    fresh = ready_spare(moult, "fault")
    wait_for("the reload", lambda: moult.receipts("echo")[-1]["cause"] == "config")
    assert kill_loader(moult) == fresh
    # Back to the inputs of before: their engine has no spare now.
    assert moult.ctl("rollback", "echo", "--wait").returncode == 0
    load.wait_more()
    load.stop_and_check()
    assert answers(moult)


def test_makes_room_for_a_replica(start):
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    decision = moult.explain("echo")
    need = max(decision["need_bytes"], decision["loading_bytes"])
    held = spare(moult)["anon_bytes"]  # of which a reload of its own does not count it
    budget = decision["used_bytes"] + held + need // 2 + held // 2
    moult.config.write_text(moult.head + f"[device host]\nbudget = {budget}\nreserve = 0\n")
    wait_for("the budget", lambda: moult.explain("echo")["budget_bytes"] == budget)
    assert moult.ctl("scale", "echo", "2").returncode == 0
    wait_for("two loaders", lambda: moult.status("echo")["replicas"]["serving"] == 2)
    assert not is_alive(pid)
    assert 'reason="a replica needs its memory"' in moult.log_text()


def test_not_for_a_replica(start):
    """While another one serves there is time."""
    moult = start(echo_section(spare="yes", replicas=2))
    pid = ready_spare(moult)
    wait_for("two loaders", lambda: moult.status("echo")["replicas"]["serving"] == 2)
    assert kill_loader(moult) != pid
    wait_for("two loaders", lambda: moult.status("echo")["replicas"]["serving"] == 2)
    assert spare(moult)["pid"] == pid


def test_goes_when_no_model_asks(start):
    moult = start(echo_section("a", spare="yes"), echo_section("b"))
    pid = ready_spare(moult)
    (moult.models / "0.conf").write_text(echo_section("a"))
    wait_for("its end", lambda: spare(moult) is None and not is_alive(pid))
    (moult.models / "1.conf").write_text(echo_section("b", spare="yes"))
    pid = ready_spare(moult)
    # Not for the one that does not ask.
    assert kill_loader(moult, "a") != pid
    assert kill_loader(moult, "b") == pid


def test_one_for_each_environment(start):
    """An interpreter, or a library, reads its environment when it starts."""
    moult = start(echo_section("a", spare="yes", **{"environment.WHOSE": "a"}),
                  echo_section("b", spare="yes", **{"environment.WHOSE": "b"}),
                  echo_section("c", spare="yes", **{"environment.WHOSE": "a"}))

    def both():
        found = moult.status()["supervisor"]["spares"]
        return len(found) == 2 and all(one["state"] == "ready" for one in found) and found
    whose = {re.search(r"WHOSE=(\w)", pathlib.Path(f"/proc/{one['pid']}/environ").read_text())
             .group(1): one["pid"] for one in wait_for("two spares", both)}
    assert sorted(whose) == ["a", "b"]
    assert 'moult_spare_ready{engine="identity"} 2' in moult.get("/metrics")[1].decode()
    assert kill_loader(moult, "b") == whose["b"]
    assert kill_loader(moult, "c") == whose["a"]
    assert answers(moult, "a") and answers(moult, "b") and answers(moult, "c")


def test_an_engine_directory_needs_a_restart(start, tmp_path):
    folder = kept_engines(tmp_path)
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    moult.config.write_text(moult.head + f"engine_dir = {folder}\n")
    wait_for("the news", lambda: "event=restart_needed" in moult.log_text())
    assert spare(moult)["pid"] == pid
    assert kill_loader(moult) == pid


def test_makes_room_for_a_reload(start, tmp_path):
    """Two that do not fit beside each other: the reload goes first, before another's spare."""
    moult = start(echo_section(),
                  echo_section("other", spare="yes", **{"environment.WHOSE": "other"}))
    pid = ready_spare(moult)
    held = spare(moult)["anon_bytes"]
    decision = moult.explain("echo")
    assert held > 0 and decision["used_bytes"] >= held
    need = max(decision["need_bytes"], decision["loading_bytes"])
    budget = decision["used_bytes"] - held // 2 + need + decision["headroom_bytes"]
    moult.config.write_text(moult.head + f"[device host]\nbudget = {budget}\nreserve = 0\n")
    wait_for("the budget", lambda: moult.explain("echo")["budget_bytes"] == budget)
    assert moult.explain("echo")["strategy"] in ("overlap", "handoff")
    assert spare(moult)["pid"] == pid, "to explain is to change nothing"
    assert moult.reload("echo").returncode == 0
    assert moult.receipts("echo")[-1]["strategy"] in ("overlap", "handoff")
    wait_for("its end", lambda: not is_alive(pid))
    assert 'reason="a reload needs its memory"' in moult.log_text()


def test_a_storm_of_deaths(start):
    """Faster than spares come: what is not there is started as ever."""
    moult = start(echo_section(spare="yes"))
    ready_spare(moult)
    moult.note_fds()
    load = Load(moult.port)
    for i in range(12):
        load.wait_more(50)
        kill(moult.status("echo")["pid"])
        if i % 3 == 0:
            moult.ctl("reload", "echo")
    load.wait_more()
    load.stop_and_check()
    ready_spare(moult)


def strike(moult):
    """The loader that serves or is about to, or the spare, or both; spares also stop."""
    state, found = status(moult, "echo"), spare(moult)
    loader = state["pid"] or (state["candidate"] or {}).get("pid")
    victims = {loader: signal.SIGKILL,
               found["pid"]: random.choice((signal.SIGKILL, signal.SIGSTOP))}
    for pid, number in victims.items():
        if random.random() < 0.6:
            kill(pid, number)


def test_a_storm_of_kills(start):
    random.seed(20)
    moult = start(echo_section(spare="yes", watch_window=0))
    ready_spare(moult)
    moult.note_fds()
    stream = Stream(moult.port, "echo", clients=16, pause_us=1000)
    stream.wait_more(100)
    end = time.monotonic() + STORM_S

    def is_over():
        strike(moult)
        time.sleep(random.choice((0.0, 0.02, 0.3, 1.2)))
        found = spare(moult)
        return time.monotonic() > end and found["taken"] > 0 and found["lost"] > 0
    wait_for("the end of the storm", is_over, STORM_S + patience())
    wait_settled(moult, "echo")
    stream.wait_more(100)
    found = spare(moult)
    totals = stream.stop()
    print(found, totals)
    assert totals["lost"] == 0 and totals["wrong"] == 0 and totals["failed"] == 0, totals
    # One that was stopped and not needed yet looks as ready as any.
    os.kill(ready_spare(moult), signal.SIGCONT)


def own_digits(tmp_path):
    """A file that no other moultd keeps a link to: a new link is a change to look into, and the
    reload that looks takes the spare."""
    return shutil.copy(DIGITS / "digits.pt", tmp_path)


def first_answer_ms(moult, model, body):
    pid = moult.status(model)["pid"]
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    code, _, answer = moult.infer(model, body)
    assert code == 200, answer
    return (time.monotonic() - begun) * 1e3, json.loads(answer)["outputs"]


def test_with_torch(start, tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text(TOKEN)
    body = (DIGITS / "heldout.jsonl").read_text().splitlines()[0]
    moult = start(digits_section(own_digits(tmp_path), spare="yes",
                                 secrets=tmp_path / "secrets"))
    expected = json.loads(moult.infer("digits", body)[2])["outputs"]
    times = {True: [], False: []}
    for with_spare in (True, False, True):
        pid = ready_spare(moult, "torch")
        check_waits_bare(pid)
        assert not memory_has(pid, TOKEN.encode())
        if not with_spare:
            os.kill(pid, signal.SIGKILL)
            wait_for("its loss", lambda: spare(moult, "torch")["state"] != "ready")
        ms, outputs = first_answer_ms(moult, "digits", body)
        times[with_spare].append(ms)
        assert outputs == expected
        assert (moult.status("digits")["pid"] == pid) == with_spare
    print("from death to the first answer, ms:",
          {"with" if k else "without": [round(t) for t in v] for k, v in times.items()})


def test_stopped_while_it_starts(start, tmp_path):
    """Nobody waits for one that is not ready; half a second is long for libtorch."""
    body = (DIGITS / "heldout.jsonl").read_text().splitlines()[0]
    moult = start(digits_section(own_digits(tmp_path), spare="yes"))
    def starting():
        found = spare(moult, "torch")
        return found["state"] == "starting" and found["pid"]
    pid = ready_spare(moult, "torch")
    os.kill(pid, signal.SIGKILL)
    pid = wait_for("another one", starting)
    os.kill(pid, signal.SIGSTOP)
    serving = moult.status("digits")["pid"]
    os.kill(serving, signal.SIGKILL)
    assert moult.infer("digits", body)[0] == 200
    assert successor(moult, serving, "digits") != pid and spare(moult, "torch")["pid"] == pid
    os.kill(pid, signal.SIGCONT)
    assert ready_spare(moult, "torch") == pid
    assert moult.receipts("digits")[-1]["spare"] is False


def test_ends_with_moultd(start):
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    moult.stop()
    assert not is_alive(pid)


def test_dies_with_moultd(start):
    moult = start(echo_section(spare="yes"))
    pid = ready_spare(moult)
    moult.kill()
    wait_for("its end", lambda: not is_alive(pid))
