# SPDX-License-Identifier: Apache-2.0
"""moultctl inspect: each kind of file that people hand over, and sections that serve as printed."""
import json
import pickle
import struct
import subprocess
import sys
import zipfile

import pytest

from harness import BUILD, DIGITS, ROOT, patience


def inspect(path, *options):
    return subprocess.run([BUILD / "moultctl", *options, "inspect", path], capture_output=True,
                          text=True, timeout=patience(), check=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """As the tests' torch makes them, and by hand what it cannot."""
    folder = tmp_path_factory.mktemp("files")
    writer = subprocess.run([sys.executable, "-B", ROOT / "tests/loader/torch_models.py",
                             folder], capture_output=True, text=True, check=False)
    if writer.returncode == 77:
        pytest.skip("Python's torch is not installed")
    assert writer.returncode == 0, writer.stderr
    made = subprocess.run([sys.executable, "-c", f"""
import torch
layer = torch.nn.Linear(2, 1)
torch.save(layer.state_dict(), {str(folder / 'weights.pth')!r})
torch.save(layer, {str(folder / 'module.pth')!r})
torch.save(layer.state_dict(), {str(folder / 'old.pth')!r}, _use_new_zipfile_serialization=False)
"""], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (folder / "object.pkl").write_bytes(pickle.dumps(object()))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (folder / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(64))
    (folder / "nothing.pt").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "m.onnx").write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.1:\x00")
    (folder / "m.ort").write_bytes(b"\x1c\0\0\0ORTM" + bytes(64))
    with zipfile.ZipFile(folder / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", "{}")
    with zipfile.ZipFile(folder / "compiled.pt2", "w") as archive:
        archive.writestr("m/data/aotinductor/model/c.so", b"\x7fELF")
    return folder


@pytest.mark.parametrize("name, said", [
    ("weights.pth", "a state_dict): load them into the model with model.load_state_dict"),
    ("module.pth", "a pickled Python object (torch.save of a module)"),
    ("old.pth", "of torch.save in its format before 1.6"),
    ("object.pkl", "a pickled Python object"),
    ("w.safetensors", "(safetensors): load them into the model with safetensors.torch"),
    ("m.gguf", "a GGUF file of llama.cpp: export the model that it was made of"),
    ("cut.pt", "a zip archive without its end: it was cut off"),
    ("nothing.pt", "it is empty"),
    ("folder", "it is a folder: name the model's file in it"),
    ("text_file.pt", "it is a text, and no zip archive"),
    ("m.pt2", "a program of torch.export (.pt2): for engine aoti compile it"),
    ("not there", "it cannot be opened: No such file"),
    ("/dev/null", "it is no file"),
])
def test_what_no_engine_serves(files, name, said):
    """A sentence with a remedy on stderr, nothing on stdout, and status 1."""
    result = inspect(files / name)
    assert result.returncode == 1 and result.stdout == "", result
    assert said in result.stderr and result.stderr.startswith("moultctl: "), result
    answer = json.loads(inspect(files / name, "--json").stdout)
    assert not answer["ok"] and answer["section"] is None and said in answer["error"], answer


@pytest.mark.parametrize("name, engine, said", [
    ("two.pt", "torch", "# forward takes a: Tensor, b: Tensor\n"),
    ("number.pt", "torch", "# forward takes x: Tensor, n: int\n"),
    ("traced.pt", "torch", "# forward takes x: Tensor\n"),
    ("packed.pt", "torch", "# input = input FP32 [-1,64]\n"),
    ("deflated.pt", "torch", "# forward takes x: Tensor\n"),
    ("m.onnx", "onnx", "input and output may be left out"),
    ("m.ort", "onnx", "input and output may be left out"),
    ("compiled.pt2", "aoti", "# python = /path/to/venv/bin/python\n"),
])
def test_sections(files, name, engine, said):
    result = inspect(files / name)
    assert result.returncode == 0 and result.stderr == "", result
    stem = name.partition(".")[0]
    assert result.stdout.startswith(
        f"[model {stem}]\nengine = {engine}\npath = {files / name}\n"), result.stdout
    assert said in result.stdout, result.stdout
    assert json.loads(inspect(files / name, "--json").stdout)["section"] == result.stdout


def test_damaged_files_end(files, tmp_path):
    """Wherever a file was cut or changed, there is an answer."""
    whole = (files / "two.pt").read_bytes()
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        for data in (whole[:i], whole[:i] + b"\xff\xff" + whole[i + 2:]):
            (tmp_path / "m.pt").write_bytes(data)
            result = inspect(tmp_path / "m.pt")
            assert result.returncode in (0, 1), (i, result)
            assert bool(result.stdout) != bool(result.stderr), (i, result)


def test_what_is_printed_serves(start, tmp_path):
    """With a request beside it, as the printed lines ask for."""
    if not (BUILD / "moult-engine-torch.so").exists():
        pytest.skip("the torch engine is not built here")
    section = inspect(DIGITS / "digits.pt").stdout
    body = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64],
                                   "data": [0.5] * 64}]})
    (tmp_path / "digits.json").write_text(body)
    moult = start(section.replace("= digits.json", f"= {tmp_path}/digits.json"))
    status, _, answer = moult.infer("digits", body)
    assert status == 200, answer
    assert json.loads(answer)["outputs"][0]["shape"] == [1, 10], answer
