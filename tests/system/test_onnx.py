# SPDX-License-Identifier: Apache-2.0
"""Engine onnx with the ONNX Runtime that people install: every datatype, shapes, texts, what is
declared wrongly, weights that are shared and not, and files that are no models."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess

import pytest

from harness import BUILD, ROOT, Load, patience, wait_for
from test_share import copies
from test_strategy import MIB

# Another version's library, to see whether it does as well.
LIBRARY = os.environ.get("MOULT_ONNXRUNTIME")
VENV = BUILD.parent / "venv"
PYTHON = VENV / "bin" / "python"
# Of weights at an absolute path. These open it, which the walls refuse.
PASSWD = "SystemError" if re.search(r"1\.2[23]\.", LIBRARY or "") else "files beside it"
DTYPES = {"BOOL": ("?", [True, False, True, True]), "UINT8": ("B", [0, 1, 254, 255]),
          "UINT16": ("H", [0, 1, 2, 65535]), "UINT32": ("I", [0, 1, 2, 2**32 - 1]),
          "UINT64": ("Q", [0, 1, 2, 2**64 - 1]), "INT8": ("b", [-128, -1, 0, 127]),
          "INT16": ("h", [-32768, -1, 0, 32767]), "INT32": ("i", [-2**31, -1, 0, 2**31 - 1]),
          "INT64": ("q", [-2**63, -1, 0, 2**63 - 1]), "FP16": ("e", [0.0, 1.5, -2.0, 65504.0]),
          "BF16": ("H", [0, 0x3f80, 0xc000, 0x7f7f]), "FP32": ("f", [0.0, 1.5, -2.0, 1e30]),
          "FP64": ("d", [0.0, 1.5, -2.0, 1e300])}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    writer = ROOT / "tests/loader/onnx_models.py"
    if not (VENV / "complete").exists():
        pytest.skip("ONNX Runtime is not installed here: tests/clients.sh")
    made = subprocess.run([PYTHON, "-B", writer, folder], capture_output=True, text=True)
    if made.returncode == 77:
        pytest.skip("ONNX Runtime is not installed here: tests/clients.sh")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def large(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    writer = ROOT / "tests/loader/onnx_models.py"
    subprocess.run([PYTHON, "-B", writer, folder, "32"], check=True)
    return folder / "large.onnx"


def section(path, name="m", inputs=("x FP32 [-1,4]",), outputs=("y FP32 [-1,2]",), **keys):
    lines = {"engine": "onnx", "path": path, "python": PYTHON, "option.library": LIBRARY, **keys}
    return f"[model {name}]\n" + "".join(
        f"{key} = {value}\n" for key, value in
        [*lines.items(), *(("input", i) for i in inputs), *(("output", o) for o in outputs)]
        if value is not None)


def ask(moult, data, shape, datatype="FP32", model="m", name="x"):
    """Status and the data of the only output, or the error."""
    status, _, body = moult.infer(model, json.dumps({"inputs": [
        {"name": name, "shape": shape, "datatype": datatype, "data": data}]}))
    answer = json.loads(body)
    return (status, answer["outputs"][0]["data"]) if status == 200 else (status, answer["error"])


def ask_binary(moult, data, shape, datatype, model="m"):
    """Status, and the output's bytes and shape, or the error."""
    head = json.dumps({
        "inputs": [{"name": "x", "shape": shape, "datatype": datatype,
                    "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True}}).encode()
    status, headers, body = moult.post(
        f"/v2/models/{model}/infer", head + data,
        {"Inference-Header-Content-Length": str(len(head))})
    if status != 200:
        return status, json.loads(body)["error"], None
    cut = int({k.lower(): v for k, v in dict(headers).items()}["inference-header-content-length"])
    return status, body[cut:], json.loads(body[:cut])["outputs"][0]["shape"]


def ask_all(moult, data, shape, model):
    """The bytes of all outputs."""
    head = json.dumps({
        "inputs": [{"name": "x", "shape": shape, "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True}}).encode()
    status, headers, body = moult.post(
        f"/v2/models/{model}/infer", head + data,
        {"Inference-Header-Content-Length": str(len(head))})
    assert status == 200, body
    return body[int({k.lower(): v for k, v in
                     dict(headers).items()}["inference-header-content-length"]):]


def linear(rows, scale=1):
    return [sum(x * scale * (2 * i + j) for i, x in enumerate(row)) + (1, -1)[j]
            for row in rows for j in (0, 1)]


ROWS = [[1, 2, 3, 4], [0.5, 0, -1, 8]]
FLAT = [number for row in ROWS for number in row]


def texts(*items):
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


# Answers

@pytest.mark.parametrize("suffix", ["onnx", "ort"])
def test_json_and_binary(start, models, suffix):
    moult = start(section(models / f"linear.{suffix}", max_batch=8))
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    status, data, shape = ask_binary(moult, struct.pack("<8f", *FLAT), [2, 4], "FP32")
    assert (status, shape) == (200, [2, 2]), data
    assert list(struct.unpack("<4f", data)) == linear(ROWS)


@pytest.mark.parametrize("dtype", [*DTYPES, "BYTES"])
def test_each_datatype(start, models, dtype):
    moult = start(section(models / f"same_{dtype}.onnx", inputs=[f"x {dtype} [-1,-1]"],
                          outputs=[f"y {dtype} [-1,-1]"], max_batch=4))
    if dtype == "BYTES":
        values = ["", "a", "zwölf", "x" * 1000]
        data = texts(*(text.encode() for text in values))
        binary = texts(b"", b"\0", b"a\0b", b"\xff\xfe")
        assert ask_binary(moult, binary, [4, 1], dtype) == (200, binary, [4, 1])
    else:
        code, values = DTYPES[dtype]
        data = struct.pack(f"<4{code}", *values)
    for shape in ([2, 2], [1, 4], [4, 1]):
        assert ask_binary(moult, data, shape, dtype) == (200, data, shape)
    assert ask_binary(moult, b"", [1, 0], dtype) == (200, b"", [1, 0])
    if dtype not in ("FP16", "BF16"):
        assert ask(moult, values, [2, 2], dtype) == (200, values)


def test_texts_are_computed_with(start, models):
    moult = start(section(models / "upper.onnx", inputs=["x BYTES [-1]"],
                          outputs=["y BYTES [-1]"]))
    assert ask(moult, ["one", "", "Three"], [3], "BYTES") == (200, ["ONE", "none", "?"])


def test_a_scalar(start, models):
    moult = start(section(models / "scalar.onnx", inputs=["x FP32 []"], outputs=["y FP32 []"]))
    assert ask(moult, [41], []) == (200, [42])


def test_outputs_go_by_name(start, models):
    """In the configuration's order, and only those that it has."""
    inputs = ("b FP32 [-1,2]", "a FP32 [-1,2]")
    moult = start(
        section(models / "two.onnx", "both", inputs, ("more FP32 [-1,2]", "less FP32 [-1,2]")),
        section(models / "two.onnx", "one", inputs, ("less FP32 [-1,2]",)))
    body = json.dumps({"inputs": [
        {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [5, 7]},
        {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})
    found = {model: {output["name"]: output["data"] for output in
                     json.loads(moult.infer(model, body)[2])["outputs"]}
             for model in ("both", "one")}
    assert found == {"both": {"more": [6, 9], "less": [4, 5]}, "one": {"less": [4, 5]}}


def echo(path, **keys):
    """What answers with its input, for clients that look at each answer."""
    return section(path, "echo", outputs=["y FP32 [-1,4]"], **keys)


def test_requests_are_batched(start, models):
    moult = start(echo(models / "same_FP32.onnx", max_batch=8, max_delay="1ms"))
    load = Load(moult.port, clients=8)
    load.wait_more(400)
    load.stop_and_check()


def test_a_request_that_the_model_refuses(start, models):
    """It is the client's error; the next one is answered."""
    moult = start(
        section(models / "gather.onnx", "gather", ["x INT64 [-1]"], ["y FP32 [-1]"]),
        section(models / "free.onnx", "free", ["x FP32 [-1,-1]"], warmup_runs=0))
    assert ask(moult, [2, 0], [2], "INT64", "gather") == (200, [12, 10])
    status, error = ask(moult, [3], [1], "INT64", "gather")
    assert status == 400 and "refuses the request" in error and "out of data bounds" in error
    assert ask(moult, [1, 2, 3, 4], [1, 4], model="free") == (200, [10, 10])
    status, error = ask(moult, [1, 2, 3], [1, 3], model="free")
    assert status == 400 and "refuses the request" in error, error
    assert ask(moult, [1], [1], "INT64", "gather") == (200, [11])


def test_working_memory(start, models):
    """A computation that takes more is answered 413, and costs nobody anything but itself."""
    moult = start(section(models / "square.onnx", inputs=["x FP32 [-1,-1]"],
                          outputs=["y FP32 [-1]"], working_memory="20M"))
    for n, fits in ((1000, True), (2000, True), (4000, False), (100, True)):
        status, _, body = moult.infer("m", json.dumps({"inputs": [
            {"name": "x", "shape": [1, n], "datatype": "FP32", "data": [1] * n}]}))
        answer = json.loads(body)
        if not fits:
            assert status == 413 and "working_memory" in answer["error"], answer
            continue
        assert status == 200 and answer["outputs"][0]["data"] == [n * n]
        peak = answer["parameters"]["memory_peak_bytes"]
        assert 4 * n * n <= peak < 4 * n * n + (1 << 20), peak


def test_threads(start, models):
    """As many compute as the section says, whatever the machine has."""
    moult = start(section(models / "linear.onnx", "one", threads=1),
                  section(models / "linear.onnx", "three", threads=3))
    counts = {name: len(os.listdir(f"/proc/{moult.status(name)['pid']}/task"))
              for name in ("one", "three")}
    assert counts["three"] - counts["one"] == 2, counts


# What is declared

DECLARED = {
    "another name": (dict(inputs=["z FP32 [-1,4]"]), ["input 'z'", "x"]),
    "another datatype": (dict(inputs=["x INT64 [-1,4]"]), ["FP32 [-1,4]", "INT64 [-1,4]"]),
    "another rank": (dict(inputs=["x FP32 [-1]"]), ["FP32 [-1,4]", "FP32 [-1]"]),
    "another dim": (dict(inputs=["x FP32 [-1,5]"]), ["FP32 [-1,4]", "FP32 [-1,5]"]),
    "a dim left open": (dict(inputs=["x FP32 [-1,-1]"]), ["FP32 [-1,4]", "FP32 [-1,-1]"]),
    "one too many": (dict(inputs=["x FP32 [-1,4]", "z FP32 [-1,4]"]), ["input 'z'"]),
    "another output": (dict(outputs=["z FP32 [-1,2]"]), ["output 'z'", "y"]),
    "its datatype": (dict(outputs=["y FP64 [-1,2]"]), ["FP32 [-1,2]", "FP64 [-1,2]"]),
    "its rank": (dict(outputs=["y FP32 [-1,2,1]"]), ["FP32 [-1,2]", "FP32 [-1,2,1]"]),
    "its dim": (dict(outputs=["y FP32 [-1,3]"]), ["FP32 [-1,2]", "FP32 [-1,3]"]),
    "one too few": (dict(path="two.onnx", inputs=["a FP32 [-1,2]"],
                         outputs=["more FP32 [-1,2]"]), ["add input = b FP32 [-1,2]"]),
    "a batch that is fixed": (dict(path="fixed.onnx", outputs=["y FP32 [-1,4]"], max_batch=4),
                              ["FP32 [2,4]", "FP32 [-1,4]"]),
}
KINDS = {
    "sequence": (dict(outputs=["y FP32 [-1,4]"]), ["output 'y'", "a sequence"]),
    "sequence_in": (dict(outputs=["y FP32 [-1,4]"]), ["input 'x'", "a sequence"]),
    "map": (dict(outputs=["y FP32 [-1,4]"]), ["output 'y'", "a sequence", "zipmap"]),
    "optional": (dict(outputs=["y FP32 [-1,4]"]), ["output 'y'", "optional"]),
    "complex": (dict(inputs=["x FP32 [-1]"], outputs=["y FP32 [-1]"]), ["complex64"]),
}
OPTIONS = {
    "prepack": ({"option.prepack": "maybe"}, ["option.prepack must be yes or no"]),
    "unknown": ({"option.prepak": "no"}, ["prepak", "prepack"]),
    "relative": ({"option.library": "libonnxruntime.so"}, ["option.library", "absolute"]),
    "no such library": ({"option.library": "/nowhere/libonnxruntime.so.1"},
                        ["/nowhere/libonnxruntime.so.1", "pip install"]),
    "another library": ({}, ["is no ONNX Runtime"]),
    "no environment": ({"python": "/usr/bin/python3"},
                       ["/usr/bin/python3 -m pip install onnxruntime"]),
    "no library at all": ({"python": None}, ["libonnxruntime.so.1", "pip install", "python ="]),
    "too old": ({"python": None}, ["1.16.3", "takes 1.17"]),
}


def refusal(start, text):
    moult = start(text, ready=False)
    return wait_for("a refusal", lambda: moult.status("m")["last_error"])


@pytest.mark.parametrize("name", [*DECLARED, *KINDS])
def test_another_signature_is_refused(start, models, name):
    keys, says = DECLARED.get(name) or KINDS[name]
    path = models / keys.get("path", "linear.onnx" if name in DECLARED else f"{name}.onnx")
    error = refusal(start, section(**{**keys, "path": path}))
    assert all(word in error for word in says), error


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_cannot_be(start, models, name):
    keys, says = OPTIONS[name]
    if name == "too old":
        keys = {**keys, "option.library": BUILD / "onnxruntime-old.so"}
    if name == "another library":
        keys = {"option.library": next(pathlib.Path("/usr/lib").glob("*/libjansson.so.*"))}
    error = refusal(start, section(models / "linear.onnx", **keys))
    assert all(word in error for word in says), error


def test_nothing_is_reported_to_the_runtimes_maker(start, models):
    """Also where no walls keep its wheels from that: they have a data base of what is to be sent."""
    moult = start(section(models / "linear.onnx", sandbox="off"))
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    fds = pathlib.Path(f"/proc/{moult.status('m')['pid']}/fd")
    names = [os.readlink(fd) for fd in fds.iterdir()]
    assert not [name for name in names if "onnxruntime" in name], names


def test_a_wheel_without_a_library(start, models, tmp_path):
    """As they were before 1.19."""
    capi = tmp_path / "old/lib/python3.11/site-packages/onnxruntime/capi"
    capi.mkdir(parents=True)
    (capi / "onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    (tmp_path / "old/bin").mkdir()
    (tmp_path / "old/bin/python").symlink_to("/usr/bin/python3")
    error = refusal(start, section(models / "linear.onnx", python=tmp_path / "old/bin/python",
                                   **{"option.library": None}))
    assert "older than 1.19" in error and "install --upgrade onnxruntime" in error, error


def test_the_library_by_its_path(start, models):
    [library] = VENV.glob("lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*")
    moult = start(section(models / "linear.onnx", python=None, **{"option.library": library}))
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))


def test_a_device_that_is_not_there(start, models):
    """No ONNX Runtime for the CPU takes a card, and the machine of the tests has none."""
    error = refusal(start, section(models / "linear.onnx", device="cuda:0"))
    assert "cuda:0" in error, error
    print(error)


@pytest.mark.parametrize("keys, says", [
    ({"path": None}, "path: engine onnx needs a model file"),
    ({"path": ROOT / "README.md"}, "path: it is neither a protobuf of ONNX"),
    ({"python": "/nowhere/python"}, "python: /nowhere/python"),
    ({"option.prepak": "no"}, "did you mean prepack?"),
    ({}, None),
])
def test_the_checker_looks_into_files(tmp_path, models, keys, says):
    (tmp_path / "models.d").mkdir()
    (tmp_path / "models.d" / "m.conf").write_text(
        section(**{"path": models / "linear.ort", **keys}))
    (tmp_path / "moult.conf").write_text("[supervisor]\nuser = root\nmodels_dir = models.d\n")
    result = subprocess.run([BUILD / "moultd", "-t", "-c", tmp_path / "moult.conf"],
                            capture_output=True, text=True, timeout=patience())
    if says:
        assert result.returncode == 1 and says in result.stderr, result.stderr
    else:
        assert "m.conf" not in result.stderr, result.stderr


# Weights

def secret(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("0")
    return tmp_path / "secrets"


@pytest.mark.parametrize("share", ["memory", "file"])
def test_replicas_have_one_copy(start, models, share):
    """Of either format; prepacked, each has its own, and status says why."""
    ways = {"ort": ("linear.ort", {}, None),
            "unpacked": ("linear.ort", {"option.prepack": "no"}, None),
            "packed": ("linear.ort", {"option.prepack": "yes"}, "option.prepack"),
            "onnx": ("linear.onnx", {}, None),
            "onnx_packed": ("linear.onnx", {"option.prepack": "yes"}, "option.prepack")}
    moult = start(*(section(models / file, name, share=share, replicas=2, **keys)
                    for name, (file, keys, _) in ways.items()))
    for name, (_, _, why) in ways.items():
        weights = moult.status(name)["weights"]
        assert weights["share"] == ("off" if why else share), weights
        assert (why or "") in (weights["why_private"] or ""), weights
        for _ in range(8):
            assert ask(moult, FLAT, [2, 4], model=name) == (200, linear(ROWS))
    assert len(copies(moult.pid)) == (2 if share == "memory" else 0), copies(moult.pid)


MANY = ["many0", "many1", "many2", "many3", "manyopen"]


def test_weights_are_used_where_they_lie(start, models):
    """At every address, by operators of every kind, they give what private ones give, bit by bit."""
    keys = {"inputs": (), "outputs": (), "option.prepack": "no", "threads": 1}
    moult = start(*(section(models / f"{name}.onnx", f"{name}_{share}", share=share, **keys)
                    for name in MANY for share in ("memory", "off")))
    for name in MANY:
        weights = moult.status(f"{name}_memory")["weights"]
        assert weights["share"] == "memory" and not weights["why_private"], (name, weights)
        for rows in (1, 3, 16):
            data = struct.pack(f"<{64 * rows}f", *((i * 37 % 101 - 50) / 9
                                                   for i in range(64 * rows)))
            told = [ask_all(moult, data, [rows, 64], f"{name}_{share}")
                    for share in ("memory", "off")]
            assert told[0] == told[1] and len(told[0]) > 10000 * rows, name


def anonymous(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"Anonymous:\s+(\d+)", text)[1]) << 10


def test_no_loader_has_the_weights_to_itself(start, large):
    """Three loaders of 32 MiB and the one after a crash; and what one has by itself is seen."""
    keys = {"inputs": (), "outputs": (), "threads": 1}
    moult = start(section(large, "shared", replicas=3, **keys),
                  section(large, "own", share="off", **keys))
    shared, own = (moult.status(name) for name in ("shared", "own"))
    assert anonymous(own["pid"]) > 32 * MIB
    for pid in (shared["pid"], *(other["pid"] for other in shared["replicas"]["others"])):
        assert anonymous(pid) < 24 * MIB, anonymous(pid)
    assert list(copies(moult.pid).values()) == [pytest.approx(large.stat().st_size, abs=MIB)]
    os.kill(shared["pid"], signal.SIGKILL)
    wait_for("another loader", lambda: moult.status("shared")["pid"] not in (0, shared["pid"])
             and moult.status("shared")["state"] == "ready")
    assert anonymous(moult.status("shared")["pid"]) < 24 * MIB


def test_weights_that_cannot_stay_where_they_lie(start, models):
    """Each loader has its own then, and status says which they are."""
    moult = start(*(section(models / f"{name}.onnx", name, inputs=(), outputs=(), threads=1)
                    for name in ("listed", "old")))
    for name in ("listed", "old"):
        weights = moult.status(name)["weights"]
        assert weights["share"] == "off", weights
        assert "cannot be used where they lie" in weights["why_private"], weights
        assert "convert_onnx_models_to_ort" in weights["why_private"], weights
        assert ask(moult, [1] * 64, [1, 64], model=name) == (200, [64] * 64)


@pytest.mark.parametrize("suffix, strategy", [("ort", "handoff"), ("onnx", "handoff")])
def test_secrets_and_files_change_under_load(start, models, tmp_path, suffix, strategy):
    path = tmp_path / f"m.{suffix}"
    shutil.copy(models / f"linear.{suffix}", path)
    folder = secret(tmp_path)
    moult = start(section(path, secrets=folder),
                  echo(models / "same_FP32.onnx", secrets=folder))
    load = Load(moult.port)
    for i in range(3):
        before = {name: len(moult.receipts(name)) for name in ("m", "echo")}
        moult.write_secret(folder, "token", str(i + 1))
        for name in ("m", "echo"):
            receipt = wait_for("a receipt", lambda: moult.receipts(name)[before[name]:])[0]
            assert receipt["outcome"] == "ok", receipt
            assert name == "echo" or receipt["strategy"] == strategy, receipt
        assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    for scale in (2, 1):
        before = len(moult.receipts("m"))
        shutil.copy(models / f"linear{'2' if scale == 2 else ''}.{suffix}", tmp_path / "new")
        os.rename(tmp_path / "new", path)
        receipt = wait_for("a receipt", lambda: moult.receipts("m")[before:])[0]
        assert receipt["outcome"] == "ok", receipt
        assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS, scale))
    pid = moult.status("m")["pid"]
    os.kill(pid, signal.SIGSEGV)
    wait_for("another loader", lambda: moult.status("m")["pid"] not in (0, pid)
             and moult.status("m")["state"] == "ready")
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    load.stop_and_check()


def test_a_shared_file_is_not_written(start, models, tmp_path):
    path = tmp_path / "m.ort"
    shutil.copy(models / "linear.ort", path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    moult = start(section(path, share="file", replicas=2))
    for _ in range(10):
        assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    moult.stop()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


# Files that are no models

def damaged(models):
    """Names, contents and what the sentence says."""
    onnx, ort = ((models / f"linear.{suffix}").read_bytes() for suffix in ("onnx", "ort"))

    def flipped(data, at):
        return data[:at] + bytes([data[at] ^ 0xff]) + data[at + 1:]

    rows = [(f"{name}.onnx", (models / f"{name}.onnx").read_bytes(), "ONNX Runtime")
            for name in ("operator", "domain", "types", "missing", "shapes", "opset",
                         "ir")]
    rows += [(f"{name}.onnx", (models / f"{name}.onnx").read_bytes(), says)
             for name, says in (("sequence", "sequence"), ("optional", "optional"),
                                ("two", "input 'x'"), ("nothing", "ONNX Runtime"),
                                ("external", "files beside it"), ("passwd", PASSWD))]
    rows += [(f"cut{at}.onnx", onnx[:at], "")
             for at in (1, 2, 3, 10, 40, len(onnx) // 2, len(onnx) - 1)]
    rows += [(f"cut{at}.ort", ort[:at], "") for at in (8, 9, 64, len(ort) // 2, len(ort) - 8)]
    # The root's offset, the first table and what it points to.
    rows += [(f"flip{at}.ort", flipped(ort, at), "") for at in (0, 1, 3, 9, 12, 16, 20)]
    rows += [("mark.ort", b"\x10\0\0\0ORTM" + b"\xff" * 4096, "cut off or damaged"),
             ("zeros.ort", b"\x10\0\0\0ORTM" + bytes(4096), ""),
             ("zeros.onnx", bytes(4096), "neither"), ("text.onnx", b"not a model\n", "neither"),
             ("page.onnx", b"<!DOCTYPE html>", "a web page"), ("m.gguf", b"GGUF\3\0", "GGUF"),
             ("m.safetensors", b"\2" + bytes(7) + b"{}", "safetensors"),
             ("m.pkl", b"\x80\x04}\x94.", "state_dict"), ("m.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
             ("m.zip", b"PK\5\6" + bytes(18), "which no ONNX file is"),
             ("m.gz", b"\x1f\x8b" + bytes(30), "gunzip"), ("m.so", b"\x7fELF" + bytes(30), "shared"),
             ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
             ("m.tflite", bytes(4) + b"TFL3", "TensorFlow Lite")]
    return rows


def test_weights_beside_the_file_are_refused(start, models):
    """Also where the loader could read them."""
    error = refusal(start, section(models / "external.onnx", working_directory=models))
    assert "files beside it" in error and "onnx.save" in error, error


def test_broken_and_foreign_files(start, models, tmp_path):
    """Each gets a sentence, and what served serves on, without a request lost."""
    path = tmp_path / "m.onnx"
    shutil.copy(models / "same_FP32.onnx", path)
    moult = start(echo(path))
    load = Load(moult.port)
    rows = damaged(models)
    assert len(rows) >= 40, len(rows)
    for name, data, says in rows:
        before = len(moult.receipts("echo"))
        generation = moult.status("echo")["generation"]
        (tmp_path / "new").write_bytes(data)
        os.rename(tmp_path / "new", path)
        receipt = wait_for(f"a receipt of {name}", lambda: moult.receipts("echo")[before:])[0]
        print(name, receipt.get("reason"))
        assert receipt["outcome"] != "ok", (name, receipt)
        assert says in json.dumps(receipt), (name, receipt)
        assert moult.status("echo")["generation"] == generation, name
    load.stop_and_check()


# What no section names

@pytest.mark.parametrize("suffix", ["onnx", "ort"])
def test_the_file_tells(start, models, suffix):
    """A section of two lines: names, datatypes and shapes are in the file."""
    moult = start(section(models / f"linear.{suffix}", inputs=(), outputs=(), max_batch=8))
    status, body = moult.get("/v2/models/m")
    told = json.loads(body)
    assert status == 200
    assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    assert ask(moult, FLAT, [2, 4]) == (200, linear(ROWS))
    status, error = ask(moult, FLAT, [2, 4], name="z")
    assert status == 400 and "'z'" in error, (status, error)


def test_the_file_tells_half(start, models):
    """What is declared is checked as ever, and what is not is told."""
    moult = start(section(models / "linear.onnx", outputs=()))
    assert ask(moult, ROWS[0], [1, 4]) == (200, linear(ROWS[:1]))
    assert json.loads(moult.get("/v2/models/m")[1])["outputs"][0]["shape"] == [-1, 2]
