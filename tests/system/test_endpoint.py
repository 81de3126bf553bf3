# SPDX-License-Identifier: Apache-2.0
"""Who can reach the endpoint: this machine alone, unless the operator says otherwise, and then
loudly."""
import signal
import subprocess

import pytest

from harness import BUILD, ROOT, echo_section, wait_for


def warnings(moult):
    return [line for line in moult.log_lines() if "event=endpoint_open" in line]


def status_text(moult):
    return subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"],
                          capture_output=True, text=True, timeout=120, check=True).stdout


def test_loopback_says_nothing(start):
    moult = start(echo_section())
    assert not warnings(moult)
    assert moult.status()["supervisor"]["http"]["open"] is None
    assert "open to everybody" not in status_text(moult)


@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]"])
def test_elsewhere_warns_once_at_every_start(start, listen):
    moult = start(echo_section(), listen=listen)
    assert len(warnings(moult)) == 1
    assert f"address={listen}:{moult.port} " in warnings(moult)[0]
    assert "may use every model" in moult.status()["supervisor"]["http"]["open"]
    assert len([line for line in status_text(moult).splitlines()
                if line.startswith("open to everybody: ")]) == 1
    moult.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: len(moult.receipts("echo")) == 2)
    assert len(warnings(moult)) == 1
    moult.stop()
    moult.launch()
    moult.wait_ready()
    assert len(warnings(moult)) == 1  # in the second run's log


def test_loopback_of_another_family_says_nothing(start):
    moult = start(echo_section(), listen="127.0.0.2", ready=False)
    wait_for("a start", lambda: "event=started" in moult.log_text())
    assert not warnings(moult)


def test_the_socket_unit_is_loopback():
    lines = (ROOT / "systemd" / "moultd.socket").read_text().splitlines()
    listens = [line.split("=", 1)[1] for line in lines if line.startswith("ListenStream=")]
    assert listens == ["127.0.0.1:8080"]
