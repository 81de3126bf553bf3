# SPDX-License-Identifier: Apache-2.0
"""Archives of TorchServe's, and handlers that are functions."""
import gzip
import json
import os
import pathlib
import signal
import stat
import zipfile

import pytest

from harness import BUILD, wait_for
from test_python_handlers import post

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")

# TorchServe's own, as far as an archive that names one sees it.
DEFAULT = """
class ImageClassifier:
    def initialize(self, context):
        self.file = context.manifest["model"]["serializedFile"]

    def handle(self, data, context):
        return [f"default with {self.file}" for _ in data]
"""
CLASS = """
import os
import words

class Handler:
    def initialize(self, context):
        self.context = context
        folder = context.system_properties["model_dir"]
        self.weights = open(os.path.join(folder, "weights.bin"), "rb").read()
        assert os.path.samefile(folder, "."), folder

    def handle(self, data, context):
        return [{"said": words.WORD, "weights": len(self.weights), "config":
                 context.model_yaml_config, "folder": os.getcwd(),
                 "name": context.manifest["model"]["modelName"]} for _ in data]
"""
FUNCTIONS = """
state = {}

def handle(data, context):
    if data is None:
        state["name"] = context.manifest["model"]["modelName"]
        return None
    return [f"{state['name']}: {bytes(row['body']).decode()}" for row in data]

def entry(data, context):
    return ["entry"] if data is None else [f"entry {len(state)}" for _ in data]

class Handler:
    def handle(self, data, context):
        return ["the class"]
"""
BYTES = [("Content-Type", "application/octet-stream")]


def make_archive(path, handler="handler.py", source=CLASS, entries=(), manifest=True, **keys):
    """As torch-model-archiver makes it, or not quite."""
    model = {"modelName": "said", "handler": handler, "serializedFile": "weights.bin",
             "modelVersion": "1.0", **keys}
    new = path.with_suffix(".new")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        if source:
            archive.writestr("handler.py", source)
        archive.writestr("words.py", "WORD = 'one'\n")
        archive.writestr("weights.bin", b"w" * 1000)
        for name, text in entries:
            archive.writestr(name, text)
        if manifest is True:
            manifest = json.dumps({"runtime": "python", "model": model})
        if manifest is not None:
            archive.writestr("MAR-INF/MANIFEST.json", manifest)
    new.rename(path)


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "tmp").mkdir()
    return home


def section(home, **keys):
    lines = {"engine": "python", "working_directory": home, "model": "said.mar",
             "route": "/predict/", "environment.TMPDIR": home.parent / "tmp", **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def folders(home):
    return list((home.parent / "tmp").glob("moult-server-*"))


@pytest.mark.parametrize("sandbox", ["open", "strict"])
def test_an_archive_is_served(start, home, sandbox):
    """From a folder that goes with its loader, however that ends."""
    make_archive(home / "said.mar", entries=[("model.yaml", "size: 3\n")])
    moult = start(section(home, watch_code="yes", sandbox=sandbox))
    answer = json.loads(post(moult, b"x", BYTES)[2])
    folder = pathlib.Path(answer.pop("folder"))
    assert answer == {"said": "one", "weights": 1000, "config": {}, "name": "said"}
    # Inside walls the loader has a folder for temporary files, and this is below that.
    own = folder if sandbox == "open" else folder.parent
    assert folders(home) == [own]
    assert stat.S_IMODE(own.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700
    os.kill(moult.status("app")["pid"], signal.SIGKILL)
    wait_for("another folder", lambda: len(folders(home)) == 1 and folders(home) != [own])
    wait_for("another loader", lambda: moult.status("app")["pid"])
    make_archive(home / "said.mar", entries=[("more.txt", "x")])
    moult.wait_receipt("app", lambda r: r["cause"] == "code" and r["outcome"] == "ok")
    wait_for("one folder", lambda: len(folders(home)) == 1)
    assert list(folders(home)[0].glob("**/more.txt"))
    moult.stop()
    wait_for("nothing is left", lambda: folders(home) == [])


@pytest.mark.parametrize("handler, said", [
    ("handler.py", b"said: x"),
    ("handler", b"said: x"),
    ("src/handler.py:handle", b"said: x"),
    ("handler:entry", b"entry 0"),
    ("handler.py:Handler", b"the class"),
])
def test_functions_of_an_archive(start, home, handler, said):
    make_archive(home / "said.mar", handler, FUNCTIONS)
    moult = start(section(home))
    assert post(moult, b"x", BYTES)[2] == said


@pytest.mark.parametrize("named, said", [
    ("handler.py", b"app: x"), ("handler.py:entry", b"entry 0"), ("handler:handle", b"app: x"),
    ("handler:Handler", b"the class"),
])
def test_functions_of_a_file(start, home, named, said):
    (home / "handler.py").write_text(FUNCTIONS)
    moult = start(section(home, model=named))
    assert post(moult, b"x", BYTES)[2] == said


def test_a_handler_of_torchserve(start, home):
    """Where the interpreter has TorchServe."""
    (home / "ts" / "torch_handler").mkdir(parents=True)
    (home / "ts" / "torch_handler" / "image_classifier.py").write_text(DEFAULT)
    make_archive(home / "said.mar", "image_classifier", None)
    moult = start(section(home))
    assert post(moult, b"x", BYTES)[2] == b"default with weights.bin"


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize("keys, said", [
    ({"entries": [("../out.py", "x")]}, "an entry '../out.py' that would lie outside"),
    ({"entries": [("a/../../out.py", "x")]}, "an entry 'a/../../out.py' that would lie outside"),
    ({"entries": [("/tmp/out.py", "x")]}, "an entry '/tmp/out.py' that would lie outside"),
    ({"entries": [(link("link"), "/etc/passwd")]}, "a symbolic link 'link'"),
    ({"entries": [("weights.bin/x", "x")]}, "the archive cannot be unpacked"),
    ({"manifest": None}, "the archive has no MAR-INF/MANIFEST.json"),
    ({"manifest": "{"}, "'MAR-INF/MANIFEST.json' cannot be read"),
    ({"manifest": "[" * 100_000}, "'MAR-INF/MANIFEST.json' cannot be read"),
    ({"manifest": '{"model": 1}'}, "has no object 'model'"),
    ({"handler": ""}, "names no handler"),
    ({"handler": ["x"]}, "names no handler"),
    ({"handler": "image_classifier"}, "has no package 'ts': install torchserve"),
    ({"handler": "my-handler.py"}, "has no file 'my-handler.py': it has handler.py, weights.bin"),
    ({"handler": "handler.py:absent"}, "module 'handler' has no 'absent'; it has: Handler"),
    ({"source": "import absent\n"}, "No module named 'absent'"),
    ({"source": "class A:\n    pass\n"}, "it defines A"),
    ({"source": CLASS.replace("self.context =", "raise RuntimeError('no') #")},
     "initialize() raised RuntimeError: no"),
    ({"configFile": "absent.yaml"}, "absent.yaml"),
])
def test_what_is_wrong_is_named(start, home, keys, said):
    """The old generation serves on, and nothing of the new one is left."""
    make_archive(home / "said.mar")
    moult = start(section(home))
    make_archive(home / "said.mar", **keys)
    moult.ctl("reload", "app", "--wait")
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert json.loads(post(moult, b"x", BYTES)[2])["said"] == "one"
    wait_for("one folder", lambda: len(folders(home)) == 1)
    assert not (home.parent / "tmp" / "out.py").exists()


@pytest.mark.parametrize("break_it, said", [
    (lambda data: data[:len(data) // 2], "this is no archive of TorchServe's, or not the whole"),
    (lambda data: b"", "this is no archive of TorchServe's, or not the whole"),
    (gzip.compress, "this is no archive of TorchServe's, or not the whole"),
    # The sizes of the entries, in the directory at the end: as large as 32 bits hold.
    (lambda data: data[:data.index(b"PK\x01\x02")] + b"".join(
        b"PK\x01\x02" + one[:20] + b"\xfe\xff\xff\xff" + one[24:]
        for one in data[data.index(b"PK\x01\x02"):].split(b"PK\x01\x02")[1:]), "unpacks to"),
])
def test_a_broken_archive(start, home, break_it, said):
    make_archive(home / "said.mar", entries=[(f"{i}", "") for i in range(20)])
    (home / "said.mar").write_bytes(break_it((home / "said.mar").read_bytes()))
    moult = start(section(home), ready=False)
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    wait_for("nothing is left", lambda: folders(home) == [])
