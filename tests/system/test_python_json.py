# SPDX-License-Identifier: Apache-2.0
"""Bodies that have no reading or two, for classes: the request is at fault, and not the model."""
import pytest

from test_python_handlers import home, post, pytestmark, section  # noqa: F401

# They take whatever comes.
ANY = """
class Any:
    def predict(self, any=None, **more):
        return "ok"

class LitAny:
    def setup(self, device):
        pass

    def decode_request(self, request):
        return "ok"

    def predict(self, x):
        return x

class TorchAny:
    def handle(self, data, context):
        return ["ok" for _ in data]
"""


JSON_WRONG = [
    (b'{"prompt": ' + b"[" * 201 + b"]" * 201 + b"}", b"more than 200 lists and objects"),
    (b"[" * 1_000_000, b"more than 200 lists and objects"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"more than 200 lists and objects"),
    (b"[[],{}," * 100_000, b"more than 200 lists and objects"),
    (b'{"prompt": NaN}', b"it has NaN in it"),
    (b'{"prompt": -Infinity}', b"it has -Infinity in it"),
    (b'{"prompt": 1e999}', b"a number that no float holds: 1e999"),
    (b'{"prompt": -' + b"9" * 400 + b'.5}', b"a number that no float holds: -99"),
    (b'{"prompt": ' + b"9" * 100_000 + b"}", b"an integer of 100000 digits"),
    (b'{"prompt": "a", "prompt": "b"}', b"has the name 'prompt' twice"),
    (b'{"prompt": {"\\u0061": 1, "a": 2}}', b"has the name 'a' twice"),
    (b'{"prompt": "\\uD800"}', b"half a character in it: \\\\ud800 alone"),
    (b'{"prompt": "\\udc00\\ud800"}', b"half a character"),
    (b'{"prompt": "a\xff"}', b"byte 13 is no UTF-8"),
    (b'{"prompt": "a\xed\xa0\x80"}', b"is no UTF-8"),
    ('{"prompt": "a"}'.encode("utf-16"), b"is no UTF-8"),
    (b'{"prompt": "a\x00"}', b"the body is no JSON"),
    (b"", b"the body is no JSON"),
]
JSON_RIGHT = [
    (b'{"any": ' + b"[" * 199 + b"]" * 199 + b"}", b"ok"),
    (b'{"any": [' + b"[1],{}," * 100_000 + b"1]}", b"ok"),
    (b'{"any": "' + b"[" * 100_000 + b'\\\\\\"{"}', b"ok"),
    (b'{"any": ' + b"9" * 1000 + b"}", b"ok"),
    (b'{"any": 1e300}', b"ok"),
    (b'{"any": "1e999, \\ud83d\\ude00"}', b"ok"),
    (b'\xef\xbb\xbf{"any": 1}', b"ok"),
]


@pytest.mark.parametrize("name", ["Any", "LitAny", "TorchAny"])
def test_hostile_json(start, home, name):
    """It is the request's fault, with a sentence, and none of the model's."""
    (home / "any.py").write_text(ANY)
    moult = start(section(home, model=f"any:{name}", watch_window="60s"))
    for body, said in JSON_WRONG:
        status, _, answer = post(moult, body)
        assert status == 400 and said in answer, (body[:60], status, answer)
    for body, said in JSON_RIGHT:
        status, _, answer = post(moult, body)
        assert status == 200 and said in answer, (body[:60], status, answer)
    assert "failed" not in moult.log_text().replace("failed=0", "")
    assert moult.status("app")["generation"] == 1


def test_hostile_forms(start, home):
    (home / "any.py").write_text(ANY)
    moult = start(section(home, model="any:LitAny"))
    kind = [("Content-Type", "multipart/form-data; boundary=X")]
    field = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n"
    for body in (b"", b"x", field + b"Content-Type: multipart/mixed; boundary=Y\r\n\r\n"
                 b"--Y\r\n\r\nz\r\n--Y--\r\n--X--\r\n",
                 b"".join(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n"
                          % (i, i + 1) for i in range(3000)).replace(b"--0", b"--X", 1)):
        status, _, answer = post(moult, body, kind)
        assert status == 400 and b"form" in answer, (body[:60], status, answer)
    name = b"--X\r\nContent-Disposition: form-data; name*=UTF-8''%c3%a4\r\n\r\n1\r\n--X--\r\n"
    assert post(moult, name, kind)[0] == 200
