# SPDX-License-Identifier: Apache-2.0
"""What a TorchScript file does that has no native code at all: with its walls, and without."""
import json
import os
import pathlib
import zipfile

import pytest

from harness import DIGITS, digits_section, echo_section, wait_for
from test_walls import VERSION

TEXT = "SECRET-OF-ANOTHER"
BODY = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64],
                               "data": [0.0] * 64}]})

pytestmark = pytest.mark.skipif(VERSION < 1, reason="this kernel has no landlock")

# The class's own pickle, which brings no state, and one that brings a number for __setstate__().
PICKLE = (b"\x80\x02c__torch__.___torch_mangle_1\nDigits\nq\x00)\x81", b"b.")

READ = """
    stolen = torch.from_file("{path}", False, 10, dtype=0)
    return torch.add(torch.mul(input1, 0.), torch.to(torch.unsqueeze(stolen, 0), 6))
"""
WRITE = """
    written = torch.fill_(torch.from_file("{path}", True, 10, dtype=0), 65)
    return torch.add(torch.mul(input1, 0.), torch.to(torch.unsqueeze(written, 0), 6))
"""
AT_LOAD = """
  def __getstate__(self: __torch__.___torch_mangle_1.Digits) -> int:
    return 0
  def __setstate__(self: __torch__.___torch_mangle_1.Digits,
    state: int) -> None:
    written = torch.fill_(torch.from_file("{path}", True, 10, dtype=0), 65)
    print(written)
    return None
"""


def make(path, forward=None, more=None):
    """examples/digits with other code in it."""
    with zipfile.ZipFile(DIGITS / "digits.pt") as good, \
            zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as bad:
        for entry in good.infolist():
            data = good.read(entry)
            if entry.filename.endswith(".py"):
                text = data.decode().rstrip()
                if forward:
                    text = text.replace("    return input1", forward.strip("\n"))
                data = (text + (more or "\n")).encode()
            if more and entry.filename.endswith("/data.pkl"):
                data = PICKLE[0] + b"K\x00" + PICKLE[1]
            bad.writestr(entry, data)
    return path


def scores(moult):
    """What the model answers, or None where it fails."""
    status, _, body = moult.infer("digits", BODY)
    return json.loads(body)["outputs"][0]["data"] if status == 200 else None


@pytest.mark.parametrize("sandbox", ["off", "strict", "net"])
def test_a_reader(start, tmp_path, sandbox):
    """torch.from_file() gives any file of moultd's in an answer."""
    secret = tmp_path / "secret"
    secret.write_text(TEXT)
    moult = start(digits_section(make(tmp_path / "m.pt", READ.format(path=secret)),
                                 sandbox=sandbox, warmup_runs=0))
    expected = [float(byte) for byte in TEXT[:10].encode()]
    assert scores(moult) == (expected if sandbox == "off" else None)


@pytest.mark.parametrize("sandbox", ["off", "strict"])
def test_a_writer(start, tmp_path, sandbox):
    """And it writes moultd's configuration."""
    target = tmp_path / "models.d" / "x.conf~"
    moult = start(digits_section(make(tmp_path / "m.pt", WRITE.format(path=target)),
                                 sandbox=sandbox, warmup_runs=0))
    assert (scores(moult) is not None) == (sandbox == "off")
    assert target.exists() == (sandbox == "off")


@pytest.mark.parametrize("sandbox", ["off", "strict"])
def test_a_writer_while_it_is_loaded(start, tmp_path, sandbox):
    """__setstate__() runs before any golden request: the walls have to stand by then."""
    target = tmp_path / "models.d" / "x.conf~"
    moult = start(digits_section(make(tmp_path / "m.pt", more=AT_LOAD.format(path=target)),
                                 sandbox=sandbox), ready=False)
    if sandbox == "off":
        moult.wait_ready()
    else:
        wait_for("the refusal", lambda: "event=reload_failed" in moult.log_text() or
                 moult.status("digits")["last_error"])
    assert target.exists() == (sandbox == "off"), moult.log_text()[-2000:]


@pytest.mark.skipif(os.geteuid() != 0, reason="moultd itself keeps others than root out")
@pytest.mark.parametrize("sandbox", ["off", "strict"])
def test_a_forger(start, tmp_path, sandbox):
    """And answers of other models, by moultd's own descriptors."""
    moult = start(echo_section())
    folder = pathlib.Path(f"/proc/{moult.pid}/fd")
    arena = next(entry for entry in folder.iterdir()
                 if "moult-answers" in os.readlink(entry))
    before = arena.read_bytes()[:10]
    section = digits_section(make(tmp_path / "m.pt", WRITE.format(path=arena)),
                             sandbox=sandbox, warmup_runs=0)
    (moult.models / "9.conf").write_text(section)
    moult.wait_receipt("digits", lambda receipt: receipt["outcome"] == "ok")
    assert (scores(moult) is not None) == (sandbox == "off")
    assert (arena.read_bytes()[:10] == before) == (sandbox != "off")
