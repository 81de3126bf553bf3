# SPDX-License-Identifier: Apache-2.0
"""usage: bare_test.py FOLDER PACKAGES

Debian's packages in a root that has nothing else: installed with what they depend on, the first
predictions, removed, installed once more, upgraded, purged. After that the root has the files
that it had before. systemd does not run there: moultd is started as its unit would, and
systemd_test.py has the rest. FOLDER is that of tests/bare. Exit 77 where no root can be had.
MOULT_DEBIAN_TORCH=yes has the engine torch, too, for which apt unpacks some 150 packages.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import time

from root import CannotRun, Kept, Root, require_machine

STEP_S = 900
HAS_TORCH = "MOULT_DEBIAN_TORCH" in os.environ
OURS = ("moult", "moult-engine-python", "moult-engine-server", "moult-dev",
        *(["moult-engine-torch"] if HAS_TORCH else []))
MODELS = ["digits", "words"] if HAS_TORCH else ["words"]
APT = "export DEBIAN_FRONTEND=noninteractive\napt-get -qq --no-install-recommends"
# What apt, dpkg and the linker keep for themselves.
KEPT = re.compile(r"(var/cache|var/lib/apt|var/lib/dpkg|var/log|run|tmp)/|etc/(passwd|group|shadow|"
                  r"gshadow|subuid|subgid)-|root/\.")

# What systemd does for the unit, then its command.
AS_THE_UNIT = r"""
install -d -o moult -g moult -m 750 /var/lib/moult /var/log/moult /run/moult
[ -e /usr/lib/moult/moult-engine-torch.so ] && cat >/etc/moult/models.d/digits.conf <<'END'
[model digits]
engine = torch
path = /usr/share/doc/moult/examples/digits/digits.pt
input = image FP32 [-1,64]
output = scores FP32 [-1,10]
END
cat >/etc/moult/models.d/words.conf <<'END'
[model words]
engine = python
model = words:Words
working_directory = /usr/share/doc/moult/examples/words
path = /usr/share/doc/moult/examples/words/words.json
input = text BYTES [-1,1]
output = score FP32 [-1,1]
END
unit=/lib/systemd/system/moultd.service
command=$(sed -n 's/^ExecStart=//p' $unit)
systemd-socket-activate -l 127.0.0.1:8080 --fdname=http \
	setpriv --reuid moult --regid moult --init-groups $command >/tmp/log 2>&1 &
ask() {
	curl -fsS --retry 30 --retry-connrefused --retry-all-errors "http://127.0.0.1:8080$@" || {
		cat /tmp/log >&2
		return 1
	}
}
ask /v2/health/ready
[ ! -e /etc/moult/models.d/digits.conf ] || head -n 1 /usr/share/doc/moult/examples/digits/heldout.jsonl | ask /v2/models/digits/infer -d @-
echo
ask /v2/models/words/infer -d '{"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["All is well!"]}]}'
echo
runuser -u moult -- moultctl status
kill %1
wait %1
rm /tmp/log
"""

IS_AS_DEBIAN_DOES = r"""
systemctl is-enabled moultd.service moultd.socket | uniq -c | grep -q '2 enabled'
[ "$(stat -c '%a %U %G' /etc/moult/secrets)" = '750 root moult' ]
[ "$(stat -c '%a %U %G' /etc/moult/models.d)" = '755 root root' ]
[ "$(getent passwd moult | cut -d: -f6,7)" = /var/lib/moult:/usr/sbin/nologin ]
cmp /etc/moult/moult.conf /usr/share/moult/moult.conf.example
moultd -t -c /etc/moult/moult.conf
ls /usr/share/bash-completion/completions/moultctl /usr/share/zsh/vendor-completions/_moultctl
"""

IS_PURGED = r"""
! dpkg-query -W -f '${Package} ${Status}\n' | grep '^moult'
! find / -xdev \( -name '*moult*' -o -user moult -o -group moult \) \
	-not -path '/srv/*' -not -path '/proc/*' | grep .
getent passwd moult
"""


class Stage:
    """A root, with the packages in /srv."""

    def __init__(self, root, packages):
        self.root = root
        shutil.copytree(packages, f"{root.path}/srv/packages")

    def does(self, what, script, has_net=False):
        """What @script printed; fails by name."""
        begin = time.monotonic()
        status, output = self.root.run(script, "root", "/srv/packages", STEP_S, has_net)
        if status != 0:
            raise AssertionError(f"{what}: {status}\n{output[-6000:]}")
        print(f"{what}: {time.monotonic() - begin:.1f} s", flush=True)
        return output

    def files(self):
        """Names of all that lies in the root, but for what is kept about packages."""
        found = set()
        for folder, folders, files in os.walk(self.root.path):
            inside = os.path.relpath(folder, self.root.path)
            found |= {os.path.normpath(f"{inside}/{name}") for name in folders + files}
        return {name for name in found
                if not KEPT.match(name) and not name.startswith("root/packages")}

    def serves(self, what):
        """One answer of each engine, and a moultd that stops in order."""
        output = self.does(what, AS_THE_UNIT)
        answers = [json.loads(line) for line in re.findall(r'\{"model_name".*\}', output)]
        assert [answer["model_name"] for answer in answers] == MODELS, output
        assert len(answers[0]["outputs"][0]["data"]) == (10 if HAS_TORCH else 1), output
        assert re.findall(r"^(digits|words) +ready ", output, re.M) == MODELS, output


def debs(folder="."):
    return " ".join(f"{folder}/{name}_*.deb" for name in OURS)


def run(kept, packages):
    with Root(kept) as root:
        stage = Stage(root, packages)
        stage.does("installed, with what they need", f"{APT} update\n{APT} install -y "
                   f"{debs()} curl", has_net=True)
        stage.does("as Debian does", IS_AS_DEBIAN_DOES)
        stage.serves("first predictions")
        stage.does("purged", f"{APT} purge -y {' '.join(OURS)}\n{IS_PURGED}")
        before = stage.files()
        stage.does("installed again", f"{APT} install -y {debs()}")
        stage.does("a change of its configuration", "echo '# mine' >>/etc/moult/moult.conf")
        stage.does("upgraded", f"{APT} install -y {debs('./next')}\n"
                   "dpkg-query -W moult | grep -q '+next$'\n"
                   "[ \"$(tail -n 1 /etc/moult/moult.conf)\" = '# mine' ]")
        stage.serves("predictions after the upgrade")
        stage.does("removed", f"{APT} remove -y {' '.join(OURS)}\n"
                   "[ \"$(tail -n 1 /etc/moult/moult.conf)\" = '# mine' ]\n"
                   "[ -d /var/lib/moult ] && [ -f /etc/moult/models.d/words.conf ]")
        stage.does("purged", f"{APT} purge -y moult\n{IS_PURGED}")
        after = stage.files()
        assert after == before, f"more: {after - before}, fewer: {before - after}"
        print(f"{len(after)} files, before as after")


def main():
    _, folder, packages = sys.argv
    try:
        require_machine()
        if not os.path.isdir(packages):
            raise CannotRun("no packages were made, as debian-build says")
        kept = Kept(folder)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77
    run(kept, pathlib.Path(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
