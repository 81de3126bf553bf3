# SPDX-License-Identifier: Apache-2.0
"""An engine outside the tree, built and installed with the commands of its README against what
`cmake --install` has installed."""
import json
import os
import re
import subprocess

import pytest

from harness import BUILD, ROOT, wait_for  # noqa: F401

EXAMPLE = ROOT / "examples" / "engine"


@pytest.fixture
def prefix(tmp_path):
    """Where moult is installed, and a pkg-config that knows."""
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True,
                   env={**os.environ, "DESTDIR": ""}, stdout=subprocess.DEVNULL)
    folder = next(prefix.rglob("moult-engine.pc")).parent
    wrapper = tmp_path / "bin" / "pkg-config"
    wrapper.parent.mkdir()
    wrapper.write_text(f"#!/bin/sh\nPKG_CONFIG_PATH={folder} exec /usr/bin/pkg-config \"$@\"\n")
    wrapper.chmod(0o755)
    return prefix


def commands():
    text = (EXAMPLE / "README.md").read_text()
    return [line.strip() for line in re.findall(r"^    (?:cc|install) .*$", text, re.M)]


def build(tmp_path, source):
    """The engine, with the README's commands."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "scale.c").write_text(source)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    for command in commands():
        subprocess.run(command, shell=True, check=True, cwd=folder,
                       env={**os.environ, "PATH": path, "CFLAGS": ""})


def section(by="3", **keys):
    lines = {"engine": "scale", "option.by": by, **keys}
    return "[model triple]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


def engines(prefix):
    return next(prefix.rglob("moult-engine-scale.so")).parent


BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[1,2,3.5]}]}'


@pytest.mark.parametrize("keys, output", [
    ({}, "y"), ({"input": "x FP32 [-1]"}, "y"),
    ({"input": "x FP32 [-1]", "output": "z FP32 [-1]"}, "z")])
def test_it_serves(start, tmp_path, prefix, keys, output):
    """With tensors that it tells itself, and with those of the section."""
    build(tmp_path, (EXAMPLE / "scale.c").read_text())
    moult = start(section(**keys), supervisor=f"engine_dir = {engines(prefix)}\n")
    status, _, body = moult.infer("triple", BODY)
    assert status == 200 and b'"data":[3.0,6.0,10.5]' in body, body
    tensor = {"datatype": "FP32", "shape": [-1]}
    told = json.loads(moult.get("/v2/models/triple")[1])
    assert told["inputs"] == [{"name": "x", **tensor}], told
    assert told["outputs"] == [{"name": output, **tensor}], told


def test_what_is_installed_names_its_prefix(prefix):
    """The unit and pkg-config's file, though the build was configured for another prefix."""
    unit = next(prefix.rglob("moultd.service")).read_text()
    assert f"ExecStart={prefix}/sbin/moultd -c /etc/moult/moult.conf\n" in unit, unit
    assert f"ExecReload={prefix}/bin/moultctl " in unit, unit
    assert f"{prefix}/share/moult/" in next(prefix.rglob("tmpfiles.d/moult.conf")).read_text()


def test_its_options_are_checked_ahead(tmp_path, prefix):
    """moultd -t reads them out of its file, as it does with moult's own engines."""
    build(tmp_path, (EXAMPLE / "scale.c").read_text())
    config = tmp_path / "moult.conf"
    config.write_text(f"[supervisor]\nuser = root\nengine_dir = {engines(prefix)}\n" +
                      section().replace("option.by", "option.bye"))
    said = subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                          check=False)
    assert said.returncode != 0 and "no option 'bye': did you mean by?" in said.stderr, said


def test_another_interface_is_refused(start, tmp_path, prefix):
    source = (EXAMPLE / "scale.c").read_text()
    build(tmp_path, source.replace(".abi = ENGINE_ABI", ".abi = ENGINE_ABI + 1"))
    moult = start(section(), supervisor=f"engine_dir = {engines(prefix)}\n", ready=False)
    receipt = wait_for("a refusal", lambda: moult.receipts("triple"))[0]
    assert "was built for interface" in receipt["reason"], receipt
