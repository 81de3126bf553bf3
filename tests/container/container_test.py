# SPDX-License-Identifier: Apache-2.0
"""usage: container_test.py BUILD FOLDER PACKAGES

The image that BUILD makes of PACKAGES, run by podman as a cluster would: a read-only root, no
capability, no network but its own. It serves, takes a secret that is replaced as Kubernetes does it,
stops in order, and starts again on what it has kept. FOLDER is that of tests/bare, whose root the
image begins with. Exit 77 where podman cannot run.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from root import CannotRun, Kept, require_machine

TAG = "localhost/moult"
STEP_S = 600
HERE = pathlib.Path(__file__).resolve().parent
# The limits of this machine's session may be below podman's own.
RUN = ["run", "--detach", "--name", "moult", "--network", "none", "--read-only", "--cap-drop", "all",
       "--security-opt", "no-new-privileges", "--ulimit", "nofile=4096:4096",
       "--ulimit", "nproc=4096:4096"]
APP = """
import moult


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [moult.secrets.raw("word")]
"""
MODELS = {"app": """
[model app]
engine = python
wsgi = app:app
working_directory = /srv/app
route = /app/
secrets = /run/secrets/app
""", "echo": """
[model echo]
engine = identity
input = x FP32 [-1]
output = x FP32 [-1]
"""}
# The state is in a folder that nobody has made.
ELSEWHERE = """
[supervisor]
listen = 127.0.0.1:8080
control = /run/moult/moultd.sock
state_dir = /run/moult/state
models_dir = /etc/moult/models.d
"""


class Podman:
    """podman, with images and containers of its own in @place."""

    def __init__(self, place):
        (place / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{place}/run"\ngraphroot = "{place}/graph"\n',
            encoding="utf-8")
        self.env = dict(os.environ, CONTAINERS_STORAGE_CONF=str(place / "storage.conf"),
                        PODMAN_IGNORE_CGROUPSV1_WARNING="1")
        # crun refuses the control groups of some machines, which runc takes.
        self.command = ["podman", *(["--runtime", "runc"] if shutil.which("runc") else [])]

    def start(self, *arguments, **options):
        return subprocess.Popen([*self.command, *arguments], env=self.env,
                                stdin=subprocess.DEVNULL, text=True, **options)

    def __call__(self, *arguments, may_fail=False):
        done = subprocess.run([*self.command, *arguments], env=self.env, text=True, timeout=STEP_S,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if may_fail:
            return done
        assert done.returncode == 0, (arguments, done.stdout, done.stderr, self.logs())
        return done.stdout

    def logs(self):
        done = self("logs", "moult", may_fail=True)
        return done.stdout + done.stderr

    def inside(self, *command):
        return self("exec", "moult", *command)

    def state(self, text):
        return self("inspect", "--format", "{{.State." + text + "}}", "moult").strip()


def write_secret(folder, number, value):
    """As Kubernetes writes a volume of secrets: a folder of files, and a link that is replaced."""
    version = folder / f"..{number}"
    version.mkdir()
    (version / "word").write_text(value, encoding="utf-8")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")
    if number == 1:
        (folder / "word").symlink_to("..data/word")


def serves(podman, secrets):
    podman.inside("python3", "/srv/app/visit.py", "old", "echo")
    rows = json.loads(podman.inside("moultctl", "--json", "status"))
    assert [(model["name"], model["state"]) for model in rows["models"]] == [
        ("app", "ready"), ("echo", "ready")], rows
    client = podman.start("exec", "moult", "python3", "/srv/app/visit.py", "old", "new",
                          stdout=subprocess.PIPE)
    assert client.stdout.readline() == "asks\n"
    write_secret(secrets, 2, "new")
    said = client.communicate(timeout=STEP_S)[0]
    assert client.returncode == 0, (said, podman.logs())
    print(said, end="")


def is_confined(podman):
    """The first process is moultd, nobody's, without rights, on a root that nobody writes."""
    status = dict(line.split(":\t", 1) for line in
                  podman.inside("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert status["Name"] == "moultd" and status["Uid"].split()[1] == "65534", status
    assert int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0, status
    assert status["NoNewPrivs"] == "1", status
    for path in ("/x", "/etc/moult/x", "/usr/x", "/srv/app/x"):
        done = podman("exec", "moult", "touch", path, may_fail=True)
        assert "Read-only file system" in done.stderr, (path, done)
    assert re.search("event=walls model=echo gen=[0-9]+ sandbox=strict layers=.*seccomp",
                     podman.logs()), podman.logs()


def stops(podman):
    begin = time.monotonic()
    podman("stop", "--time", "60", "moult")
    print(f"stopped: {time.monotonic() - begin:.2f} s")
    assert podman.state("ExitCode") == "0", podman.logs()
    assert "event=stopped result=0" in podman.logs(), podman.logs()


def run(podman, place):
    for name in ("app", "models.d", "secrets"):
        (place / name).mkdir()
    (place / "app/app.py").write_text(APP, encoding="utf-8")
    shutil.copyfile(HERE / "visit.py", place / "app/visit.py")
    for name, text in MODELS.items():
        (place / f"models.d/{name}.conf").write_text(text, encoding="utf-8")
    (place / "elsewhere.conf").write_text(ELSEWHERE, encoding="utf-8")
    write_secret(place / "secrets", 1, "old")
    mounts = ["--volume", f"{place}/app:/srv/app:ro", "--volume",
              f"{place}/models.d:/etc/moult/models.d:ro", "--volume",
              f"{place}/secrets:/run/secrets/app:ro"]
    podman(*RUN, *mounts, TAG)
    serves(podman, place / "secrets")
    is_confined(podman)
    stops(podman)
    # On the volumes of before: a socket, and what was kept.
    podman("start", "moult")
    podman.inside("python3", "/srv/app/visit.py", "new", "echo")
    stops(podman)
    podman("rm", "--volumes", "moult")
    podman(*RUN, *mounts, "--volume", f"{place}/elsewhere.conf:/etc/moult/moult.conf:ro", TAG)
    podman.inside("python3", "/srv/app/visit.py", "new", "echo")
    made = podman.inside("stat", "-c", "%a %u", "/run/moult/state")
    assert made == "750 65534\n", made
    stops(podman)


def main():
    _, build, folder, packages = sys.argv
    try:
        require_machine()
        if not shutil.which("podman"):
            raise CannotRun("no podman here (Debian: apt-get install podman runc)")
        kept = Kept(folder)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77
    with tempfile.TemporaryDirectory(prefix="moult-") as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        podman = Podman(place)
        done = podman("info", may_fail=True)
        if done.returncode:
            print(f"SKIP: podman does not run here: {done.stderr}")
            return 77
        try:
            subprocess.run([build, packages, TAG], check=True, timeout=STEP_S, stdin=subprocess.DEVNULL,
                           env=dict(podman.env, MOULT_ROOT=str(kept.archive)))
            run(podman, place)
        finally:
            podman("rm", "--all", "--force", "--volumes", may_fail=True)
            podman("rmi", "--all", "--force", may_fail=True)
            subprocess.run(["umount", "-q", place / "graph/overlay"], check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
