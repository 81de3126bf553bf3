# SPDX-License-Identifier: Apache-2.0
"""moultctl's lines, completed by a bash and a zsh that somebody types into."""
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from harness import BUILD, ROOT, echo_section, patience

SCRIPTS = ROOT / "supervisor" / "completion"
READY = "ready> "
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"],
             f"bind 'set enable-bracketed-paste off'; . {SCRIPTS}/moultctl.bash; PS1='{READY}'"),
    "zsh": (["zsh", "-f", "-i"],
            "unsetopt zle_bracketed_paste prompt_sp 2>/dev/null; unset zle_bracketed_paste;"
            "fpath=($FUNCTIONS $fpath); autoload -U compinit; compinit -u -D; unsetopt beep;"
            f"PS1='{READY}'"),
}


class Terminal:
    """A shell at a terminal without any skill but to show what is typed."""

    def __init__(self, name, folder, socket):
        command, setup = SHELLS[name]
        (folder / "functions").mkdir()
        shutil.copyfile(SCRIPTS / "moultctl.zsh", folder / "functions" / "_moultctl")
        (folder / "a-file-of-its-own.sock").touch()
        main, other = pty.openpty()
        self.fd = main
        self.shell = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, cwd=folder, start_new_session=True,
            env={"PATH": f"{BUILD}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(folder),
                 "LANG": "C.UTF-8", "MOULT_CONTROL": str(socket), "COLUMNS": "200",
                 "FUNCTIONS": str(folder / "functions")})
        os.close(other)
        self.type(setup + "\n")
        self.sees(r"\n" + READY)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def sees(self, pattern):
        """What has been shown until @pattern was."""
        shown, end = "", time.monotonic() + patience()
        while not re.search(pattern, shown):
            left_s = end - time.monotonic()
            assert left_s > 0, f"no {pattern!r} in {shown!r}"
            if select.select([self.fd], [], [], left_s)[0]:
                shown += os.read(self.fd, 4096).decode(errors="replace").replace("\r", "")
        return shown

    def becomes(self, typed, line):
        """@typed and the key Tab make @line."""
        self.type(typed + "\t")
        self.sees(re.escape(line))
        self.type("\x15")  # the line is forgotten

    def close(self):
        self.shell.kill()
        self.shell.wait()
        os.close(self.fd)


@pytest.fixture(params=sorted(SHELLS))
def terminal(request, start, tmp_path):
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param} here")
    moult = start(echo_section("harbour"), echo_section("lighthouse"))
    folder = tmp_path / "home"
    folder.mkdir()
    one = Terminal(request.param, folder, moult.socket)
    yield one
    one.close()


def test_it_completes(terminal):
    terminal.becomes("moultctl rec", "moultctl rec")
    terminal.becomes("moultctl rece", "moultctl receipts ")
    terminal.becomes("moultctl status ha", "moultctl status harbour ")
    terminal.becomes("moultctl --json reload --wait li", "moultctl --json reload --wait lighthouse ")
    terminal.becomes("moultctl reload --ex", "moultctl reload --explain ")
    terminal.becomes("moultctl log not", "moultctl log notice ")
    terminal.becomes("moultctl inspect a-fi", "moultctl inspect a-file-of-its-own.sock ")
    terminal.becomes("moultctl -s a-fi", "moultctl -s a-file-of-its-own.sock ")


def offers(*words, env=None):
    done = subprocess.run([BUILD / "moultctl", "--complete", *words], capture_output=True,
                          text=True, check=False, env=env)
    return done.returncode, done.stdout.split()


def test_every_command_and_option_is_offered():
    """Those of the usage, and an option where it is taken."""
    usage = subprocess.run([BUILD / "moultctl", "--help"], capture_output=True, text=True,
                           check=True).stdout
    rows = re.findall(r"^  ([a-z][a-z-]+)(.*)$", usage, re.M)
    assert offers("") == (0, list(dict.fromkeys(name for name, _ in rows)))
    common = {"--socket", "--json", "--timeout", "--help", "--version"}
    for command in dict(rows):
        told = {option for name, text in rows if name == command
                for option in re.findall(r"--[a-z]+|-n", text.split("  ")[0])}
        told = {"--count" if option == "-n" else option for option in told}
        assert set(offers(command, "--")[1]) == common | told, command


def test_what_is_wrong_is_passed_over(start):
    moult = start(echo_section("harbour"))
    socket = str(moult.socket)
    assert offers("--nothing", "nonsense", "") == (0, [])
    assert offers("-s", "/nowhere", "status", "")[1] == []
    assert offers("-s", socket, "status", "") == (0, ["harbour"])
    assert offers("-s", socket, "status", "", env={})[1] == ["harbour"]
    assert offers("-s", socket, "status", "harbour", "") == (0, [])
    assert offers("--directory", "") == offers("-s", "") == offers("inspect", "") == (4, [])
    assert offers() == offers("")
