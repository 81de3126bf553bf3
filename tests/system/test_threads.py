# SPDX-License-Identifier: Apache-2.0
"""`threads` is what computing takes: of libtorch's threads, and of those of the BLAS below it,
which starts one for each core where nobody tells it."""
import os

import pytest
from harness import DIGITS, digits_section
from test_spare import own_digits, ready_spare

BODIES = (DIGITS / "heldout.jsonl").read_text().splitlines()


def count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def ask(moult):
    """In one batch, and one by one."""
    for body in BODIES[:8]:
        assert moult.infer("digits", body)[0] == 200


@pytest.mark.parametrize("variable", [None, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"])
def test_one_thread(start, variable, monkeypatch):
    """Also where moultd's own environment asks for more."""
    if variable:
        monkeypatch.setenv(variable, "4")
    moult = start(digits_section())
    ask(moult)
    status = moult.status("digits")
    assert count(status["pid"]) == status["threads"] == 1


def test_as_many_as_said(start):
    """BLAS has threads of its own beside libtorch's; both have one more, and no other."""
    moult = start(digits_section(threads=2))
    ask(moult)
    status = moult.status("digits")
    assert count(status["pid"]) == status["threads"]
    assert 2 <= status["threads"] <= 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_spare_is_told(start, tmp_path, threads):
    """The spare was started before anybody knew how many threads there would be."""
    moult = start(digits_section(own_digits(tmp_path), threads=threads, spare="yes",
                                 strategy="stop-first"))
    spare = ready_spare(moult, "torch")
    assert count(spare) == 1
    assert moult.reload("digits").returncode == 0
    ask(moult)
    status = moult.status("digits")
    assert status["pid"] == spare and count(spare) == status["threads"]
    assert status["threads"] == 1 if threads == 1 else 2 <= status["threads"] <= 3
