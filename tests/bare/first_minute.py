# SPDX-License-Identifier: Apache-2.0
"""usage: first_minute.py FOLDER root|user

What README promises on Debian 12, done from a clean clone of this commit in a root that
has nothing else: by root, with the packages of README's apt line; by somebody with sudo,
with those that ./demo brings. FOLDER keeps what is worth keeping for the next run.
MOULT_BARE_CHECK does ./check as well, with what it says as the arguments (-L unit; or ""). Exit 77, with the reason, where no root can be had.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

from root import USER, CannotRun, Kept, Root, require_machine

SOURCE = pathlib.Path(__file__).resolve().parents[2]
STEP_S = 900
CHECK = "MOULT_BARE_CHECK"
LINES = 80
CHECK_S = 2 * 3600
ALL_ANSWERED = re.compile(r"requests +([1-9]\d*) sent, \1 answered, 0 lost, 0 not as expected")
RELOADED = re.compile(r"digits: generation (\d+) \(pid \d+\) -> generation \d+ \(pid \d+\): ok")


def readme_block(start):
    """README's indented block whose first line begins with @start, as it stands."""
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"(?:^    .*\n)+", text, re.M)
              if block.startswith(f"    {start}")]
    assert len(blocks) == 1, f"README has {len(blocks)} blocks that begin with {start}"
    return re.sub(r"^    ", "", blocks[0], flags=re.M)


class Stranger:
    """Somebody with a clone, in a root."""

    def __init__(self, root, user):
        self.root, self.user = root, user
        self.folder = root.clone(SOURCE, user)

    def does(self, what, script, timeout_s=STEP_S, has_net=True):
        """What @script printed; fails by name, with the end of it."""
        begin = time.monotonic()
        status, output = self.root.run(script, self.user, self.folder, timeout_s, has_net)
        took_s = time.monotonic() - begin
        if status != 0:
            tail = "\n".join(output.splitlines()[-LINES:])
            raise AssertionError(f"{self.user}: {what}: {status}\n{tail}")
        print(f"{self.user}: {what}: {took_s:.1f} s", flush=True)
        return output

    def demo(self):
        output = self.does("./demo --once", "./demo --once")
        assert ALL_ANSWERED.search(output), output
        print(output)

    def use_it(self):
        """The port may be taken on this machine, so that the network is one of their own."""
        output = self.does("README, Use it", readme_block("cmake --preset release"),
                           has_net=False)
        start = output.index('{"model_name"')
        answer, _ = json.JSONDecoder().raw_decode(output[start:])
        assert len(answer["outputs"][0]["data"]) == 10, output
        assert re.search(r"^digits +ready ", output, re.M), output
        assert RELOADED.search(output), output

    def check(self):
        script = f"./check {os.environ[CHECK]}"
        print(self.does(script, script, CHECK_S))


def run(kept, who):
    with Root(kept) as root:
        stranger = Stranger(root, "root" if who == "root" else USER)
        if who == "root":
            stranger.does("README, packages", readme_block("apt-get update"))
            stranger.use_it()
            stranger.demo()
        else:
            stranger.demo()
            stranger.use_it()
        if CHECK in os.environ:
            stranger.check()


def main():
    _, folder, who = sys.argv
    try:
        require_machine()
        begin = time.monotonic()
        kept = Kept(folder)
        print(f"a bare root: {time.monotonic() - begin:.1f} s", flush=True)
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77
    if subprocess.run(["git", "-C", SOURCE, "-c", "safe.directory=*", "status", "--porcelain"],
                      capture_output=True, text=True, check=False).stdout:
        print("what is not committed is not in the clone")
    run(kept, who)
    return 0


if __name__ == "__main__":
    sys.exit(main())
