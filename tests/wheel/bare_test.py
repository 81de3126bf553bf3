# SPDX-License-Identifier: Apache-2.0
"""usage: bare_test.py FOLDER SUITE WHEELS

The wheel in a Debian that has Python's venv and nothing of moult's: an ordinary user installs it
without a network, serves an application and a server, rotates a secret under traffic, reads the
manual, and removes it all. FOLDER is that of tests/bare. Exit 77 where no root can be had.
"""

import pathlib
import shutil
import sys
import time

from root import USER, CannotRun, Kept, Root, require_machine

STEP_S = 600
HERE = pathlib.Path(__file__).resolve().parent

INSTALL = """
python3 -m venv .venv
find .venv -not -type d | sort >before
.venv/bin/pip install -q --no-index --disable-pip-version-check /srv/wheels/*.whl
.venv/bin/moultd --version
.venv/bin/moultctl --help | head -n 1
[ -s .venv/share/man/man8/moultd.8 ]
for program in .venv/lib/python3*/site-packages/_moult/*bin/*; do
	! ldd $program | grep -F 'not found'
done
"""

REMOVE = """
.venv/bin/pip uninstall -q -y moult
find .venv -not -type d | sort | diff before -
"""


def run(kept, wheels):
    with Root(kept) as root:
        shutil.copytree(wheels, f"{root.path}/srv/wheels")
        shutil.copyfile(HERE / "visit.py", f"{root.path}/srv/visit.py")

        def does(what, script, user=USER, has_net=False):
            begin = time.monotonic()
            status, output = root.run(script, user, root.home(user), STEP_S, has_net)
            if status != 0:
                raise AssertionError(f"{what}: {status}\n{output[-6000:]}")
            print(f"{kept.suite}: {what}: {time.monotonic() - begin:.1f} s", flush=True)
            return output

        does("a Python", "export DEBIAN_FRONTEND=noninteractive\napt-get -qq update\n"
             "apt-get -qq install -y --no-install-recommends python3-venv", "root", has_net=True)
        print(does("pip install", INSTALL))
        print(does("served", "python3 -B /srv/visit.py"))
        does("pip uninstall", REMOVE)


def main():
    _, folder, suite, wheels = sys.argv
    try:
        require_machine()
        kept = Kept(folder, suite)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77
    run(kept, wheels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
