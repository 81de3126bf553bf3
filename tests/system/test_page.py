# SPDX-License-Identifier: Apache-2.0
"""The page of a listener for administration, and its events, without a browser."""
import base64
import hashlib
import html.parser
import http.client
import json
import re
import signal
import socket

import pytest

from harness import Gate, Load, echo_section, patience, wait_for
from test_admin import Admin

LISTENERS = 8
TOKEN = "abcdefghijklmnopqrstuvwxyz012345"


class Page(html.parser.HTMLParser):
    """Tables by their bodies' ids, and all that a page could load or run."""
    VOID = {"meta", "input", "br", "link", "img"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tables, self.texts, self.odd, self.hidden = [], {}, {}, [], set()
        self.body = None
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        fields = dict(attributes)
        if tag not in self.VOID:
            self.open.append((tag, fields.get("id")))
        self.odd += [name for name in fields if name in ("style", "src", "href", "srcset", "action")
                     or name.startswith("on")]
        if "hidden" in fields:
            self.hidden.add(fields.get("id"))
        if tag == "tbody":
            self.body = self.tables.setdefault(fields["id"], [])
        if tag == "tr" and self.body is not None:
            self.body.append([])
        if tag in ("td", "th") and self.body is not None:
            self.body[-1].append("")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, (tag, self.open)
        self.open.pop()
        if tag == "tbody":
            self.body = None

    def handle_data(self, data):
        if self.body:
            self.body[-1][-1] += data
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + data


class Events:
    """Reads a stream of events."""

    def __init__(self, port, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience())
        self.connection.request("GET", "/events", headers=headers or {})
        self.answer = self.connection.getresponse()

    def next(self, wanted=None):
        """The name and the data of the next event; of the next @wanted."""
        while True:
            name = self.answer.readline()
            if not name:
                return None, None
            data, end = self.answer.readline(), self.answer.readline()
            assert name.startswith(b"event: ") and data.startswith(b"data: ") and end == b"\n"
            event = name[7:-1].decode()
            if wanted in (None, event):
                return event, json.loads(data[6:])

    def close(self):
        self.answer.close()
        self.connection.close()


@pytest.fixture
def admin():
    return Admin()


def ask(admin, path="/", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=patience())
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


def test_a_table_of_all_models(start, admin, tmp_path):
    moult = start(echo_section("first"), echo_section("second"),
                  echo_section("bad", path=tmp_path / "not-there"),
                  supervisor=admin.key + "ready = any\n[device host]\nbudget = 1G\n")
    assert moult.infer("first", json.dumps({"inputs": [
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}))[0] == 200
    wait_for("receipts", lambda: len(moult.receipts()) >= 3)
    answer, text = ask(admin)
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(text)
    models = {row[0]: row[1:] for row in page.tables["models"]}
    assert list(models) == ["first", "second", "bad"]
    assert models["first"][0] == "ready" and models["first"][3] == "1"
    assert models["bad"][0] == "failed" and models["second"][3] == "0"
    assert "2 of 3 models ready" in page.texts["summary"]
    assert page.texts["troubles"].count("failed") == 1
    assert "bad: " in page.texts["troubles"] and str(tmp_path) not in text
    memory = {row[0]: row[1:] for row in page.tables["memory"]}
    assert list(memory) == ["first", "second", "bad", "all loaders"]
    assert re.fullmatch(r"[\d.]+ [KM]iB", memory["first"][0]) and \
        memory["all loaders"][0].strip().endswith("iB of a budget of 1.0 GiB")
    receipts = page.tables["receipts"]
    assert {row[0] for row in receipts} == {"first", "second", "bad"}
    good = next(row for row in receipts if row[0] == "first")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", good[1])
    assert re.fullmatch("0 \u2192 [1-9]", good[2]) and good[3:5] == ["start", "ok"]
    assert re.match(r"spawn [\d.]+ ms, stage ", good[8])
    assert page.hidden == {"pause", "login", "times", "phases"}


def test_nothing_comes_from_elsewhere(start, admin):
    start(echo_section(), supervisor=admin.key)
    answer, text = ask(admin)
    page = Page(text)
    # The link to the models is the only one.
    assert page.odd == ["href"] and 'href="#main"' in text
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    policy = dict(part.strip().split(" ", 1) for part in
                  answer.headers["content-security-policy"].split(";"))
    for name in ("style", "script"):
        inside = re.findall(rf"<{name}>(.*?)</{name}>", text, re.S)
        assert len(inside) == 1 and len(re.findall(rf"<{name}\b", text)) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert policy.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert policy == {"default-src": "'none'", "connect-src": "'self'", "base-uri": "'none'",
                      "form-action": "'none'", "frame-ancestors": "'none'"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


HOSTILE = "</td><script>alert(1)</script>&quot;'\"<!--MODELS-->\u2028"


def test_what_receipts_say_is_escaped(start, admin):
    """Somebody else may have written to the state directory."""
    moult = start(echo_section(), supervisor=admin.key)
    moult.stop()
    hostile = {key: HOSTILE for key in ("model", "cause", "outcome", "strategy", "from", "to")}
    with open(moult.home / "state" / "receipts.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({**hostile, "number": 1, "time_ms": 1e300,
                               "phases_ms": {"spawn": -1, "stage": HOSTILE, "drain": 1e300}}) + "\n")
    moult.launch().wait_ready()
    _, text = ask(admin)
    page = Page(text)
    assert [row[0] for row in page.tables["receipts"]] == ["echo", HOSTILE, "echo"]
    assert page.tables["receipts"][1][3:6] == [HOSTILE] * 3
    assert "<script>alert" not in text and len(re.findall("<script", text)) == 1
    events = Events(admin.port)
    assert events.next("receipts")[1][1]["cause"] == HOSTILE
    events.close()


def test_it_is_for_administration_alone(start, admin):
    moult = start(echo_section(), supervisor=admin.key)
    for path in ("/", "/events"):
        assert moult.get(path)[0] == 404
        assert admin.ask(path, "POST", b"")[0] == 405
        assert admin.ask(path, "HEAD") == (200, "")
    answer, text = ask(admin, "/?q=%3Cscript%3E")
    assert answer.status == 200 and "script%3E" not in text


def test_events(start, admin, tmp_path):
    gate = Gate(tmp_path)
    gate.open()
    moult = start(echo_section(engine="fault", **{"option.fault": "slow-on-stage", **gate.keys}),
                  supervisor=admin.key)
    events = Events(admin.port)
    assert events.answer.status == 200
    assert events.answer.headers["content-type"] == "text/event-stream"
    event, receipts = events.next()
    assert event == "receipts" and [r["cause"] for r in receipts] == ["start"]
    event, status = events.next()
    assert event == "status" and status["models"][0]["name"] == "echo"
    assert status["models"][0]["load"] is None and status["models"][0]["generation"] == 1
    gate.shut()
    moult.ctl("reload", "echo")
    while (status := events.next("status")[1])["models"][0]["load"] is None:
        pass
    assert status["models"][0]["load"]["phase"] in ("spawn", "stage")
    gate.open()
    receipt = events.next("receipt")[1]
    assert receipt["cause"] == "manual" and receipt["outcome"] == "ok"
    assert receipt["to"]["generation"] == 2 and "reason" not in receipt
    later = events.next("status")[1]
    assert later["models"][0]["generation"] == 2 and later["time_ms"] > status["time_ms"]
    events.close()
    # Receipts of an earlier run are there as well.
    moult.stop()
    moult.launch().wait_ready()
    events = Events(admin.port)
    assert [r["cause"] for r in events.next("receipts")[1]] == ["start", "manual", "start"]
    events.close()


def test_so_many_may_listen(start, admin):
    moult = start(echo_section(), supervisor=admin.key)
    moult.note_fds()
    listeners = [Events(admin.port) for _ in range(LISTENERS)]
    for one in listeners:
        assert one.next("status")[1]
    status, says = admin.ask("/events")
    assert status == 503 and "close one" in says
    listeners.pop().close()
    wait_for("a place", lambda: open_and_close(admin))
    for one in listeners:
        one.close()
    wait_for("nobody", lambda: moult.status()["supervisor"]["admin"]["connections"] == 0)


def open_and_close(admin):
    one = Events(admin.port)
    one.close()
    return one.answer.status == 200


def test_who_does_not_read_is_dropped(start, admin):
    """Others get all that there is meanwhile, and so do clients of the models."""
    moult = start(*(echo_section(f"m{i}") for i in range(32)),
                  supervisor=admin.key + "body_timeout = 600s\n")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", admin.port))
        slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        load = Load(moult.port, model="m0")
        reader = Events(admin.port)
        pids = set()
        connections = wait_for("both", lambda: moult.status()["supervisor"]["admin"][
            "connections"] == 2)
        assert connections
        while moult.status()["supervisor"]["admin"]["connections"] == 2:
            pids.add(reader.next("status")[1]["pid"])
        load.stop_and_check()
        assert pids == {moult.pid}
        reader.close()


def test_stopping_waits_for_no_listener(start, admin):
    moult = start(echo_section(), supervisor=admin.key + "shutdown_timeout = 600s\n")
    listeners = [Events(admin.port) for _ in range(3)]
    for one in listeners:
        one.next("status")
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(patience()) == 0
    for one in listeners:
        while one.next()[0]:
            pass
        one.close()


def test_it_ends_with_drain_delay(start, admin):
    """Before the delay is over: a page is no reason to stay."""
    moult = start(echo_section(), supervisor=admin.key + "drain_delay = 600s\n")
    listener = Events(admin.port)
    listener.next("status")
    moult.process.send_signal(signal.SIGTERM)
    while listener.next()[0]:
        pass
    listener.close()
    assert moult.process.poll() is None
    assert "about to stop" in admin.ask("/events")[1]
    moult.process.send_signal(signal.SIGTERM)
    assert moult.process.wait(patience()) == 0


def test_tokens(start, admin, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "scraper").write_text(TOKEN)
    (tokens / "other").write_text(TOKEN[::-1])
    start(echo_section("hidden-name"), supervisor=admin.key + f"tokens = {tokens}\n"
          "metrics_tokens = scraper\n")
    for headers, status in (({}, 401), ({"Authorization": "Bearer " + TOKEN[:-1] + "x"}, 401),
                            ({"Authorization": "Bearer " + TOKEN[::-1]}, 403)):
        answer, text = ask(admin, headers=headers)
        page = Page(text)
        assert answer.status == status and "www-authenticate" in answer.headers
        assert "hidden-name" not in text and page.tables == {"models": [], "histories": [],
                                                             "memory": [], "receipts": []}
        assert "main" in page.hidden and page.texts["summary"].strip() == "" \
            if "summary" in page.texts else True
        answer, text = ask(admin, "/events", headers)
        assert answer.status == status and "error" in json.loads(text)
    mine = {"Authorization": "Bearer " + TOKEN}
    answer, text = ask(admin, headers=mine)
    assert answer.status == 200 and [row[0] for row in Page(text).tables["models"]] == ["hidden-name"]
    events = Events(admin.port, mine)
    assert events.next("status")[1]["models"][0]["name"] == "hidden-name"
    events.close()
    # A token in the address is no token.
    assert ask(admin, f"/?token={TOKEN}")[0].status == 401


def test_nothing_is_done_for_nobody(start, admin):
    """The status is made anew only while somebody listens."""
    moult = start(echo_section(), supervisor=admin.key)
    events = Events(admin.port)
    events.next("status")
    events.close()
    wait_for("nobody", lambda: moult.status()["supervisor"]["admin"]["connections"] == 0)
    before = moult.status()["supervisor"]
    later = wait_for("two seconds", lambda: (now := moult.status()["supervisor"]) and
                     now["uptime_s"] > before["uptime_s"] + 2 and now)
    assert later["admin"]["runs_total"] - before["admin"]["runs_total"] <= 1
