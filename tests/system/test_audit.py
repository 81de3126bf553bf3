# SPDX-License-Identifier: Apache-2.0
"""Who asked for what: the lines that moultd leaves behind."""
import json
import os
import re
import subprocess
import sys

import pytest

from harness import BUILD, echo_section
from hostile import call

PEER = 4321  # of nobody else


def control_lines(moult):
    return re.findall(r"level=(\w+) event=control command=(\S+) uid=(\d+) gid=\d+ pid=(\d+)"
                      r" args=\"(.*)\"", moult.log_text())


def test_commands_name_who_asked(start):
    moult = start(echo_section())
    moult.status("echo")
    assert not control_lines(moult), "what only looks is not worth a line"
    asker = subprocess.Popen(
        [BUILD / "moultctl", "-s", moult.socket, "reload", "echo", "--wait"],
        stdout=subprocess.DEVNULL)
    assert asker.wait(60) == 0
    (level, command, uid, pid, args), = control_lines(moult)
    assert (level, command, int(uid), int(pid)) == ("notice", "reload", os.getuid(), asker.pid)
    assert json.loads(args.replace('\\"', '"')) == {"command": "reload", "model": "echo",
                                                    "wait": True}
    if os.getuid() == 0:
        # Somebody else, who was let in by the socket's mode.
        os.chmod(moult.home, 0o755)
        os.chmod(moult.socket, 0o666)
        ask = ("import os, socket, sys\n"
               f"os.setgid({PEER}); os.setuid({PEER})\n"
               "peer = socket.socket(socket.AF_UNIX)\n"
               "peer.connect(sys.argv[1])\n"
               "peer.sendall(b'{\"command\":\"scale\",\"model\":\"echo\",\"replicas\":1}\\n')\n"
               "peer.makefile().read()\n")
        done = subprocess.run([sys.executable, "-c", ask, moult.socket.name], cwd=moult.home,
                              check=False, timeout=60, capture_output=True, text=True)
        if "Permission" not in done.stderr:  # the folders above may be closed to others
            assert done.returncode == 0, done.stderr
            assert control_lines(moult)[-1][1:3] == ("scale", str(PEER))
    moult.ctl("log", "debug")
    moult.status("echo")
    assert control_lines(moult)[-1][:2] == ("debug", "status")


def test_a_member_that_is_not_known_is_refused(start):
    moult = start(echo_section())
    before = moult.status("echo")["generation"]
    with pytest.raises(AssertionError, match="'generation' is not expected: it takes model"):
        call(moult, "reload", model="echo", generation=-5)
    assert moult.status("echo")["generation"] == before
    assert not control_lines(moult)
