# SPDX-License-Identifier: Apache-2.0
"""A real systemd, booted in systemd-nspawn on a throw-away overlay of this machine.

The overlay's upper layer is a tmpfs in a mount namespace of our own, so nothing that
happens in the container reaches the machine, and nothing is left behind when we end.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BOOT_S = 60
STOP_S = 30
IN_NAMESPACE = "MOULT_TEST_MOUNT_NAMESPACE"
TOOLS = ("systemd-nspawn", "nsenter", "unshare", "setpriv", "mount", "cmake")


class CannotRun(Exception):
    """This machine does not allow the test; the text says why."""


def slowness():
    """How many want to run on each core, now or in the last minute; 1 at least."""
    with open("/proc/loadavg", encoding="utf-8") as file:
        fields = file.read().split()
    wanting = max(float(fields[0]), int(fields[3].split("/")[0]))
    return min(max(1.0, wanting / os.cpu_count()), 20.0)


def wait_for(what, probe, timeout_s):
    """Poll until probe() is true and return its value, or fail by name: after @timeout_s, or
    later where others compute as well."""
    begun = time.monotonic()
    while True:
        value = probe()
        if value:
            return value
        waited = time.monotonic() - begun
        if waited > timeout_s and waited > timeout_s * slowness():
            raise AssertionError(f"{what}: not within {waited:.0f} s")
        time.sleep(0.02)


def require_machine():
    """Raise CannotRun, or go on in a private mount namespace (re-executes once)."""
    if os.geteuid() != 0:
        raise CannotRun("not root: booting systemd in a container needs it")
    for tool in TOOLS:
        if not shutil.which(tool):
            raise CannotRun(f"no {tool} here (Debian: apt install systemd-container)")
    if os.environ.get(IN_NAMESPACE):
        return
    private = ["unshare", "--mount", "--propagation", "private"]
    probe = subprocess.run(private + ["true"], capture_output=True, text=True)
    if probe.returncode != 0:
        raise CannotRun(f"no mount namespace: {probe.stderr.strip()}")
    os.environ[IN_NAMESPACE] = "1"
    os.execvp(private[0], private + [sys.executable, "-B"] + sys.argv)


def cgroup_roots():
    """Where nspawn will make cgroups: the unified tree, and systemd's own of v1."""
    unified, named = None, None
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            left, right = line.rstrip("\n").split(" - ")
            path = left.split()[4]
            fstype, _, options = right.split()[:3]
            if fstype == "cgroup2":
                unified = unified or path
            elif fstype == "cgroup" and "name=systemd" in options.split(","):
                named = named or path
    return unified, named


class Container:
    """Boots on enter; run() is a shell inside; all is gone on exit."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="moult-system-test-")
        self.root = f"{self.base}/root"
        self.console = f"{self.base}/console"
        self.cgroups = []
        self.nspawn = None
        self.pid1 = None

    def __enter__(self):
        try:
            self._mount()
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def _mount(self):
        def mount(*argv):
            done = subprocess.run(("mount",) + argv, capture_output=True, text=True)
            if done.returncode != 0:
                raise CannotRun(f"mount {' '.join(argv)}: {done.stderr.splitlines()[0]}")

        mount("-t", "tmpfs", "-o", "mode=0755", "moult-test", self.base)
        for name in ("upper", "work", "root"):
            os.mkdir(f"{self.base}/{name}")
        mount("-t", "overlay", "-o",
              f"lowerdir=/,upperdir={self.base}/upper,workdir={self.base}/work",
              "moult-test", self.root)
        # A machine of its own: no file systems to mount, no first-boot questions.
        self.write("/etc/fstab", "")
        self.write("/etc/hostname", "moult-test\n")
        self.write("/etc/machine-id", "6d6f756c740000000000000000000001\n")

    def _boot(self):
        unified, named = cgroup_roots()
        env = dict(os.environ)
        if unified:
            env["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
        for tree in filter(None, (unified, named)):
            group = f"{tree}/moult-test-{os.getpid()}"
            try:
                os.mkdir(group)
            except OSError as error:
                raise CannotRun(f"no cgroup of our own: {error}") from error
            self.cgroups.append(group)
        if not self.cgroups:
            raise CannotRun("no cgroup file system is mounted")

        def enter_cgroups():
            for group in self.cgroups:
                with open(f"{group}/cgroup.procs", "w", encoding="ascii") as procs:
                    procs.write("0")

        with open(self.console, "wb") as console:
            self.nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "systemd-nspawn", "--quiet",
                 "--directory", self.root, "--register=no", "--keep-unit",
                 "--private-network", "--console=pipe", "--link-journal=no",
                 "--resolv-conf=off", "--timezone=off",
                 # systemd 252 keeps it from what it contains; a machine does not.
                 "--system-call-filter=landlock_create_ruleset landlock_add_rule "
                 "landlock_restrict_self", "--boot",
                 "systemd.unit=sysinit.target"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=env,
                preexec_fn=enter_cgroups, start_new_session=True)
        try:
            self.pid1 = wait_for("PID 1 of the container", self._find_pid1, BOOT_S)
            wait_for("boot", self._booted, BOOT_S)
        except AssertionError as error:
            with open(self.console, encoding="utf-8", errors="replace") as console:
                tail = console.read()[-2000:].strip()
            raise CannotRun(f"systemd does not boot here: {error}: {tail}") from error

    def _find_pid1(self):
        if self.nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.nspawn.returncode}")
        path = f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children"
        with open(path, encoding="ascii") as children:
            for pid in children.read().split():
                with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                    if comm.read().strip() == "systemd":
                        return int(pid)
        return None

    def _booted(self):
        state = self.run("systemctl is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def enter(self, *flags):
        """The command prefix that puts a program into the container."""
        return ["nsenter", "--target", str(self.pid1), *flags]

    def run(self, script, check=True, timeout_s=120):
        """Run a shell script inside; its output is text."""
        argv = self.enter("-m", "-u", "-i", "-n", "-p", "-C") + ["/bin/sh", "-c", script]
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               "LANG": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False,
                              timeout=timeout_s, cwd="/")
        if check and done.returncode != 0:
            raise AssertionError(
                f"{script}: exit {done.returncode}\n{done.stdout}{done.stderr}".strip())
        return done

    def write(self, path, text, mode=0o644):
        """Replace a file of the container, atomically; its owner is root."""
        target = self.root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target + ".new", "w", encoding="utf-8") as new:
            new.write(text)
        os.chmod(target + ".new", mode)
        os.rename(target + ".new", target)

    def processes(self, pattern):
        """(pid inside, state, command line) of each process whose name matches."""
        found = []
        listing = self.run("for d in /proc/[0-9]*; do "
                           "s=$(cat $d/stat 2>/dev/null) && echo \"$s\"; done").stdout
        for line in listing.splitlines():
            match = re.match(r"(\d+) \((.*)\) (\S) (\d+)", line)
            if match and re.search(pattern, match.group(2)):
                found.append((int(match.group(1)), match.group(3), match.group(2)))
        return found

    def close(self):
        """Power off, and remove what the machine itself would keep."""
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(STOP_S * slowness())
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        for path in (self.root, self.base):
            if os.path.ismount(path):
                subprocess.run(["umount", "--lazy", path], check=False)
        if os.path.isdir(self.base):
            os.rmdir(self.base)
        for group in self.cgroups:
            self._remove_cgroup(group)
        self.cgroups = []

    @staticmethod
    def _remove_cgroup(top):
        def gone():
            for group, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(group)
                except OSError:
                    return False
            return True

        wait_for(f"{top} to empty", gone, STOP_S)
