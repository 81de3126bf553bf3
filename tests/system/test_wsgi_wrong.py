# SPDX-License-Identifier: Apache-2.0
"""Ways in which an application of WSGI can be wrong: each has a sentence of its own in the log, the
client sees a 500 or a cut answer, and everybody else is served."""
import http.client

import pytest

from harness import BUILD, DEADLINE_S, wait_for
from test_python import home, section  # noqa: F401 (a fixture)
from test_routes import ask

pytestmark = pytest.mark.skipif(not (BUILD / "moult-engine-python.so").exists(),
                                reason="the python engine is not built here")

APP = """
import sys

def ok(start_response, *fields, status="200 OK"):
    return start_response(status, [("Content-Type", "text/plain"), *fields])

def not_called(start_response):
    return [b"x"]

def called_twice(start_response):
    ok(start_response)
    ok(start_response)
    return [b"x"]

def text(start_response):
    ok(start_response)
    return ["x"]

def text_amid(start_response):
    ok(start_response)
    yield b"begun"
    yield "x"

def one_text(start_response):
    ok(start_response)
    return "xyz"

def nothing(start_response):
    ok(start_response)

def number(start_response):
    ok(start_response)
    return 5

def status_number(start_response):
    ok(start_response, status=200)
    return [b"x"]

def status_odd(start_response):
    ok(start_response, status="OK")
    return [b"x"]

def status_none(start_response):
    ok(start_response, status="099 No")
    return [b"x"]

def field_number(start_response):
    ok(start_response, ("X-A", 5))
    return [b"x"]

def field_break(start_response):
    ok(start_response, ("X-A", "a\\r\\nSet-Cookie: b=c"))
    return [b"x"]

def field_name(start_response):
    ok(start_response, ("X A", "a"))
    return [b"x"]

def field_alone(start_response):
    ok(start_response, "X-A")
    return [b"x"]

def fields_none(start_response):
    start_response("200 OK", None)
    return [b"x"]

def shorter(start_response):
    ok(start_response, ("Content-Length", "5"))
    return [b"x"]

def longer(start_response):
    ok(start_response, ("Content-Length", "1"))
    return [b"xyz"]

def length_odd(start_response):
    ok(start_response, ("Content-Length", "one"))
    return [b"xyz"]

def raises(start_response):
    raise KeyError("what")

def raises_amid(start_response):
    ok(start_response)
    yield b"begun"
    raise KeyError("what")

def exits(start_response):
    sys.exit(3)

class Close(list):
    def close(self):
        raise KeyError("at its close")

def close_raises(start_response):
    ok(start_response)
    return Close([b"x"])

def recursion(start_response):
    return recursion(start_response)

def fine(start_response):
    ok(start_response)
    return [b"fine"]

def app(environ, start_response):
    return globals()[environ["PATH_INFO"][1:]](start_response)
"""

ROWS = [
    ("not_called", 500, "start_response was not called"),
    ("called_twice", 500, "start_response was called again"),
    ("text", 500, "WSGI takes bytes, and the application gave 'str'"),
    ("text_amid", "cut", "WSGI takes bytes, and the application gave 'str'"),
    ("one_text", 500, "WSGI takes bytes, and the application gave 'str'"),
    ("nothing", 500, "gave None: an application returns an iterable of bytes"),
    ("number", 500, "gave 'int': an application returns an iterable of bytes"),
    ("status_number", 500, "the status must be as '200 OK', not 200"),
    ("status_odd", 500, "the status must be as '200 OK', not 'OK'"),
    ("status_none", 500, "an answer's status must be from 200 to 599: 99 is none"),
    ("field_number", 500, "names and values of headers must be str, not 'X-A': 5"),
    ("field_break", 500, "the value of the header field 'X-A' has a line break"),
    ("field_name", 500, "'X A' is no name for a header field"),
    ("field_alone", 500, "headers are a list of pairs of str, and one is 'X-A'"),
    ("fields_none", 500, "headers are a list of pairs of str, not None"),
    ("shorter", "cut", "the application gave 1 bytes, and its Content-Length is 5"),
    ("longer", 200, "the answer is longer than its Content-Length of 1"),
    ("length_odd", 500, "the header Content-Length must be a number, not 'one'"),
    ("raises", 500, "KeyError: 'what'"),
    ("raises_amid", "cut", "KeyError: 'what'"),
    ("exits", 500, "SystemExit: 3"),
    ("close_raises", 200, "KeyError: 'at its close'"),
    ("recursion", 500, "RecursionError"),
]


def outcome(moult, path):
    try:
        return ask(moult, "GET", path)[0]
    except http.client.IncompleteRead:
        return "cut"
    except http.client.HTTPException as error:
        return repr(error)


@pytest.mark.parametrize("replies", [1, 3])
def test_each_has_its_sentence(start, home, replies):  # noqa: F811
    (home / "app.py").write_text(APP)
    moult = start(section(home))
    wrong = []
    for name, wanted, said in ROWS:
        before = len(moult.log_text())
        for _ in range(replies):
            found = outcome(moult, f"/{name}")
        if found != wanted:
            wrong.append((name, found, wanted))
        try:
            wait_for(said, lambda: said in moult.log_text()[before:], 5)
        except AssertionError:
            wrong.append((name, said, moult.log_text()[before:][-700:]))
        if ask(moult, "GET", "/fine")[2] != b"fine":
            wrong.append((name, "not fine"))
    assert not wrong, "\n".join(map(str, wrong))
    assert moult.status("app")["generation"] == 1
