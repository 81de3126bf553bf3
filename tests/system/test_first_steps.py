# SPDX-License-Identifier: Apache-2.0
"""What somebody meets first: moultd without a configuration, in a build tree and installed."""
import pathlib
import subprocess

import pytest

from harness import BUILD, echo_section, free_port, wait_for

CONF = pathlib.Path("/etc/moult/moult.conf")


def said(*command):
    """The lines on stderr of what has to fail."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and not result.stdout, result
    return result.stderr.splitlines()


@pytest.fixture
def unconfigured():
    if CONF.exists():
        pytest.skip(f"this machine has {CONF}")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    done = subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    elsewhere = [line for line in done.stdout.splitlines()
                 if ": /" in line and str(prefix) not in line]
    assert not elsewhere, elsewhere
    return prefix


def test_installed(installed, unconfigured):
    """The example that is named is there, and can be read by what named it, which finds the
    loader and the engines of this installation."""
    example = installed / "share" / "moult" / "moult.conf.example"
    reason, next_step = said(installed / "sbin" / "moultd")
    assert f"{CONF}: No such file" in reason
    assert f"an example is {example}: copy it" in next_step and "-c FILE" in next_step
    copy = installed / "moult.conf"
    copy.write_text(example.read_text().replace("/etc/moult/models.d", "models.d"))
    (installed / "models.d").mkdir()
    (installed / "models.d" / "echo.conf").write_text(echo_section())
    checked = subprocess.run([installed / "sbin" / "moultd", "-t", "-c", copy],
                             capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked
    assert "good, 1 models" in checked.stdout


def test_the_example_without_systemd(installed, tmp_path):
    """Its first lines say what a copy of it needs then, and it starts."""
    lines = (installed / "share" / "moult" / "moult.conf.example").read_text().splitlines()
    others = dict(line[2:].strip().split(" = ") for line in lines
                  if line.startswith("#   ") and " = " in line)
    others["listen"] = f"127.0.0.1:{free_port()}"
    others["user"] = "root"
    assert others.keys() == {"listen", "control", "state_dir", "models_dir", "user"}
    copy = tmp_path / "moult.conf"
    copy.write_text("\n".join(f"{key} = {others[key]}" if key in others else line
                              for line in lines for key in [line.split(" = ")[0]]) + "\n")
    (tmp_path / "models.d").mkdir()
    (tmp_path / "models.d" / "echo.conf").write_text(echo_section())
    checked = subprocess.run([installed / "sbin" / "moultd", "-t", "-c", copy],
                             capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and not checked.stderr, checked
    with open(tmp_path / "log", "wb") as log, subprocess.Popen(
            [installed / "sbin" / "moultd", "-c", copy], stderr=log) as moultd:
        try:
            wait_for("the start", lambda: "event=started models=1" in
                     (tmp_path / "log").read_text() or moultd.poll() is not None)
            assert moultd.poll() is None, (tmp_path / "log").read_text()
        finally:
            moultd.terminate()
    assert moultd.returncode == 0


def test_build_tree(unconfigured):
    """No example lies where an installed one would."""
    reason, next_step = said(BUILD / "moultd")
    assert f"{CONF}: No such file" in reason and "-c FILE" in next_step
    assert "example" not in next_step


def test_other_file(tmp_path):
    """Who names a file knows what that is."""
    (line,) = said(BUILD / "moultd", "-c", tmp_path / "moult.conf")
    assert "moult.conf: No such file" in line
