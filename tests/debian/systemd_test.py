# SPDX-License-Identifier: Apache-2.0
"""usage: systemd_test.py PACKAGES

Debian's packages under a real systemd (tests/systemd/container.py): what dpkg starts, a next
version under load, and what is left when they are purged. Exit 77, with the reason, where the
container cannot be had.
"""

import pathlib
import re
import shutil
import sys

from container import CannotRun, Container, require_machine, wait_for
from system_test import CONF, Moult, libtorch_runs_in_the_sandbox, run_steps

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = SOURCE / "examples" / "engine"
GUIDE = SOURCE / "docs" / "guides" / "systemd.md"
NAMES = ("moult", "moult-engine-python", "moult-engine-server", "moult-engine-torch", "moult-dev")
# Without what a power cut would need and with no index of manual pages.
DPKG = "dpkg --force-unsafe-io --no-triggers"
DPKG_S = 900
TRIPLE = """\
[model triple]
engine = scale
option.by = 3
input = x FP32 [-1]
output = x FP32 [-1]
"""


def the_guide_is_right(moult):
    """docs/guides/systemd.md, word for word; it ends with a purge."""
    text = GUIDE.read_text(encoding="utf-8")
    blocks = [re.sub(r"^    ", "", block, flags=re.M)
              for block in re.findall(r"(?:^    .*\n)+", text, re.M)]
    assert len(blocks) > 6, blocks
    for block in blocks:
        moult.box.run(f"set -e; cd /packages; export DEBIAN_FRONTEND=noninteractive\n{block}",
                      timeout_s=DPKG_S)
    moult.box.run("systemctl daemon-reload")
    assert_nothing_is_left(moult)


def dpkg_starts_it(moult):
    """Enabled, running, and healthy with no model at all."""
    moult.box.run(f"{DPKG} -i /packages/*.deb", timeout_s=DPKG_S)
    moult.installed = moult.box.run("dpkg -L moult-engine-torch").stdout
    for unit in ("moultd.service", "moultd.socket"):
        assert moult.show("ActiveState", "UnitFileState", unit=unit) == ["active", "enabled"]
    assert moult.ask("/v2/health/live")[0] == 200


def a_model_needs_a_file_alone(moult):
    moult.give_model()
    code, said = moult.reload()
    assert code == 0, said
    moult.predict()


def an_engine_is_built_with_moult_dev(moult):
    """With the commands of examples/engine, which say where engines belong."""
    shutil.copyfile(EXAMPLE / "scale.c", f"{moult.box.root}/srv/scale.c")
    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith(("    cc ", "    install "))]
    assert len(commands) == 2, commands
    moult.box.run("cd /srv\n" + "\n".join(commands))
    moult.box.write("/etc/moult/models.d/triple.conf", TRIPLE)
    code, said = moult.reload()
    assert code == 0, said
    _, _, body = moult.ask("/v2/models/triple/infer", '{"inputs": [{"name": "x", "datatype": '
                           '"FP32", "shape": [2], "data": [1, 2.5]}]}')
    assert "[3.0,7.5]" in body, body
    moult.box.run("rm /etc/moult/models.d/triple.conf /usr/lib/moult/moult-engine-scale.so")
    code, said = moult.reload()
    assert code == 0, said


def an_upgrade_loses_no_request(moult):
    """Under load: another moultd afterwards, the same listener, the edited configuration."""
    before = moult.show("MainPID")
    socket = moult.show("ActiveEnterTimestampMonotonic", unit="moultd.socket")
    moult.box.run(f"echo '# mine' >>{CONF}")
    with moult.load():
        moult.box.run(f"{DPKG} -i /packages/next/*.deb", timeout_s=DPKG_S)
    assert moult.show("MainPID") != before
    assert moult.show("ActiveEnterTimestampMonotonic", unit="moultd.socket") == socket
    assert moult.box.run(f"tail -n 1 {CONF}").stdout == "# mine\n"
    assert moult.show("ActiveState", "UnitFileState", "NRestarts") == ["active", "enabled", "0"]


def a_disabled_unit_stays_so(moult):
    moult.box.run("systemctl disable --now moultd.service moultd.socket"
                  f" && {DPKG} -i /packages/*.deb", timeout_s=DPKG_S)
    assert moult.show("UnitFileState") == "disabled"
    moult.box.run("systemctl enable --now moultd.socket moultd.service")


def a_purge_leaves_nothing(moult):
    """No process, no file but the test's own."""
    moult.predict()
    moult.box.run(f"{DPKG} --purge {' '.join(reversed(NAMES))}", timeout_s=DPKG_S)
    assert_nothing_is_left(moult)


def assert_nothing_is_left(moult):
    wait_for("the last process", lambda: not moult.box.processes(r"^moult"), 60)
    assert moult.show("LoadState") == "not-found"
    # Images of this machine may have moult in them.
    left = moult.box.run("find /etc /usr /lib /var /run /opt -xdev"
                         " \\( -path /var/lib/containers -o -path /var/lib/docker \\) -prune -o"
                         " \\( -name '*moult*' -o -user moult -o -group moult \\) -print").stdout
    assert not left, left


STEPS = (
    the_guide_is_right,
    dpkg_starts_it,
    a_model_needs_a_file_alone,
    libtorch_runs_in_the_sandbox,
    an_engine_is_built_with_moult_dev,
    an_upgrade_loses_no_request,
    a_disabled_unit_stays_so,
    a_purge_leaves_nothing,
)


def main():
    try:
        require_machine()
        if not pathlib.Path(sys.argv[1]).is_dir():
            raise CannotRun("no packages were made, as debian-build says")
        with Container() as box:
            shutil.copytree(sys.argv[1], f"{box.root}/packages")
            # Images for containers forbid packages to start anything.
            box.run("rm -f /usr/sbin/policy-rc.d")
            return run_steps(Moult(box), STEPS)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77


if __name__ == "__main__":
    sys.exit(main())
