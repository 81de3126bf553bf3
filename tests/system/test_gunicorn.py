# SPDX-License-Identifier: Apache-2.0
"""Applications of WSGI answer behind moult as they do behind gunicorn, and keep to PEP 3333 as
wsgiref.validate reads it."""
import http.client
import os
import shutil
import subprocess

import pytest

from harness import BUILD, DEADLINE_S, free_port, wait_for
from test_python import home, section  # noqa: F401 (a fixture)
from test_routes import ask

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")

FLASK = """
import flask
app = flask.Flask(__name__)

@app.get("/")
def root():
    return "hello"

@app.post("/json")
def json():
    return {"said": flask.request.get_json(), "ip": flask.request.remote_addr}

@app.route("/echo/<path:name>", methods=["GET", "PUT", "DELETE", "PATCH"])
def echo(name):
    return {"name": name, "args": flask.request.args.to_dict(flat=False),
            "body": flask.request.get_data().decode(), "method": flask.request.method,
            "type": flask.request.content_type, "length": flask.request.content_length,
            "cookies": flask.request.cookies, "full": flask.request.full_path,
            "url": flask.request.path, "agent": flask.request.headers.get("User-Agent"),
            "accept": flask.request.headers.getlist("Accept")}

@app.post("/form")
def form():
    file = flask.request.files.get("file")
    return {"form": flask.request.form.to_dict(flat=False),
            "file": file and [file.filename, file.read().decode()]}

@app.get("/cookies")
def cookies():
    response = flask.make_response("set")
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2", samesite="Lax")
    response.headers.add("X-Twice", "1")
    response.headers.add("X-Twice", "2")
    return response

@app.get("/stream")
def stream():
    def parts():
        for i in range(5):
            yield f"part {i}\\n"
    return flask.Response(parts(), mimetype="text/plain")

@app.get("/none")
def none():
    return "", 204

@app.get("/cached")
def cached():
    response = flask.make_response("cached")
    response.set_etag("tag")
    return response.make_conditional(flask.request)

@app.get("/moved")
def moved():
    return flask.redirect("/echo/there")

@app.get("/teapot")
def teapot():
    flask.abort(418)

@app.get("/file")
def file():
    return flask.send_file(__file__, mimetype="text/x-python", conditional=True)

@app.get("/large")
def large():
    return "x" * 300000

@app.get("/raises")
def raises():
    raise RuntimeError("no")
"""

FORM = (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n'
        b'Content-Type: text/plain\r\n\r\ncontent\r\n--b--\r\n')

REQUESTS = [
    ("GET", "/", {}, None),
    ("HEAD", "/", {}, None),
    ("OPTIONS", "/echo/x", {}, None),
    ("POST", "/", {}, b"x"),
    ("GET", "/nothing", {}, None),
    ("POST", "/json", {"Content-Type": "application/json"}, b'{"a": [1, 2.5, "\xc3\xa4"]}'),
    ("POST", "/json", {"Content-Type": "application/json"}, b"{"),
    ("POST", "/json", {"Content-Type": "text/plain"}, b"{}"),
    ("GET", "/echo/a%20b%2Fc/%C3%A4?x=1&x=2&y=%26&z", {}, None),
    ("GET", "/echo//double//slash", {}, None),
    ("PUT", "/echo/p", {"Content-Type": "text/plain; charset=utf-8"}, "ä".encode()),
    ("PATCH", "/echo/p", {}, b""),
    ("DELETE", "/echo/p", {"Cookie": "a=1; b=2"}, None),
    ("GET", "/echo/h", {"User-Agent": "me/1.0", "Accept": "text/html, */*;q=0.1"}, None),
    ("POST", "/form", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&a=2&b=%20"),
    ("POST", "/form", {"Content-Type": "multipart/form-data; boundary=b"}, FORM),
    ("GET", "/cookies", {}, None),
    ("GET", "/stream", {}, None),
    ("HEAD", "/stream", {}, None),
    ("GET", "/none", {}, None),
    ("GET", "/cached", {}, None),
    ("GET", "/cached", {"If-None-Match": '"tag"'}, None),
    ("GET", "/moved", {}, None),
    ("GET", "/teapot", {}, None),
    ("GET", "/file", {}, None),
    ("GET", "/file", {"Range": "bytes=0-9"}, None),
    ("GET", "/file", {"Range": "bytes=99999-"}, None),
    ("GET", "/large", {}, None),
    ("TRACE", "/echo/x", {}, None),
    ("GET", "/raises", {}, None),
]

# Flask lists a set's members.
SETTLED = {"PYTHONHASHSEED": "0"}
# Each server's own.
OWN = {"date", "server", "connection", "keep-alive", "transfer-encoding", "moult-generation"}


def answers(port):
    """Status, fields and body of each request, on one connection as long as it lasts."""
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    for method, path, fields, body in REQUESTS:
        connection.request(method, path, body, {"Host": "app.example", **fields})
        response = connection.getresponse()
        text = response.read()
        own = OWN | ({"content-length"} if response.status == 304 else set())
        found.append((response.status, sorted((name.lower(), value) for name, value in
                                              response.getheaders() if name.lower() not in own),
                      text))
    connection.close()
    return found


def has(module):
    return not subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], check=False,
                              stderr=subprocess.DEVNULL).returncode


@pytest.fixture
def gunicorn(home):  # noqa: F811
    if not shutil.which("gunicorn") or not has("flask"):
        pytest.skip("there is no gunicorn, or no flask")
    (home / "app.py").write_text(FLASK)
    port = free_port()
    process = subprocess.Popen(
        ["/usr/bin/python3", "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "2",
         "app:app"], cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **SETTLED})

    def is_up():
        assert process.poll() is None
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S).request("GET", "/")
        except OSError:
            return False
        return True
    wait_for("gunicorn", is_up)
    yield port
    process.terminate()
    process.wait()


def test_flask_answers_as_behind_gunicorn(start, home, gunicorn):  # noqa: F811
    moult = start(section(home, **{f"environment.{name}": value
                                   for name, value in SETTLED.items()}))
    theirs, ours = answers(gunicorn), answers(moult.port)
    different = []
    for (method, path, _, _), their, our in zip(REQUESTS, theirs, ours):
        # What failed without an answer of the application's is each server's to say.
        if their[0] == our[0] == 500:
            continue
        if their != our:
            different.append((method, path, their, our))
    assert not different, "\n".join(map(str, different))


VALID = """
import io
import sys
import wsgiref.validate

def plain(environ, start_response):
    path = environ["PATH_INFO"]
    body = environ["wsgi.input"]
    fields = [("Content-Type", "text/plain"), ("X-Twice", "1"), ("X-Twice", "2")]
    if path == "/read":
        said = body.read(3) + b"|" + body.readline() + b"|" + b"".join(body.readlines(10)) + \\
            b"|" + b"".join(body)
    elif path == "/errors":
        environ["wsgi.errors"].write("one line\\n")
        environ["wsgi.errors"].writelines(["two\\n"])
        environ["wsgi.errors"].flush()
        said = b"told"
    elif path == "/write":
        write = start_response("201 Created", fields)
        write(b"written, ")
        return Parts([b"and given"])
    elif path == "/again":
        start_response("200 OK", fields)
        try:
            raise ValueError("in the head")
        except ValueError:
            start_response("418 Teapot", fields, sys.exc_info())
        return Parts([b"again"])
    elif path == "/empty":
        start_response("204 No Content", [("X-Twice", "1")])
        return Parts([])
    else:
        said = path.encode("latin-1")
    start_response("200 OK", fields)
    return Parts([said, b"", b"\\n"])

class Parts:
    closed = 0
    def __init__(self, parts):
        self.parts = parts
    def __iter__(self):
        return iter(self.parts)
    def close(self):
        Parts.closed += 1

valid = wsgiref.validate.validator(plain)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(Parts.closed).encode()]
    # PEP 3333: servers may add to it; the validator wants str where a version is a tuple.
    return valid(environ, start_response)
"""


def test_the_interface_is_that_of_pep_3333(start, home):  # noqa: F811
    """wsgiref.validate asserts within the request: an error is a 500."""
    (home / "app.py").write_text(VALID)
    moult = start(section(home))
    connection = http.client.HTTPConnection("127.0.0.1", moult.port, timeout=DEADLINE_S)
    rows = [
        ("GET", "/x?y=1", None, 200, b"/x\n"),
        ("HEAD", "/x", None, 200, b""),
        ("POST", "/read", b"abcdef\nline\nrest\nmore", 200, b"abc|def\n|line\nrest\n|more\n"),
        ("POST", "/read", b"", 200, b"|||\n"),
        ("PUT", "/errors", b"x", 200, b"told\n"),
        ("GET", "/write", None, 201, b"written, and given"),
        ("GET", "/again", None, 418, b"again"),
        ("DELETE", "/empty", None, 204, b""),
        ("OPTIONS", "/x", None, 200, b"/x\n"),
    ]
    for method, path, body, status, said in rows:
        connection.request(method, path, body)
        response = connection.getresponse()
        found = response.read()
        assert (response.status, found) == (status, said), (method, path, response.status, found,
                                                            moult.log_text()[-2000:])
        twice = [value for name, value in response.getheaders() if name == "X-Twice"]
        assert twice == (["1"] if path == "/empty" else ["1", "2"]), (path, twice)
    connection.close()
    # close() comes behind the answer, and another thread may be faster.
    wait_for("all closed", lambda: ask(moult, "GET", "/closed")[2] == str(len(rows)).encode())
    text = moult.log_text()
    assert "AssertionError" not in text and "one line" in text and "two" in text
