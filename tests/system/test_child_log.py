# SPDX-License-Identifier: Apache-2.0
"""What loaders write gets into the log, and no more of it than a log can hold."""
import re

import pytest

from harness import BUILD, Load, echo_body, echo_section, wait_for
from hostile import Hostile

ENGINES = f"engine_dir = {BUILD}\n"
# child_log.h
LINES = 1000
LINES_S = 20


def loader_lines(moult):
    return re.findall(r'event=loader_log .*line="(.*)"$', moult.log_text(), re.M)


def dropped(moult):
    return sum(int(n) for n in re.findall(r"\((\d+) lines dropped, ", moult.log_text()))


@pytest.mark.parametrize("n", [1, 20 * LINES])
def test_what_is_printed_before_a_crash_is_told(start, n):
    """stdout, unlike stderr, is no stream that writes at once by itself."""
    moult = start(echo_section(engine="fault"), supervisor=ENGINES)
    (moult.models / "0.conf").write_text(echo_section(
        engine="fault", **{"option.fault": "print", "option.lines": n}))
    wait_for("the words", lambda: "these are the last words" in loader_lines(moult))
    # They come by the loader's log, its end by the supervisor's.
    wait_for("its end", lambda: "its last words: these are the last words" in moult.log_text())
    lines = loader_lines(moult)
    told = [line for line in lines if line.startswith("line ")]
    assert told == [f"line {i}" for i in range(1, len(told) + 1)]
    if n > 1:
        assert LINES / 2 < len(told) < LINES + 100, len(told)
        assert dropped(moult) >= n - LINES - 100
    else:
        assert dropped(moult) == 0
    assert "event=loader_exit" in moult.log_text()


def test_a_loader_that_writes_without_end(start, tmp_path):
    hostile = Hostile(tmp_path)
    moult = start(echo_section("noisy"), echo_section("echo"), supervisor=hostile.supervisor)
    load = Load(moult.port, clients=1, pause_s=0.002)
    moult.infer("noisy", b"!chatter=3000\n")
    wait_for("what it dropped", lambda: dropped(moult) > 10 * LINES)
    size = moult.log.stat().st_size
    # 1 KB a line, escaped: what may be passed on at once, and some seconds of more.
    assert size < 4 << 20, size
    load.stop_and_check()
    print(f"{dropped(moult)} lines dropped, {size} bytes of log")


def test_what_torchscript_prints_is_told_while_it_serves(start, tmp_path):
    torch = pytest.importorskip("torch")
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")

    class Talks(torch.nn.Module):
        def forward(self, x):
            print("the sum is", float(x.sum()))
            return x

    torch.jit.script(Talks()).save(str(tmp_path / "talks.pt"))
    moult = start(echo_section(engine="torch", path=tmp_path / "talks.pt"))
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    wait_for("the line", lambda: any(line.startswith("the sum is 10")
                                     for line in loader_lines(moult)))
