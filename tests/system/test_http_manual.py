# SPDX-License-Identifier: Apache-2.0
"""moult-http(7) against a moultd that runs: what the page says is there, and what is there
stands on the page."""
import http.client
import itertools
import json
import re

import pytest

from certificates import Authority, Pair
from harness import BUILD, ROOT, echo_body, echo_section, free_port
from test_gpu import begin, section

PAGE = (ROOT / "supervisor" / "man" / "moult-http.7").read_text()
HINT = "supervisor/man/moult-http.7 has to be brought up to date"
# What placeholders of the page's paths stand for: a model that is there, its version.
VALUES = {"MODEL": "echo", "VERSION": "1", "REPOSITORY": "[^/]+"}
# What a listener for administration has alone.
FRONT = {"/", "/events"}
REFUSES = re.compile(r"(?:request_refuse|err_set|http_answer_raw|model_expire|"
                     r"model_fail_request|return|= \{)\W[^;{}]*?\b([45]\d\d)[,;]")


def items(title):
    """The tags, behind .It Li, of the section @title, without their .Pq."""
    text = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", PAGE, re.M | re.S).group(1)
    return [tag.split(" Pq ")[0] for tag in re.findall(r"^\.It Li (.*)$", text, re.M)]


def words(title):
    return [word for tag in items(title) for word in tag.split(" , ")]


def documented_paths():
    """(method, pattern) of each."""
    rows = []
    for tag in items("PATHS"):
        method, path = tag.split()
        rows.append((method, "/".join(VALUES.get(part, part) for part in path.split("/"))))
    return rows


class Client:
    """Many requests over one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response, response.read()

    def status(self, method, path):
        return self.ask(method, path, b"{}" if method == "POST" else None)[0].status


@pytest.fixture
def client(start):
    """A client of a moultd with one model; it lets go of it whatever happens."""
    one = Client(start(echo_section()).port)
    yield one
    one.connection.close()


@pytest.fixture
def front(start):
    """The same of a listener for administration."""
    port = free_port()
    start(echo_section(), supervisor=f"admin_listen = 127.0.0.1:{port}\n")
    one = Client(port)
    yield one
    one.connection.close()


def metric_families(body):
    """{name: help} of what is printed."""
    return dict(re.findall(r"^# HELP (\S+) (.*)$", body.decode(), re.M))


def documented_families():
    text = re.search(r"^\.Sh METRICS\n(.*?)(?=^\.Sh )", PAGE, re.M | re.S).group(1)
    rows = re.findall(r"^\.It Li (\S+).*\n((?:(?!\.It |\.El).*\n)+)", text, re.M)
    return {name: re.sub(r"\.Pq Ic (\S+)", r"(\1)", words).replace("\n", " ").strip()
            for name, words in rows}


def test_each_path_for_administration_is_there(front):
    assert FRONT <= set(path for _, path in documented_paths())
    for path in FRONT:
        assert front.status("HEAD", path) == 200, f"{path}: {HINT}"
        assert front.ask("POST", path)[0].headers["allow"] == "GET, HEAD"


def test_each_path_of_the_page_is_there(client):
    rows = [row for row in documented_paths() if row[1] not in FRONT]
    assert len(rows) > 10
    for method, pattern in rows:
        path = pattern.replace("[^/]+", "any")
        assert client.status(method, path) not in (404, 405), f"{method} {path}: {HINT}"
        other = "GET" if method == "POST" else "POST"
        response, _ = client.ask(other, path)
        assert response.status == 405, f"{other} {path}: {HINT}"
        assert method in response.headers["allow"]


def test_each_path_that_is_there_is_on_the_page(client):
    """Every path that can be made of the words that supervisor/wire/route.c knows."""
    source = (ROOT / "supervisor" / "wire" / "route.c").read_text()
    known = sorted(set(re.findall(r'"([a-z0-9_]+)"', source)) | {"echo", "1"})
    assert {"healthz", "v2", "infer"} <= set(known)
    shapes = [[known], [known, known], [["v2"], known, known],
              [["v2"], ["models"], ["echo"], known, known],
              [["v2"], ["models"], ["echo"], ["versions"], ["1"], known],
              [["v2"], ["repository"], known, known],
              [["v2"], ["repository"], ["models"], ["echo"], known],
              [["v2"], ["repository"], ["any"], ["models"], ["echo"], known]]
    patterns = [re.compile(pattern + r"\Z") for _, pattern in documented_paths()]
    for shape in shapes:
        for parts in itertools.product(*shape):
            path = "/" + "/".join(parts)
            if client.status("GET", path) != 404:
                assert any(pattern.match(path) for pattern in patterns), f"{path}: {HINT}"


def test_metrics(start, tmp_path):
    documented = documented_families()
    (tmp_path / "gpu").mkdir()
    authority = Authority(tmp_path)
    pair = Pair(tmp_path, *authority.issue())
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "one").write_text("0" * 32)
    moult, _ = begin(start, tmp_path, 256, section(), echo_section("plain", spare="yes"),
                     context=authority.context(),
                     head=f"engine_dir = {BUILD}\naccess_log = stderr\n{pair.keys()}"
                          f"tokens = {tmp_path}/tokens\nmetrics_tokens = anybody\n"
                          "grpc_listen = 127.0.0.1:0\n"
                          "[device cuda:0]\nreserve = 0M\n")
    printed = metric_families(moult.get("/metrics")[1])
    assert printed == documented, HINT


def test_statuses():
    """Those that the sources answer with."""
    found = set()
    for folder in ("supervisor/wire", "supervisor/gate", "supervisor/http", "supervisor/traffic",
                   "supervisor/model", "loader"):
        for path in (ROOT / folder).rglob("*.c"):
            text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
            found |= set(REFUSES.findall(text))
    documented = set(words("STATUS CODES"))
    assert found - documented == set(), HINT
    assert documented - found == {"200"}, HINT


def test_headers_and_parameters(client):
    ask = json.loads(echo_body([1, 2, 3, 4]))
    binary = dict(ask, parameters={"binary_data_output": True, "priority": 1,
                                   "timeout": 60000000})
    seen, parameters = set(), set()
    for method, path, body, headers in (
            ("POST", "/v2/models/echo/infer", json.dumps(ask), {}),
            ("POST", "/v2/models/echo/infer", json.dumps(binary), {"Moult-Timeout-Ms": "60000"}),
            ("POST", "/v2/models/echo/infer", json.dumps(ask), {"Accept-Encoding": "gzip"}),
            ("GET", "/v2/models/echo/infer", None, {}), ("GET", "/metrics", None, {}),
            ("POST", "/v2/models/echo/infer", "{", {"Content-Encoding": "br"})):
        response, answer = client.ask(method, path, body, headers)
        seen |= {name.lower() for name, _ in response.getheaders()}
        json_bytes = response.headers["inference-header-content-length"] or len(answer)
        if response.status == 200 and method == "POST" and answer[:1] == b"{":
            answer = json.loads(answer[:int(json_bytes)])
            parameters |= set(answer.get("parameters", {}))
            for output in answer["outputs"]:
                parameters |= set(output.get("parameters", {}))
    assert "moult-generation" in seen and "allow" in seen
    assert "generation" in parameters and "binary_data_size" in parameters
    assert seen - {word.lower() for word in words("HEADERS")} == set(), HINT
    assert parameters - set(words("PARAMETERS")) == set(), HINT
