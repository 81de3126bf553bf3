# SPDX-License-Identifier: Apache-2.0
"""A bare Debian, 12 where nothing else is said: what debootstrap calls minbase, with git,
certificates and sudo.

It is made once and kept as an archive, and so are the packages that apt brings into it.
Where packages come from is what apt of this machine says; nothing here names a host.
What runs inside has mounts and process numbers of its own, which end with it.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

SUITE = "bookworm"
INCLUDE = "git,ca-certificates,sudo"
USER = "ann"
MARK = ".moult-bare"
TOOLS = ("debootstrap", "unshare", "setpriv", "mount", "chroot", "tar", "git", "apt-get",
         "apt-config", "python3")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")

# Mounts, and where it is asked for the loopback device; then the command, inside.
ENTER = """
set -e
mount -t proc proc "$0/proc"
mount -t sysfs -o ro sys "$0/sys"
mount --rbind /dev "$0/dev"
mount --bind "$1" "$0/var/cache/apt/archives"
if [ "$2" = net ]; then
	python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))'
fi
user=$3
cd "$0"
shift 3
exec chroot --userspec="$user" "$0" "$@"
"""


class CannotRun(Exception):
    """This machine does not allow the test; the text says why."""


def said(*command, env=None):
    """What @command prints; CannotRun with its last lines where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=env, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-8:])
        raise CannotRun(f"{command[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout


def require_machine():
    if os.path.exists(f"/{MARK}"):
        raise CannotRun("this is the bare root already")
    if os.geteuid() != 0:
        raise CannotRun("not root: a root of its own needs it")
    for tool in TOOLS:
        if not shutil.which(tool):
            raise CannotRun(f"no {tool} here (Debian: .ci/install check)")
    said("unshare", "--mount", "--propagation", "private", "--pid", "--net", "--fork", "true")


def apt_sources(suite):
    """Lines of sources.list: where this machine has its own packages from, for @suite."""
    lines = []
    listing = said("apt-get", "indextargets", "--format",
                   "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages")
    for line in listing.splitlines():
        uri, release, component, *origin = line.split()
        if (release in (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
                and component == "main" and origin in ([], ["Debian"])):
            lines.append(f"deb {uri} {release} main")
    if not any(line.split()[2] == SUITE for line in lines):
        raise CannotRun(f"apt of this machine names no mirror of Debian {SUITE}")
    if suite != SUITE:
        return [line.replace(f" {SUITE} ", f" {suite} ") for line in sorted(set(lines))
                if line.split()[2] == SUITE]
    return sorted(set(lines), key=lambda line: (line.split()[2], line))


def apt_settings():
    """How this machine reaches them: proxies, tries, whether dates are checked."""
    return [line for line in said("apt-config", "dump").splitlines()
            if line.startswith("Acquire::") and "::IndexTargets" not in line]


def environment(home):
    proxies = {name: os.environ[name] for name in PROXIES if name in os.environ}
    return dict(proxies, HOME=home, LANG="C.UTF-8", TERM="dumb",
                PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")


class Kept:
    """What is kept between runs, in a folder: the archive of the root, apt's packages."""

    def __init__(self, folder, suite=SUITE):
        self.folder = pathlib.Path(folder)
        self.suite = suite
        self.packages = self.folder / "packages"
        self.packages.mkdir(parents=True, exist_ok=True)
        self.sources, self.settings = apt_sources(suite), apt_settings()
        key = "\n".join(self.sources + self.settings + [INCLUDE])
        digest = hashlib.sha256(key.encode() + pathlib.Path(__file__).read_bytes())
        self.archive = self.folder / f"{suite}-{digest.hexdigest()[:16]}.tar"
        # One run at a time; what an ended one has left is rubbish then.
        self.lock = open(self.folder / "lock", "w", encoding="ascii")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        for rubbish in self.folder.glob("run-*"):
            remove(rubbish)
        if not self.archive.exists():
            self._make()

    def _make(self):
        for old in self.folder.glob(f"{self.suite}-*.tar"):
            old.unlink()
        root = tempfile.mkdtemp(prefix="run-", dir=self.folder)
        try:
            mirror = next(line for line in self.sources if line.split()[2] == self.suite)
            proxy = said("apt-config", "--format", "%v%n", "dump", "Acquire::http::Proxy")
            env = dict(os.environ)
            if proxy.strip():
                env["http_proxy"] = proxy.strip()
            said("debootstrap", "--variant=minbase", f"--include={INCLUDE}", self.suite, root,
                 mirror.split()[1], env=env)
            self._configure(pathlib.Path(root))
            partial = self.archive.with_suffix(".new")
            said("tar", "-C", root, "-cf", str(partial), ".")
            partial.rename(self.archive)
        finally:
            remove(root)

    def _configure(self, root):
        (root / MARK).touch()
        apt = root / "etc/apt"
        (apt / "sources.list").write_text("\n".join(self.sources) + "\n")
        (apt / "apt.conf.d/01machine").write_text("\n".join(self.settings) + "\n")
        # Nobody needs this root after a power cut.
        (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        said("chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", USER)
        (root / f"etc/sudoers.d/{USER}").write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
        said("chroot", str(root), "apt-get", "clean")


class Root:
    """A fresh copy of the root on enter; gone on exit."""

    def __init__(self, kept):
        self.kept = kept
        self.path = None

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=self.kept.folder))
        try:
            said("tar", "-C", str(self.path), "-xpf", str(self.kept.archive))
            self.path.chmod(0o755)
            for name in ("etc/resolv.conf", "etc/hosts"):
                shutil.copyfile(f"/{name}", self.path / name)
            if any("https://" in line for line in self.kept.sources):
                shutil.copyfile(f"/{CERTIFICATES}", self.path / CERTIFICATES)
        except BaseException:
            remove(self.path)
            raise
        return self

    def __exit__(self, *exc):
        remove(self.path)

    def home(self, user):
        return "/root" if user == "root" else f"/home/{user}"

    def clone(self, source, user):
        """The commit that @source is at, as @user would have cloned it; its folder."""
        folder = f"{self.home(user)}/moult"
        trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                   "GIT_CONFIG_VALUE_0": "*"}
        said("git", "clone", "--quiet", "--depth", "1", f"file://{source}",
             f"{self.path}{folder}", env=dict(os.environ, **trusted))
        said("chroot", str(self.path), "chown", "-R", f"{user}:{user}", folder)
        return folder

    def run(self, script, user, folder, timeout_s, has_net=True):
        """bash -e -o pipefail on @script: its exit status, and what it printed. Without
        @has_net it has a loopback device of its own. What it left running is killed."""
        private = ["--net"] if not has_net else []
        inside = ["/usr/bin/env", "-i", "-C", folder,
                  *(f"{key}={value}" for key, value in environment(self.home(user)).items()),
                  "/bin/bash", "-e", "-o", "pipefail", "-c", script]
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation",
                 "private", "--pid", "--fork", "--kill-child", *private,
                 "/bin/sh", "-c", ENTER, str(self.path), str(self.kept.packages),
                 "host" if has_net else "net", f"{user}:{user}", *inside],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                status = f"nothing after {timeout_s} s"
            finally:
                process.kill()
                process.wait()
            output.seek(0)
            return status, output.read().decode(errors="replace")


def remove(path):
    # The mounts of what ran there were in a namespace that has ended.
    subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=False)
