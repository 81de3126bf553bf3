# SPDX-License-Identifier: Apache-2.0
"""examples/kubernetes: objects that a cluster takes, a pod as kubelet lays it out, served by moultd."""
import functools
import http.server
import os
import shutil
import subprocess
import threading

import pytest
import yaml

from harness import BUILD, ROOT, Load, Moult, free_port, wait_for

EXAMPLE = ROOT / "examples" / "kubernetes"
APP = """
import moult


def app(environ, start_response):
    word = moult.secrets.raw("word")
    start_response("200 OK", [("Content-Length", str(len(word)))])
    return [word]
"""


def objects(name):
    return list(yaml.safe_load_all((EXAMPLE / name).read_text()))


def of_kind(kind):
    return next(item for item in objects("moult.yaml") if item["kind"] == kind)


def test_schemas():
    """Against the schemas of the newest Kubernetes that the validator knows; unknown fields too."""
    program = BUILD.parent / "venv" / "bin" / "kubernetes-validate"
    if not program.exists():
        pytest.skip("kubernetes-validate is not installed: see tests/clients.sh")
    done = subprocess.run([program, "--strict", EXAMPLE / "moult.yaml"], capture_output=True,
                          text=True, timeout=300, check=False)
    passed = (done.stdout + done.stderr).count(" passed for resource ")
    assert done.returncode == 0 and passed == len(objects("moult.yaml")), done


def test_references():
    """What one object calls another by is what that is called; volumes, mounts and ports meet."""
    deployment = of_kind("Deployment")["spec"]
    pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert of_kind("Service")["spec"]["selector"].items() <= labels.items()
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scaled = of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled == {"apiVersion": "apps/v1", "kind": "Deployment",
                      "name": of_kind("Deployment")["metadata"]["name"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes.keys() == {mount["name"] for mount in container["volumeMounts"]}
    assert volumes["configuration"]["configMap"]["name"] == of_kind("ConfigMap")["metadata"]["name"]
    assert {item["key"] for item in volumes["configuration"]["configMap"]["items"]} \
        == of_kind("ConfigMap")["data"].keys()
    ports = {port["name"] for port in container["ports"]}
    assert {container[probe]["httpGet"]["port"]
            for probe in ("livenessProbe", "readinessProbe")} <= ports
    assert of_kind("Service")["spec"]["ports"][0]["targetPort"] in ports


def replace(folder, files):
    """As kubelet does it: a folder of all files, one link to it that is renamed over the old one,
    and links to what lies behind that."""
    version = folder / f"..{len(list(folder.glob('..[0-9]*')))}"
    for path, text in files.items():
        (version / path).parent.mkdir(parents=True, exist_ok=True)
        (version / path).write_text(text)
    (folder / "..data_tmp").symlink_to(version.name)
    os.rename(folder / "..data_tmp", folder / "..data")
    for name in {path.split("/")[0] for path in files}:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


class Pod(Moult):
    """The example's pod in a folder: its volumes are there, and its paths lead there."""

    def __init__(self, home):
        self.home, self.under, self.context, self.port = home, (), None, free_port()
        spec = of_kind("Deployment")["spec"]["template"]["spec"]
        self.items = next(volume for volume in spec["volumes"]
                          if volume["name"] == "configuration")["configMap"]["items"]
        self.mounts = {mount["name"]: mount["mountPath"]
                       for mount in spec["containers"][0]["volumeMounts"]}
        for path in self.mounts.values():
            (home / path[1:]).mkdir(parents=True)
        self.socket, self.log = home / "run/moult/moultd.sock", home / "log"
        self.config = home / "etc/moult/moult.conf"
        self.configure()
        self.place("application", {"app.py": APP})
        self.place("secrets", {"word": "old"})
        self.launch()

    def place(self, volume, files):
        replace(self.home / self.mounts[volume][1:], files)

    def configure(self, **keys):
        data = dict(of_kind("ConfigMap")["data"])
        data["moult.conf"] += "user = root\nsettle = 20ms\npoll = 1s\n"
        data["app.conf"] += "".join(f"{key} = {value}\n" for key, value in keys.items())
        for key, text in data.items():
            text = text.replace("0.0.0.0:8080", f"127.0.0.1:{self.port}").replace("10s", "10ms")
            for path in self.mounts.values():
                text = text.replace(f" {path}", f" {self.home}{path}")
            data[key] = text
        self.place("configuration", {item["path"]: data[item["key"]] for item in self.items})


class Readers(Load):
    """They ask the application, and take the answers of either secret."""

    def make(self, i):
        return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None

    def is_right(self, data, headers, body):
        self.generations.add(body)
        return body in (b"old", b"new")


@pytest.fixture
def pod(tmp_path, request):
    pod = Pod(tmp_path)
    try:
        yield pod.wait_ready()
    finally:
        if request.node.has_failed:
            pod.kill()
        else:
            pod.stop()


def test_a_pod(pod):
    """A secret and a ConfigMap, replaced under load."""
    load = Readers(pod.port)
    load.wait_more()
    pod.place("secrets", {"word": "new"})
    wait_for("the new secret", lambda: b"new" in load.generations)
    assert pod.status("app")["generation"] == 2
    pod.configure(threads=2)
    wait_for("the new configuration", lambda: pod.status("app")["generation"] == 3)
    load.wait_more()
    load.stop_and_check()
    assert pod.receipts("app")[-1]["cause"] == "config", pod.receipts("app")


# KServe

CHECK = """
import re, sys
import kserve, yaml
import kubernetes.client.models as other

def model_of(name):
    return getattr(kserve, name, None) or getattr(kserve.models, name, None) or getattr(other, name)

def check(kind, value, path):
    # dict(str, X), list[X], a class of one of the two packages, or a plain type
    if inner := re.fullmatch(r"[Ll]ist\\[(.*)\\]", kind):
        assert isinstance(value, list), path
        for i, one in enumerate(value):
            check(inner[1], one, f"{path}[{i}]")
    elif inner := re.fullmatch(r"[Dd]ict[(\\[]str, (.*)[)\\]]", kind):
        for key, one in value.items():
            check(inner[1], one, f"{path}.{key}")
    elif kind in ("str", "int", "bool", "float"):
        assert type(value).__name__ == kind, (path, kind, value)
    elif kind not in ("object", "datetime", "IntstrIntOrString", "IntOrString"):
        model = model_of(kind)
        names = {json: name for name, json in model.attribute_map.items()}
        for key, one in value.items():
            assert key in names, f"{path}.{key}: {kind} has no such field"
            check(model.openapi_types[names[key]], one, f"{path}.{key}")
        model(**{names[key]: one for key, one in value.items()})

for item in yaml.safe_load_all(open(sys.argv[1])):
    version = item["apiVersion"].split("/")[1].capitalize()
    check(version + item["kind"], item, item["kind"])
    print(item["kind"])
"""


def test_kserve_takes_them():
    """Each field is one of KServe's own classes, of its type, and none that is required is missing."""
    python = BUILD.parent / "venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("kserve is not installed: see tests/clients.sh")
    done = subprocess.run([python, "-c", CHECK, EXAMPLE / "kserve.yaml"], capture_output=True,
                          text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ClusterServingRuntime", "InferenceService"]


MODEL = """
class Echo:
    inputs = ['x FP32 [-1]']
    outputs = ['x FP32 [-1]']
    def predict(self, inputs):
        return inputs
"""
ASK = ('{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, 2.5]}]}')


def check_the_runtime(folder, models):
    """Runs the container's arguments over @models, which is /mnt/models there, and asks the model."""
    runtime = objects("kserve.yaml")[0]["spec"]
    (container,) = runtime["containers"]
    port, grpc_port = free_port(), free_port()
    arguments = [argument.replace("/mnt/models", str(models))
                 .replace("{{.Name}}", "mine").replace("0.0.0.0:8080", f"127.0.0.1:{port}")
                 .replace("0.0.0.0:8081", f"127.0.0.1:{grpc_port}")
                 for argument in container["args"]]
    path = container["readinessProbe"]["httpGet"]["path"].replace("{{.Name}}", "mine")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([BUILD / "moultd", *arguments], stdout=log, stderr=log,
                                   cwd=folder, env={**os.environ, "TMPDIR": str(folder)})

    def ask(where, *more):
        done = subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}{where}", *more],
                              check=False, capture_output=True, text=True)
        return done.returncode == 0 and (done.stdout or "yes")
    try:
        wait_for("readiness", lambda: ask(path))
        assert '"data":[1.5,2.5]' in ask("/v2/models/mine/infer", "-d", ASK)
    finally:
        process.terminate()
        assert process.wait(120) == 0, (folder / "log").read_text()


def test_the_runtime_serves(tmp_path):
    """Over a link to a folder, as a volume may have it."""
    (tmp_path / "stored").mkdir()
    (tmp_path / "stored" / "model.py").write_text(MODEL)
    (tmp_path / "models").symlink_to(tmp_path / "stored")
    check_the_runtime(tmp_path, tmp_path / "models")


class Store(http.server.SimpleHTTPRequestHandler):
    """Types as the storage initializer wants them."""
    def guess_type(self, path):
        return "application/zip" if str(path).endswith(".zip") else "application/octet-stream"

    def log_message(self, *_):
        pass


def put_model(folder):
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)


@pytest.mark.parametrize("source", ["a folder", "versions", "an archive", "a file"])
def test_what_the_storage_initializer_leaves(tmp_path, source):
    """KServe's own, which links what is local, and unpacks what comes by HTTP."""
    python = BUILD.parent / "venv" / "bin" / "python"
    if not python.exists() or subprocess.run([python, "-c", "import kserve_storage"],
                                             capture_output=True, check=False).returncode != 0:
        pytest.skip("kserve-storage is not installed: see tests/clients.sh")
    stored, models = tmp_path / "stored", tmp_path / "models"
    put_model(stored / "1" if source == "versions" else stored)
    if source == "versions":
        (stored / "config.pbtxt").write_text('backend: "python"\nmax_batch_size: 0\n')
    # Of archives it also takes those of tar, for which Debian 12's Python is too old.
    shutil.make_archive(tmp_path / "model", "zip", stored)
    with http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Store, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = {"an archive": f"http://127.0.0.1:{server.server_port}/model.zip",
               "a file": f"http://127.0.0.1:{server.server_port}/stored/model.py",
               }.get(source, f"file://{stored}")
        try:
            done = subprocess.run(
                [python, "-c", "import sys\nfrom kserve_storage import Storage\n"
                 "Storage.download_files([sys.argv[1]], [sys.argv[2]])", uri, models],
                capture_output=True, text=True, timeout=300, check=False)
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 0, done.stderr
    assert any(path.is_symlink() for path in models.iterdir()) == uri.startswith("file:")
    check_the_runtime(tmp_path, models)
