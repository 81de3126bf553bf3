# SPDX-License-Identifier: Apache-2.0
"""Engine aoti without a torch: fakes/aoti_torch.c in its place, and packages of fakes/aoti_model.c.
What is refused, and by which sentence; and that the old generation serves on."""
import hashlib
import io
import json
import os
import pathlib
import platform
import struct
import subprocess
import zipfile

import pytest

from harness import BUILD, ROOT, patience, wait_for
from test_aoti import FLAT, ROWS, ask, linear, section
from test_share import copies

TORCH = BUILD / "aoti-torch.so"
WEIGHTS = struct.pack("<10f", 0, 2, 4, 6, 1, 3, 5, 7, 1, -1)
LAYOUT = {"fc.weights": ["weight_0", [10], [1], 0]}
METADATA = {"AOTI_DEVICE_KEY": "cpu", "AOTI_PLATFORM": "linux", "AOTI_MACHINE": platform.machine(),
            "AOTI_CPU_ISA": "INVALID_VEC_ISA"}
SOURCE = """
AOTI_NOINLINE static void check_input_0(
    AtenTensorHandle* input_handles
) {
    ConstantHandle arg2_1 = ConstantHandle(input_handles[0]);
    int32_t arg2_1_dtype;
    int32_t arg2_1_expected_dtype = aoti_torch_dtype_float32();
    if (arg2_1_size[0] < 2) {
    if (arg2_1_size[0] > 64) {
    if (4 != arg2_1_size[1]) {
    if (4 != arg2_1_stride[0]) {
    if (1 != arg2_1_stride[1]) {
"""


def library(name="model"):
    return (BUILD / f"aoti-{name}.so").read_bytes()


def pack(parts, method=zipfile.ZIP_STORED):
    """An archive whose parts begin where torch has them begin: at multiples of 64."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            pad = -(out.tell() + 30 + len(name)) % 64
            pad += 64 if 0 < pad < 4 else 0
            info.extra = struct.pack("<HH", 0xfb, pad - 4) + bytes(pad - 4) if pad else b""
            archive.writestr(info, data)
    return out.getvalue()


def package(method=zipfile.ZIP_STORED, model="model", code=None, **changed):
    """The bytes of one; a part that is None is left out."""
    root = f"m/data/aotinductor/{model}/"
    weight = pack({"archive/data.pkl": b"\x80\x02.", "archive/data/0": changed.get("bytes", WEIGHTS)})
    parts = {root + "c1.wrapper.cpp": changed.get("source", SOURCE),
             root + "c1.wrapper_metadata.json": json.dumps({**METADATA, **changed.get("metadata", {})}),
             root + "c1.wrapper.so": library() if code is None else code,
             "m/data/weights/weight_0": changed.get("weight", weight),
             root + "weights_config.json": changed.get("layout", json.dumps(LAYOUT)),
             "m/archive_format": "pt2", "m/byteorder": "little", **changed.get("more", {})}
    return pack({name: data for name, data in parts.items() if data is not None}, method)


def served(path, name="m", **keys):
    return section(path, name, **{"python": None, "option.library": TORCH, **keys})


def write(path, data):
    new = path.parent / f".{path.name}"
    new.write_bytes(data)
    os.rename(new, path)
    return path


def test_a_package_is_served(start, tmp_path):
    """With what it tells, in batches of any size that it allows, and a failure by its cause."""
    moult = start(served(write(tmp_path / "m.pt2", package()), max_batch=4))
    assert ask(moult, FLAT, [2, 4], name="x") == (200, linear(ROWS))
    assert ask(moult, ROWS[1], [1, 4], name="x") == (200, linear(ROWS[1:]))
    status, error = ask(moult, [666, 0, 0, 0], [1, 4], name="x")
    assert status == 400 and "index out of range in self" in error, error
    assert ask(moult, FLAT, [2, 4], name="x") == (200, linear(ROWS))


def test_bounds_of_the_package(start, tmp_path):
    moult = start(served(write(tmp_path / "m.pt2", package())))
    assert ask(moult, ROWS[0] * 64, [64, 4], name="x") == (200, linear(ROWS[:1]) * 64)
    status, error = ask(moult, ROWS[0] * 65, [65, 4], name="x")
    assert status == 400 and "at most 64" in error, error


@pytest.mark.parametrize("share", ["memory", "file"])
def test_weights_are_shared(start, tmp_path, share):
    """And nothing is written to them; weights inside the code are each loader's own."""
    beside = write(tmp_path / "beside.pt2", package())
    inside = write(tmp_path / "inside.pt2", package(code=library("model-inside"), layout=None,
                                                     weight=None))
    before = hashlib.sha256(beside.read_bytes()).hexdigest()
    moult = start(served(beside, "beside", share=share, replicas=2),
                  served(inside, "inside", share=share, replicas=2),
                  served(beside, "off", share="off"))
    for name, why in (("beside", None), ("inside", "package_constants_in_so"), ("off", None)):
        weights = moult.status(name)["weights"]
        assert weights["share"] == (share if name == "beside" else "off"), weights
        assert (why or "") in (weights["why_private"] or ""), weights
        for _ in range(8):
            assert ask(moult, FLAT, [2, 4], model=name, name="x") == (200, linear(ROWS))
    assert len(copies(moult.pid)) == (1 if share == "memory" else 0), copies(moult.pid)
    assert hashlib.sha256(beside.read_bytes()).hexdigest() == before


def test_one_of_several_models(start, tmp_path):
    two = {f"m/data/aotinductor/{name}/c1.wrapper.so": library("model-inside")
           for name in ("small", "large")}
    path = write(tmp_path / "m.pt2", pack({**two, "m/archive_format": "pt2"}))
    moult = start(served(path, "small", **{"option.model": "small", "share": "off"},
                         inputs=["x FP32 [-1,4]"]),
                  served(path, "any", inputs=["x FP32 [-1,4]"]),
                  served(path, "other", **{"option.model": "huge"}), ready=False)
    for name, says in (("any", "option.model = "), ("other", "no model 'huge'")):
        error = wait_for("a refusal", lambda: moult.status(name)["last_error"])
        assert says in error and "small" in error, error
    wait_for("the model", lambda: moult.status("small")["state"] == "ready")
    assert ask(moult, FLAT, [2, 4], model="small", name="x") == (200, linear(ROWS))


# Refusals

def elf(machine=None, kind=None):
    data = bytearray(library())
    data[16:18] = struct.pack("<H", kind or struct.unpack("<H", data[16:18])[0])
    data[18:20] = struct.pack("<H", machine or struct.unpack("<H", data[18:20])[0])
    return bytes(data)


def wrong():
    """Names, contents and what the sentence says."""
    good = package()
    at = good.index(b"\x7fELF")
    rows = [(f"cut{n}", good[:n], "") for n in (1, 4, 30, 100, at + 1000, len(good) // 2,
                                                len(good) - 23, len(good) - 1)]
    rows += [
        ("cuda", package(metadata={"AOTI_DEVICE_KEY": "cuda"}), "compiled for device cuda"),
        ("xpu", package(metadata={"AOTI_DEVICE_KEY": "xpu"}), "compiled for device xpu"),
        ("windows", package(metadata={"AOTI_PLATFORM": "win32"}), "compiled for win32"),
        ("machine", package(metadata={"AOTI_MACHINE": "s390x"}), "compiled for s390x"),
        ("elf_machine", package(code=elf(machine=22)), "another kind of processor"),
        ("elf_kind", package(code=elf(kind=1)), "another kind of processor"),
        ("elf_short", package(code=b"\x7fELF"), "cut off"),
        ("pe", package(code=b"MZ" + bytes(400)), "compile it on Linux"),
        ("newer", package(code=library("model-newer")), "aoti_torch_newest"),
        ("cuda_code", package(code=library("model-cuda")), "compiled for a CUDA device"),
        ("segments", package(code=library()[:32] + bytes([255] * 8) + library()[40:]), "cut off"),
        ("no_container", package(code=TORCH.read_bytes()), "lacks AOTInductorModelContainer"),
        ("head_alone", package(code=library()[:4096]), "cut off"),
        ("metadata", package(more={"m/data/aotinductor/model/c1.wrapper_metadata.json": "{"}),
         "metadata is damaged"),
        ("operators", package(more={"m/data/aotinductor/model/c1.wrapper.json": "{}"}),
         "serve it by engine python"),
        ("blob", package(layout=None, more={"m/data/aotinductor/model/c1_weights.blob": WEIGHTS}),
         "in one blob"),
        ("compressed", package(zipfile.ZIP_DEFLATED), "compression"),
        ("no_code", pack({"m/data/aotinductor/model/c1.wrapper.cpp": SOURCE,
                          "m/archive_format": "pt2"}), "without compiled code"),
        ("exported", pack({"m/archive_format": "pt2", "m/models/model.json": "{}"}),
         "aoti_compile_and_package"),
        ("layout_text", package(layout="[1"), "weights_config.json"),
        ("layout_list", package(layout="[]"), "weights_config.json"),
        ("layout_lacks", package(layout="{}"), "weights_config.json"),
        ("layout_dims", package(layout=json.dumps({"fc.weights": ["weight_0", [-10], [1], 0]})),
         "weights_config.json"),
        ("layout_rank", package(layout=json.dumps({"fc.weights": ["weight_0", [10], [1, 1], 0]})),
         "weights_config.json"),
        ("layout_large", package(layout=json.dumps({"fc.weights": ["weight_0", [11], [1], 0]})),
         "is not whole"),
        ("layout_offset", package(layout=json.dumps({"fc.weights": ["weight_0", [10], [1], 1]})),
         "is not whole"),
        ("layout_before", package(layout=json.dumps({"fc.weights": ["weight_0", [10], [1], -1]})),
         "is not whole"),
        ("layout_wraps", package(layout=json.dumps(
            {"fc.weights": ["weight_0", [2**62, 2**62], [2**62, 2**61], 0]})), "is not whole"),
        ("layout_file", package(layout=json.dumps({"fc.weights": ["weight_1", [10], [1], 0]})),
         "is not whole"),
        ("weight_short", package(bytes=WEIGHTS[:-1]), "is not whole"),
        ("weight_text", package(weight=b"not an archive"), "is not whole"),
        ("text", b"not a model\n", "package of AOTInductor"), ("zeros", bytes(4096), "no zip"),
        ("page", b"<!DOCTYPE html>", "a web page"), ("gguf", b"GGUF\3\0", "GGUF"),
        ("onnx", b"\x08\x07\x12\x07pytorch", "engine = onnx"),
        ("torchscript", pack({"m/constants.pkl": b"", "m/data.pkl": b""}), "engine = torch"),
        ("state_dict", pack({"m/data.pkl": b"\x80\x02}q\x00."}), "state_dict"),
        ("zip", pack({"a": b""}), "no package of AOTInductor"),
    ]
    return rows


def test_damaged_files_leave_the_old_one_serving(start, tmp_path):
    """Each gets a sentence; nothing of it is served, and the good one is again."""
    rows = wrong()
    assert len(rows) >= 40
    path = write(tmp_path / "m.pt2", package())
    moult = start(served(path))
    pid = moult.status("m")["pid"]
    for name, data, says in rows:
        before = len(moult.receipts("m"))
        write(path, data)
        receipt = wait_for(f"a receipt of {name}", lambda: moult.receipts("m")[before:])[0]
        reason = receipt["reason"]
        assert receipt["outcome"] != "ok" and says in reason and reason, (name, receipt)
        assert ask(moult, FLAT, [2, 4], name="x") == (200, linear(ROWS)), name
        print(f"{name}: {reason}")
    assert moult.status("m")["pid"] == pid
    before = len(moult.receipts("m"))
    write(path, package(code=library("model-inside"), layout=None, weight=None))
    receipt = wait_for("a receipt", lambda: moult.receipts("m")[before:])[0]
    assert receipt["outcome"] == "ok", receipt


OPTIONS = {
    "unknown": ({"option.libary": "/x"}, ["libary", "library"]),
    "relative": ({"option.library": "libtorch_cpu.so"}, ["option.library", "absolute"]),
    "no such library": ({"option.library": "/nowhere/libtorch_cpu.so"},
                        ["/nowhere/libtorch_cpu.so", "pip install torch"]),
    "another library": ({"option.library": next(pathlib.Path("/usr/lib").glob("*/libc.so.6"))},
                        ["is no torch"]),
    "no environment": ({"option.library": None, "python": "bin/python"},
                       ["bin/python -m pip install torch"]),
    "a card": ({"device": "cuda:0"}, ["on the CPU alone", "cuda:0"]),
    "working memory": ({"working_memory": "20M"}, ["working_memory"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_cannot_be(start, tmp_path, name):
    keys, says = OPTIONS[name]
    if "python" in keys:
        keys = {**keys, "python": tmp_path / keys["python"]}
        keys["python"].parent.mkdir()
        keys["python"].symlink_to("/bin/sh")
    moult = start(served(write(tmp_path / "m.pt2", package()), **keys), ready=False)
    error = wait_for("a refusal", lambda: moult.status("m")["last_error"])
    assert all(word in error for word in says), error


@pytest.mark.parametrize("version, says", [("1.13.1", "too old"), ("2.5.1+cpu", "takes 2.6"),
                                           ("2.6.0+cu124", None), ("2.11.0", None)])
def test_the_version_of_torch(start, tmp_path, version, says):
    """Of the package round the library, which is looked up before the library is opened."""
    lib = tmp_path / "torch" / "lib"
    lib.mkdir(parents=True)
    (lib / "libtorch_cpu.so").write_bytes(TORCH.read_bytes())
    (lib.parent / "version.py").write_text(f"from typing import Optional\n\n__version__ = '{version}'\n")
    path = write(tmp_path / "m.pt2", package())
    moult = start(served(path, **{"option.library": lib / "libtorch_cpu.so"}), ready=False)
    if says:
        error = wait_for("a refusal", lambda: moult.status("m")["last_error"])
        assert says in error and version in error, error
    else:
        moult.wait_ready()
        assert ask(moult, FLAT, [2, 4], name="x") == (200, linear(ROWS))


@pytest.mark.parametrize("keys, says", [
    ({"path": None}, "path: engine aoti needs a model file"),
    ({"path": ROOT / "README.md"}, "path: it is no zip archive, which every package"),
    ({"option.libary": "/x"}, "did you mean library?"),
    ({}, None),
])
def test_the_checker_looks_into_files(tmp_path, keys, says):
    (tmp_path / "models.d").mkdir()
    path = write(tmp_path / "m.pt2", package())
    (tmp_path / "models.d" / "m.conf").write_text(served(**{"path": path, **keys}))
    (tmp_path / "moult.conf").write_text("[supervisor]\nuser = root\nmodels_dir = models.d\n")
    result = subprocess.run([BUILD / "moultd", "-t", "-c", tmp_path / "moult.conf"],
                            capture_output=True, text=True, timeout=patience())
    if says:
        assert result.returncode == 1 and says in result.stderr, result.stderr
    else:
        assert "m.conf" not in result.stderr, result.stderr


def test_inspect(start, tmp_path):
    """What it prints serves the file, with the torch that is there."""
    path = write(tmp_path / "m.pt2", package())
    result = subprocess.run([BUILD / "moultctl", "inspect", path], capture_output=True, text=True,
                            timeout=patience())
    assert result.returncode == 0 and "engine = aoti\n" in result.stdout, result
    assert "python = " in result.stdout
    moult = start(result.stdout + f"option.library = {TORCH}\n")
    assert ask(moult, FLAT, [2, 4], name="x") == (200, linear(ROWS))
