# SPDX-License-Identifier: Apache-2.0
"""The page of a listener for administration in a real browser, where there is one."""
import os
import pathlib

import pytest

from browser import PROGRAM, Browser
from harness import Gate, Load, echo_section, wait_for
from test_admin import Admin

pytestmark = pytest.mark.skipif(not PROGRAM, reason="there is no Chromium (Debian's chromium)")
# Where pictures are kept for docs/: MOULT_PICTURES=docs/page.
PICTURES = os.environ.get("MOULT_PICTURES")
TOKEN = "abcdefghijklmnopqrstuvwxyz012345"
# WCAG's contrast of a text with what is behind it, at least.
CONTRAST = """[...document.querySelectorAll('h1,h2,p,th,td,li,button,span,strong,label')].filter(
  e => e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 :
    ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = e, ground;
  do ground = rgb(getComputedStyle(behind).backgroundColor);
  while ((behind = behind.parentElement) && ground.length === 4 && ground[3] === 0);
  const pair = [light(rgb(getComputedStyle(e).color)), light(ground)].sort((a, b) => b - a);
  return [(pair[0] + 0.05) / (pair[1] + 0.05), e.outerHTML.slice(0, 90)];
}).sort((a, b) => a[0] - b[0])[0]"""


@pytest.fixture
def browser(tmp_path):
    one = Browser(tmp_path / "profile")
    yield one
    one.close()


@pytest.fixture
def admin():
    return Admin()


def address(admin):
    return f"http://127.0.0.1:{admin.port}/"


def rows(browser, body):
    return browser.script(f"[...document.querySelectorAll('#{body} tr')].map("
                          "r => [...r.children].map(c => c.textContent))")


def keep(browser, name):
    if PICTURES:
        pathlib.Path(PICTURES).mkdir(exist_ok=True)
        browser.picture(pathlib.Path(PICTURES) / f"{name}.png")


def test_it_is_live(start, admin, browser, tmp_path):
    gate = Gate(tmp_path)
    gate.open()
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * (24 << 20))
    moult = start(echo_section("digits", path=path), echo_section("words", path=path),
                  echo_section("prices", engine="fault", **{"option.fault": "slow-on-stage",
                                                            **gate.keys}),
                  echo_section("broken", path=tmp_path / "not-there"),
                  supervisor=admin.key + "ready = any\n[device host]\nbudget = 256M\n")
    load = Load(moult.port, model="digits", pause_s=0.005)
    browser.look(1280)
    browser.open(address(admin))
    wait_for("life", lambda: browser.script("document.getElementById('live').textContent") == "live")
    wait_for("rates", lambda: "/s" in rows(browser, "models")[0][4])
    assert [row[0] for row in rows(browser, "models")] == ["digits", "words", "prices", "broken"]
    assert rows(browser, "models")[3][1] == "failed"
    before = len(rows(browser, "receipts"))
    for model in ("digits", "words", "digits"):
        assert moult.reload(model).returncode == 0
    wait_for("receipts", lambda: len(rows(browser, "receipts")) == before + 3)
    assert rows(browser, "receipts")[0][3:5] == ["manual", "ok"]
    wait_for("a change", lambda: browser.script("document.querySelectorAll('svg .change').length") >= 2)
    # A copy that two models share counts once.
    assert rows(browser, "memory")[1][2].endswith(", those of digits")
    held = browser.script("document.querySelector('#bars p').textContent")
    assert 24 < float(held.split()[2]) < 48 and held.endswith("of 256.0 MiB"), held
    assert browser.script("document.querySelectorAll('#troubles li').length") == 1
    # Owners' pieces, and what is free of the budget.
    assert browser.script("document.querySelectorAll('#bars .bar > *').length") == 9
    assert browser.script("[...document.querySelectorAll('#bars .bar > *')].some("
                          "e => e.offsetWidth > 20 && e.className !== 'rest')")
    gate.shut()
    moult.ctl("reload", "prices")
    wait_for("the load", lambda: rows(browser, "models")[2][1].startswith("ready: s"))
    looks = 20 if PICTURES else 3
    wait_for("some looks", lambda: browser.script("looks.length") > looks)
    for width, height in ((1280, 1290), (320, 780)):
        for scheme in ("light", "dark"):
            browser.look(width, height, scheme)
            assert browser.script("document.documentElement.scrollWidth") <= width
            least = browser.script(CONTRAST)
            assert least[0] >= 4.5, (scheme, least)
            keep(browser, f"{width}-{scheme}")
    gate.open()
    load.stop_and_check()
    # It asked nobody else, and nothing broke its policy.
    assert all(url.startswith(address(admin)) for url in browser.asked() if url.startswith("http"))
    assert browser.complaints(but=("favicon",)) == []


def test_a_moultd_that_restarts(start, admin, browser):
    moult = start(echo_section(), supervisor=admin.key)
    browser.open(address(admin))
    live = "document.getElementById('live').textContent"
    wait_for("life", lambda: browser.script(live) == "live")
    moult.stop()
    wait_for("its end", lambda: "asking again" in browser.script(live))
    moult.launch().wait_ready()
    wait_for("life", lambda: browser.script(live) == "live")
    wait_for("a new status", lambda: browser.script("looks[looks.length - 1].pid") == moult.pid)


def test_keyboard_and_motion(start, admin, browser):
    start(echo_section(), supervisor=admin.key)
    browser.look(320, motion="reduce")
    browser.open(address(admin))
    wait_for("life", lambda: browser.script("document.getElementById('live').textContent") == "live")
    wait_for("bars", lambda: browser.script("document.querySelectorAll('.bar > *').length"))
    assert browser.script("getComputedStyle(document.querySelector('.bar > *')).transitionDuration") == "0s"
    seen = []
    for _ in range(2):
        browser.press("Tab")
        seen.append(browser.script("document.activeElement.id || document.activeElement.className"))
        # What has the focus is seen to have it.
        assert browser.script("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert browser.script("document.activeElement.getBoundingClientRect().left") >= 0
    assert seen == ["skip", "pause"]
    browser.press("Enter")
    assert browser.script("document.activeElement.getAttribute('aria-pressed')") == "true"
    looks = browser.script("looks.length")
    cell = "document.querySelector('#models td:nth-child(4)').textContent"
    shown = browser.script(cell)
    wait_for("looks", lambda: browser.script("looks.length") > looks + 1)
    assert browser.script(cell) == shown
    browser.press(" ")
    wait_for("another time", lambda: browser.script(cell) != shown)


def test_a_token_is_asked_for(start, admin, browser, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "me").write_text(TOKEN)
    start(echo_section(), supervisor=admin.key + f"tokens = {tokens}\nmetrics_tokens = me\n")
    browser.look(320, 400)
    browser.open(address(admin))
    wait_for("the question", lambda: browser.script("document.activeElement.id") == "token")
    assert browser.script("document.getElementById('main').hidden")
    keep(browser, "token")
    browser.type("wrong" * 5)
    browser.press("Enter")
    wait_for("a refusal", lambda: "not" in browser.script(
        "document.getElementById('refusal').textContent"))
    assert browser.script("document.getElementById('token').value") == ""
    browser.type(TOKEN)
    browser.press("Enter")
    wait_for("the models", lambda: [row[0] for row in rows(browser, "models")] == ["echo"])
    # It is in no address, no storage, and nowhere in the document.
    assert not any(TOKEN in url for url in browser.asked())
    assert browser.script("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert TOKEN not in browser.script("document.documentElement.outerHTML")
    assert browser.complaints(but=("favicon", "401")) == []


def test_without_a_script(start, admin, browser):
    start(echo_section("first"), echo_section("second"), supervisor=admin.key)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.look(320, 780)
    browser.call("Page.navigate", url=address(admin))

    def is_loaded():
        browser.hear()
        return any(event.get("method") == "Page.loadEventFired" for event in browser.events)
    wait_for("the page", is_loaded)
    assert [row[0] for row in rows(browser, "models")] == ["first", "second"]
    assert rows(browser, "models")[0][1] == "ready" and len(rows(browser, "receipts")) == 2
    assert browser.script("document.documentElement.scrollWidth") <= 320
    assert browser.script(CONTRAST)[0] >= 4.5
