# SPDX-License-Identifier: Apache-2.0
"""examples/monitoring with the Prometheus of Debian over a moultd that runs: each expression of
the dashboard, and each metric with its labels in the alerts, is about something that is there."""
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest

from certificates import Authority, Pair
from harness import BUILD, ROOT, echo_body, echo_section, free_port, wait_for
from test_gpu import begin, section

EXAMPLE = ROOT / "examples" / "monitoring"
BODY = echo_body([1, 2, 3, 4])
# A metric, and what it is asked for.
SELECTOR = re.compile(r"\b((?:moult|process)_[a-z_]+|up)(\{[^}]*\})?")


class Prometheus:
    def __init__(self, folder, target, scheme="http"):
        self.port = free_port()
        text = (EXAMPLE / "prometheus.yml").read_text()
        assert "127.0.0.1:8080" in text and "scrape_interval: 15s" in text
        text = (text.replace("127.0.0.1:8080", target)
                .replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
                .replace("job_name: moult",
                         f"job_name: moult\n    scheme: {scheme}\n"
                         "    tls_config: {insecure_skip_verify: true}"))
        (folder / "prometheus.yml").write_text(text)
        shutil.copyfile(EXAMPLE / "alerts.yml", folder / "alerts.yml")
        self.log = open(folder / "log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=self.log, stderr=self.log)

    def get(self, path, **arguments):
        assert self.process.poll() is None, "prometheus has ended"
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it has only begun
                return None
            raise AssertionError(f"{arguments}: {error.read().decode()}") from error
        except OSError:
            return None

    def finds(self, expression):
        answer = self.get("query", query=expression)
        return answer["result"] if answer else []

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


@pytest.fixture
def prometheus(tmp_path):
    """prometheus(target) watches it; it is ended afterwards."""
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus here (Debian: apt-get install prometheus)")
    running = []

    def make(target, **keys):
        folder = tmp_path / "prometheus"
        folder.mkdir()
        running.append(Prometheus(folder, target, **keys))
        return running[-1]

    yield make
    for one in running:
        one.stop()


def dashboard_expressions():
    """With the variables as Grafana fills them in for all there is, and the shortest times."""
    text = (EXAMPLE / "dashboard.json").read_text()
    dashboard = json.loads(text)
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    queries = [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    found += [re.fullmatch(r"label_values\((\w+), \w+\)", query).group(1) for query in queries]
    for name, value in (("instance", ".*"), ("model", ".*"), ("__rate_interval", "1m"),
                        ("__interval", "1m")):
        found = [expression.replace(f"${name}", value) for expression in found]
    assert not [expression for expression in found if "$" in expression]
    return found


def alert_expressions():
    text = (EXAMPLE / "alerts.yml").read_text()
    return re.findall(r"^ +expr: (?:>-\n)?(.*?)(?=^ +(?:for|labels):)", text, re.M | re.S)


def test_each_expression_finds_something(start, tmp_path, prometheus):
    (tmp_path / "gpu").mkdir()
    authority = Authority(tmp_path)
    pair = Pair(tmp_path, *authority.issue())
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "one").write_text("0" * 32)
    moult, _ = begin(start, tmp_path, 256, section(),
                     echo_section("plain", infer_tokens="anybody"), context=authority.context(),
                     head=f"engine_dir = {BUILD}\n{pair.keys()}tokens = {tmp_path}/tokens\n"
                          "metrics_tokens = anybody\n"
                          "[device cuda:0]\nreserve = 0M\n")
    watching = prometheus(f"127.0.0.1:{moult.port}", scheme="https")
    expressions = dashboard_expressions()
    # It changes, and is counted once more, when Prometheus has seen the one before.
    wait_for("a first look", lambda: watching.finds("moult_generation > 0"))
    moult.infer("plain", BODY)
    moult.reload("plain", "--wait")
    left = expressions + [metric + (labels or "") for expression in alert_expressions()
                          for metric, labels in SELECTOR.findall(expression)]
    assert len(left) > 30

    def all_found():
        assert moult.infer("plain", BODY)[0] == 200
        left[:] = [one for one in left if not watching.finds(one)]
        return not left

    try:
        wait_for("data for each expression", all_found)
    except AssertionError as error:
        raise AssertionError(f"nothing is found by {left}") from error


def test_alerts_are_raised(start, tmp_path, prometheus):
    """By what they are about: a moultd that is not there, a secret that does not serve."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("tok-1")
    moult = start(echo_section(secrets=secrets, **{"option.secret": "token",
                                                   "option.secret_prefix": "tok-"}))
    watching = prometheus(f'127.0.0.1:{moult.port}", "127.0.0.1:{free_port()}')

    def raised():
        answer = watching.get("alerts")
        return {alert["labels"]["alertname"] for alert in answer["alerts"]} if answer else set()

    wait_for("a first look", lambda: watching.finds("moult_ready == 1"))
    rules = watching.get("rules")["groups"][0]["rules"]
    assert len(rules) == len(alert_expressions())
    wait_for("each rule to be evaluated", lambda: all(
        rule["health"] == "ok" for rule in watching.get("rules")["groups"][0]["rules"]))
    wait_for("an alert of a moultd that is away", lambda: raised() == {"MoultDown"})
    moult.write_secret(secrets, "token", "bad")
    wait_for("an alert of what does not serve",
             lambda: raised() == {"MoultDown", "MoultModelStale"})
