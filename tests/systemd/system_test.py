# SPDX-License-Identifier: Apache-2.0
"""usage: system_test.py BUILD_DIR

moultd under a real systemd: what the units promise, tried from `systemctl start` to the
last process gone.  The built tree is installed into a container (container.py) the way
a package would do it.  Exit 77, with the reason, where the container cannot be had.
"""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
import traceback

from container import CannotRun, Container, require_machine, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = 8
CONF = "/etc/moult/moult.conf"
TOKEN = "/etc/moult/secrets/echo/token"
TOKEN_NEW = "/etc/moult/secrets/echo/.token.new"
IMAGES = 10
RELOADS = 5
RESTARTS = 12
WATCHDOG_S = 4
HAS_LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0
INFER = "/v2/models/echo/infer"

ECHO_MODEL = """\
[model echo]
engine = identity
input = x FP32 [-1,4]
output = x FP32 [-1,4]
secrets = /etc/moult/secrets/echo
option.secret = token
option.secret_prefix = tok-
"""

ECHO_BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4],
                                    "data": [1.0, 2.0, 3.0, 4.0]}]})

# A model file where the sandbox lets it be read; no path of this machine.
DIGITS_MODEL = """\
[model digits]
engine = torch
path = /var/lib/moult/digits.pt
input = image FP32 [-1,64]
output = scores FP32 [-1,10]
"""

# Run inside the container's network: prints status, generation and body of one answer.
ASK = """
import json, sys, urllib.request
url = "http://127.0.0.1:8080" + sys.argv[1]
data = sys.stdin.buffer.read() or None
with urllib.request.urlopen(url, data, timeout=30) as answer:
    text = answer.read().decode()
    print(json.dumps([answer.status, answer.headers["moult-generation"], text]))
"""


class Moult:
    """moultd in the container, seen as its operator and its clients see it."""

    def __init__(self, box):
        self.box = box
        self.installed = ""  # what cmake said while installing

    def install(self, build):
        """Install the build; then what a package's post-install step does. The container's
        root shows what a moultd of this machine has left: a new machine has nothing of it."""
        self.box.run("rm -rf /etc/moult /var/lib/moult")
        env = dict(os.environ, DESTDIR=self.box.root)
        done = subprocess.run(["cmake", "--install", build], env=env, check=True,
                              stdout=subprocess.PIPE, text=True)
        self.installed = done.stdout
        self.box.run("systemd-sysusers && systemd-tmpfiles --create"
                     " && systemctl daemon-reload")
        self.give_model()

    def give_model(self):
        """The section of a model that answers what it is asked, and its secret."""
        self.box.write("/etc/moult/models.d/echo.conf", ECHO_MODEL)
        self.box.run("install -d -m 0750 -g moult /etc/moult/secrets/echo")
        self.secret("tok-1")

    def example(self):
        """Where the example of a configuration was put."""
        return next(line.split()[-1].removeprefix(self.box.root)
                    for line in self.installed.splitlines() if "moult.conf.example" in line)

    def secret(self, value):
        """Put a secret into place, the way a careful operator does: a file whose name begins
        with a dot is no secret meanwhile."""
        self.box.run(f"umask 027 && printf %s '{value}' >{TOKEN_NEW}"
                     f" && chgrp moult {TOKEN_NEW} && mv {TOKEN_NEW} {TOKEN}")

    def show(self, *names, unit="moultd.service"):
        """Properties of a unit, in the order asked for."""
        text = self.box.run(f"systemctl show {unit} -p {','.join(names)}").stdout
        found = dict(line.split("=", 1) for line in text.splitlines())
        values = [found[name] for name in names]
        return values if len(values) > 1 else values[0]

    def ask(self, path, body=""):
        """(status, generation, body) of one request: POST with a body, else GET."""
        done = subprocess.run(self.box.enter("-n") + [sys.executable, "-c", ASK, path],
                              input=body, capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode != 0:
            raise AssertionError(f"{path}: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout)

    def predict(self):
        """One inference; returns the generation that answered."""
        status, generation, body = self.ask(INFER, ECHO_BODY)
        data = json.loads(body)["outputs"][0]["data"]
        assert status == 200 and data == [1.0, 2.0, 3.0, 4.0], (status, body)
        assert generation and generation.isdigit(), f"generation {generation!r}"
        return int(generation)

    def reload(self):
        """systemctl reload: (exit code, what it and the journal of it said)."""
        mark = self.box.run("journalctl -n 0 --show-cursor").stdout.split("cursor: ")[1]
        done = self.box.run("systemctl reload moultd", check=False)
        log = self.box.run("journalctl --sync; journalctl -u moultd -o cat"
                           f" --after-cursor='{mark.strip()}'").stdout
        return done.returncode, done.stdout + done.stderr + log

    @contextlib.contextmanager
    def load(self):
        """Requests without pause for as long as the block lasts; then none lost."""
        client = subprocess.Popen(
            self.box.enter("-n") + [sys.executable, "-B", f"{HERE}/load.py", "8080",
                                    INFER, str(CLIENTS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        result = {}
        try:
            assert client.stdout.readline() == "started\n", "the load did not start"
            yield result
        finally:
            out, _ = client.communicate(timeout=120)
        result.update(json.loads(out))
        outcomes = result["outcomes"]
        sent, answered = sum(outcomes.values()), outcomes.get("ok", 0)
        print(f"#   sent {sent}, answered {answered}, lost {sent - answered},"
              f" longest {result['longest_s']} s", flush=True)
        assert sent == answered, outcomes
        self.check_conservation()

    def check_conservation(self):
        """accepted = answered + held + leased + failed, by moultd's own count."""
        status = json.loads(self.box.run("moultctl --json status").stdout)
        for model in status["models"]:
            n = model["requests"]
            assert n["accepted"] == (n["answered"] + n["held"] + n["leased"]
                                     + n["failed"]), n
            assert n["failed"] == 0, n


def start_reaches_ready(moult):
    """systemctl start returns when the model answers, and not before."""
    moult.box.run("systemctl start moultd.socket moultd.service")
    assert moult.show("ActiveState", "SubState") == ["active", "running"]
    assert moult.show("User", "NRestarts") == ["moult", "0"]
    assert moult.ask("/v2/health/ready")[0] == 200
    assert moult.predict() == 1


def each_loader_has_a_control_group(moult):
    """Below the unit's, which is delegated; moultd itself stays where systemd put it."""
    supervisor = json.loads(moult.box.run("moultctl --json status").stdout)["supervisor"]
    unit = moult.show("ControlGroup")
    assert supervisor["loader_groups"], supervisor["no_loader_groups"]
    assert f"{unit}/moultd." in supervisor["loader_groups"], supervisor["loader_groups"]
    main = moult.show("MainPID")
    of = "grep ^0:: /proc/{}/cgroup"
    assert moult.box.run(of.format(main)).stdout.strip().endswith(unit)
    loaders = moult.box.run(f"cat /proc/{main}/task/*/children").stdout.split()
    groups = {moult.box.run(of.format(pid)).stdout.strip() for pid in loaders}
    assert loaders and all("/moultd." in group for group in groups), groups


def loaders_do_not_speak_for_moultd(moult):
    """No notify, watchdog or listen variable reaches a loader."""
    main = moult.show("MainPID")
    inherited = moult.box.run(
        f"for p in $(cat /proc/{main}/task/*/children); do cat /proc/$p/environ; done"
        " | tr '\\0' '\\n' | grep -E '^(NOTIFY_|WATCHDOG_|LISTEN_)' || :").stdout
    assert inherited == "", inherited


def good_reload_serves_the_new_generation(moult):
    """Exit 0, and the new secret's generation answers; nothing is lost meanwhile."""
    before = moult.predict()
    with moult.load():
        moult.secret("tok-2")
        code, said = moult.reload()
        assert code == 0, said
        assert moult.predict() > before
    assert moult.show("ActiveState", "SubState") == ["active", "running"]


def bad_secret_is_refused(moult):
    """Non-zero exit, the reason in the journal, the old generation serving."""
    before = moult.predict()
    with moult.load():
        moult.secret("bad-5ecret")
        code, said = moult.reload()
        assert code != 0, said
        assert "tok-" in said or "token" in said, said
        assert "5ecret" not in said, "the secret itself was logged"
        assert moult.predict() == before
    status = moult.box.run("systemctl status moultd; moultctl status", check=False).stdout
    assert "failed" in status or "refused" in status, status
    moult.secret("tok-3")
    code, said = moult.reload()
    assert code == 0, said
    assert moult.predict() > before


def bad_configuration_is_refused(moult):
    """The check before the reload stops it; file, line and key are named."""
    before = moult.predict()
    good = moult.box.run(f"cat {CONF}").stdout
    with moult.load():
        moult.box.write(CONF, good.replace("listen =", "lissten ="))
        code, said = moult.reload()
        assert code != 0 and "lissten" in said and "moult.conf" in said, (code, said)
        assert moult.predict() == before
        moult.box.write(CONF, good)
    code, said = moult.reload()
    assert code == 0, said


def a_start_on_a_bad_configuration_serves(moult):
    """With the one that served last, which a writer kept from inside of the sandbox; the
    unit's status says so. Without that: the state directory is known from systemd alone."""
    good = moult.box.run(f"cat {CONF}").stdout
    before = moult.predict()
    moult.box.write(CONF, good.replace("state_dir =", "state_dirr =")
                    .replace("listen =", "lissten ="))
    moult.box.run("systemctl restart moultd")
    assert moult.predict() > before
    assert moult.show("ActiveState", "NRestarts") == ["active", "0"]
    status = moult.box.run("systemctl status -n 50 moultd; moultctl status").stdout
    assert status.count("lissten") >= 3 and "of an earlier run is in use" in status, status
    moult.box.write(CONF, good)
    code, said = moult.reload()
    assert code == 0, said
    assert "refused" not in moult.show("StatusText"), moult.show("StatusText")


def concurrent_reloads_both_answer(moult):
    """Two by systemctl and two by moultctl at once: all exit 0, all the same result."""
    before = moult.predict()
    with moult.load():
        for command in ("systemctl reload moultd", "moultctl reload --wait"):
            script = f"{command} & a=$!; {command} & b=$!; wait $a && wait $b"
            moult.box.run(script)
    assert before + 1 < moult.predict() <= before + 4
    assert moult.show("ActiveState", "SubState") == ["active", "running"]


def sighup_reloads(moult):
    """For people who type kill -HUP: RELOADING=1, then READY=1, a new generation."""
    before = moult.predict()
    moult.box.run("systemctl kill --kill-whom=main -s HUP moultd")
    wait_for("a new generation", lambda: moult.predict() > before, 60)
    wait_for("running", lambda: moult.show("SubState") == "running", 60)


def reloads_leak_nothing(moult):
    """After more reloads: as many open files and loaders as before, no zombie."""
    main = moult.show("MainPID")
    count = f"ls /proc/{main}/fd | wc -l; cat /proc/{main}/task/*/children | wc -w"
    before = moult.box.run(count).stdout.split()
    for _ in range(RELOADS):
        moult.box.run("systemctl reload moultd")
    wait_for(f"back to {before} files and loaders",
             lambda: moult.box.run(count).stdout.split() == before, 30)
    zombies = [entry for entry in moult.box.processes("") if entry[1] == "Z"]
    assert not zombies, zombies


def exposure(moult, most):
    """What systemd makes of the unit as it runs; the walls stand inside it, all of them."""
    said = moult.box.run("systemd-analyze security --no-pager moultd.service").stdout
    score = float(said.rsplit("moultd.service: ", 1)[1].split()[0])
    walls = json.loads(moult.box.run("moultctl --json status").stdout)["models"][0]["walls"]
    layers = ["no_new_privs", "no_core", "not_dumpable", "no_capabilities", "seccomp"]
    if HAS_LANDLOCK:
        layers.append("landlock")
    assert walls["sandbox"] == "strict" and bool(walls["missing"]) != HAS_LANDLOCK, walls
    assert set(layers) == set(walls["layers"].split(", ")), walls
    assert score <= most, said
    return f"exposure {score}"


def walls_stand_inside_the_unit(moult):
    """A loader puts its own up under those of the unit."""
    return exposure(moult, 1.8)


def a_unit_for_this_machine_alone(moult):
    """The drop-in for machines without a GPU whose clients are on it."""
    folder = "/etc/systemd/system/moultd.service.d"
    moult.box.run(f"mkdir -p {folder} && cp $(dirname {moult.example()})/local.conf {folder}"
                  " && systemctl daemon-reload && systemctl restart moultd")
    moult.predict()
    note = exposure(moult, 1.5)
    moult.box.run(f"rm -r {folder} && systemctl daemon-reload && systemctl restart moultd")
    return note


def libtorch_runs_in_the_sandbox(moult):
    """A real model, added and removed by a reload, answers what it answers outside."""
    if "moult-engine-torch.so" not in moult.installed:
        return "skipped: this build has no torch engine"
    digits = os.path.join(HERE, "../../examples/digits")
    shutil.copyfile(f"{digits}/digits.pt", f"{moult.box.root}/var/lib/moult/digits.pt")
    moult.box.run("chmod 0644 /var/lib/moult/digits.pt")
    moult.box.write("/etc/moult/models.d/digits.conf", DIGITS_MODEL)
    code, said = moult.reload()
    assert code == 0, said
    with open(f"{digits}/expected.json", encoding="ascii") as expected:
        predictions = json.load(expected)["predictions"]
    with open(f"{digits}/heldout.jsonl", encoding="ascii") as images:
        for image, prediction in zip(images, predictions[:IMAGES]):
            _, _, answer = moult.ask("/v2/models/digits/infer", image)
            scores = json.loads(answer)["outputs"][0]["data"]
            assert scores.index(max(scores)) == prediction, (scores, prediction)
    moult.box.run("rm /etc/moult/models.d/digits.conf")
    code, said = moult.reload()
    assert code == 0, said
    return None


def restart_refuses_no_connection(moult):
    """The socket unit holds the listener: a restart is a pause, not an error."""
    before = moult.show("MainPID")
    with moult.load():
        for _ in range(RESTARTS):
            moult.box.run("systemctl restart moultd")
    assert moult.show("MainPID") != before
    assert moult.show("Result") == "success"


def daemon_reload_disturbs_nothing(moult):
    """The unit is read again under load; the same process goes on."""
    before = moult.show("MainPID")
    with moult.load():
        moult.box.run("systemctl daemon-reload && systemctl daemon-reload")
    assert moult.show("MainPID") == before


def a_stuck_moultd_is_aborted(moult):
    """SIGSTOP starves the watchdog; systemd aborts moultd and starts it again."""
    moult.box.write("/etc/systemd/system/moultd.service.d/watchdog.conf",
                    f"[Service]\nWatchdogSec={WATCHDOG_S}s\n")
    moult.box.run("systemctl daemon-reload && systemctl restart moultd")
    pings = set()

    def fed():
        pings.add(moult.show("WatchdogTimestampMonotonic"))
        return len(pings) > 3

    wait_for("three pings", fed, 3 * WATCHDOG_S)
    assert moult.show("NRestarts") == "0"
    stuck = moult.show("MainPID")
    loaders = moult.box.run(f"cat /proc/{stuck}/task/*/children").stdout.split()
    moult.box.run("systemctl kill --kill-whom=main -s STOP moultd")
    wait_for("the watchdog", lambda: moult.show("NRestarts") == "1", 60)
    wait_for("the new moultd",
             lambda: moult.show("ActiveState", "SubState") == ["active", "running"], 60)
    log = moult.box.run("journalctl -u moultd -o cat").stdout
    assert "Watchdog timeout" in log and "watchdog" in log, log[-2000:]
    moult.predict()
    alive = moult.box.run(f"ls -d {' '.join(f'/proc/{pid}' for pid in loaders)}",
                          check=False).stdout
    assert loaders and not alive, f"loaders of the aborted moultd: {alive}"


def a_connection_starts_it(moult):
    """Stopped with the socket left on: the first request starts it and is answered."""
    moult.box.run("systemctl stop moultd.service 2>&1")
    assert moult.show("ActiveState") == "inactive"
    moult.predict()
    assert moult.show("ActiveState") == "active"


def stop_leaves_no_process(moult):
    """Socket and service stopped: success, an empty cgroup, no zombie, no socket."""
    moult.box.run("systemctl stop moultd.socket moultd.service")
    assert moult.show("ActiveState", "Result") == ["inactive", "success"]
    left = moult.box.processes(r"^moult")
    assert not left, left
    zombies = [entry for entry in moult.box.processes("") if entry[1] == "Z"]
    assert not zombies, zombies
    owned = moult.box.run("find /proc -maxdepth 1 -user moult", check=False).stdout
    assert not owned, owned
    with contextlib.suppress(AssertionError):
        moult.ask("/v2/health/live")
        raise RuntimeError("something still answers on the port")
    assert moult.box.run("ls /run/moult", check=False).stdout == ""


STEPS = (
    start_reaches_ready,
    each_loader_has_a_control_group,
    loaders_do_not_speak_for_moultd,
    good_reload_serves_the_new_generation,
    bad_secret_is_refused,
    bad_configuration_is_refused,
    a_start_on_a_bad_configuration_serves,
    concurrent_reloads_both_answer,
    sighup_reloads,
    reloads_leak_nothing,
    walls_stand_inside_the_unit,
    a_unit_for_this_machine_alone,
    libtorch_runs_in_the_sandbox,
    restart_refuses_no_connection,
    daemon_reload_disturbs_nothing,
    a_stuck_moultd_is_aborted,
    a_connection_starts_it,
    stop_leaves_no_process,
)


def run_steps(moult, steps):
    """Each step needs the one before it: the first failure ends the test."""
    print(f"1..{len(steps)}", flush=True)
    for number, step in enumerate(steps, 1):
        began = time.monotonic()
        try:
            note = step(moult)
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(moult.box.run("systemctl status -n 0 moultd; journalctl -u moultd"
                                " -o short -n 60", check=False).stdout)
            print(f"not ok {number} - {step.__name__}", flush=True)
            return 1
        took_s = time.monotonic() - began
        print(f"ok {number} - {step.__name__} ({note or f'{took_s:.1f} s'})", flush=True)
    return 0


def main():
    """Boot, install, run the steps."""
    build = os.path.abspath(sys.argv[1])
    try:
        require_machine()
        with Container() as box:
            moult = Moult(box)
            moult.install(build)
            return run_steps(moult, STEPS)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
