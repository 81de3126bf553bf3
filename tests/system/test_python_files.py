# SPDX-License-Identifier: Apache-2.0
"""Classes that a file of Python has, as they are uploaded to other servers."""
import pytest

from harness import BUILD
from test_python_handlers import post
from test_routes import ask

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")

# That of Clarifai, as far as a model sees it.
CLARIFAI = """
class ModelClass:
    @staticmethod
    def method(function):
        function._cf_method_info = function
        return function

    def load_model(self):
        pass
"""
MODEL = """
from model_class import ModelClass
import words

class Helper:
    def predict(self, x):
        return x

class Model(ModelClass):
    def load_model(self):
        self.word = words.WORD

    @ModelClass.method
    def predict(self, prompt: str, count: int = 2) -> str:
        return self.word + prompt * count

    @ModelClass.method
    def generate(self, prompt: str):
        yield from prompt

    @ModelClass.method
    def upper(self, prompt: str) -> str:
        return prompt.upper()

    def hidden(self, prompt):
        return "hidden"
"""
JSON = [("Content-Type", "application/json")]


@pytest.fixture
def home(tmp_path):
    """As it is uploaded: the model in 1/, what it needs beside that."""
    home = tmp_path / "home"
    (home / "1").mkdir(parents=True)
    (home / "1" / "model.py").write_text(MODEL)
    (home / "1" / "model_class.py").write_text(CLARIFAI)
    (home / "1" / "words.py").write_text("WORD = '> '\n")
    (home / "requirements.txt").write_text("clarifai\n")
    (home / "config.yaml").write_text("model:\n  id: said\n")
    return home


def section(home, **keys):
    lines = {"engine": "python", "working_directory": home, "model": "1/model.py",
             "route": "/predict/", **keys}
    return "[model app]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def ask_for(moult, path, body=b'{"prompt": "ab"}'):
    return ask(moult, "POST", path, JSON, body)


@pytest.mark.parametrize("named", ["1/model.py", "1/model.py:Model"])
def test_the_class_of_an_upload(start, home, named):
    """The only one of Clarifai's, with each method that it offers."""
    moult = start(section(home, model=named))
    assert post(moult, b'{"prompt": "ab"}')[2] == b"> abab"
    assert ask_for(moult, "/predict/predict")[2] == b"> abab"
    assert ask_for(moult, "/predict/generate")[2] == b"ab"
    assert ask_for(moult, "/predict/upper")[2] == b"AB"
    assert ask_for(moult, "/predict/hidden")[2] == b"> abab"
    status, _, body = ask_for(moult, "/predict/upper", b'{"count": 2}')
    assert status == 400 and b"upper(prompt: str)" in body, body


def test_methods_without_predict(start, home):
    """One is asked for by any path; of several the path names one."""
    text = MODEL.replace("def predict(self, prompt", "def first(self, prompt")
    (home / "1" / "model.py").write_text(text)
    moult = start(section(home))
    assert ask_for(moult, "/predict/first")[2] == b"> abab"
    status, _, body = ask_for(moult, "/predict/")
    assert status == 404 and b"a method: generate, first, upper" in body, body
    (home / "1" / "model.py").write_text(text[:text.index("\n    @ModelClass.method\n    def gen")])
    moult.ctl("reload", "app", "--wait")
    assert ask_for(moult, "/predict/")[2] == b"> abab"


@pytest.mark.parametrize("named, source, said", [
    ("1/model.py", MODEL + "class More(Model):\n    pass\n",
     "has Model, More: name the class, as in model = 1/model.py:More"),
    ("1/model.py", MODEL.replace("(ModelClass)", "") + "class More(Model):\n    pass\n",
     "has Helper, Model, More: name the class"),
    ("1/model.py", "class A:\n    pass\nclass B:\n    pass\n",
     "has none with predict(), execute() or handle(); it defines A, B"),
    ("1/model.py", "from model_class import ModelClass\n", "it defines no class"),
    ("1/model.py:Other", None, "module 'model' has no 'Other'; it has: Helper, Model"),
    ("1/other.py", None, "there is no file '"),
    ("1/model.py", "import absent\n", "No module named 'absent'"),
    ("1/model.py", "class (\n", "invalid syntax"),
])
def test_what_is_wrong_is_named(start, home, named, source, said):
    """The old generation serves on."""
    moult = start(section(home))
    if source:
        (home / "1" / "model.py").write_text(source)
    (moult.models / "0.conf").write_text(section(home, model=named, threads=2))
    receipt = moult.wait_receipt("app", lambda r: r["outcome"] == "failed")
    assert said in receipt["reason"], receipt
    assert post(moult, b'{"prompt": "ab"}')[2] == b"> abab"
