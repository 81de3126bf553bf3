# SPDX-License-Identifier: Apache-2.0
"""Bad input of every kind, under load: a clear error each, nothing lost, the old generation
serves on, and good input afterwards works."""
import gzip
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time

import pytest

from harness import (BUILD, DIGITS, Load, digits_section, echo_body, echo_section,
                     patience, wait_for)

GOOD = echo_section()

# name, the section file's text, what the sentence must say
CONFIGURATIONS = [
    ("no engine", "[model echo]\ninput = x FP32 [4]\noutput = x FP32 [4]\n", "engine"),
    ("a batch without input", "[model echo]\nengine = identity\noutput = x FP32 [4]\n"
     "max_batch = 4\n", "max_batch"),
    ("unknown key", GOOD + "max_bach = 3\n", "max_batch"),
    ("unknown section", "[modle echo]\n", "modle"),
    ("no section", "engine = identity\n", "section"),
    ("not a line", GOOD + "what is this\n", "key = value"),
    ("bad datatype", GOOD + "input = y FLOAT [4]\n", "FLOAT"),
    ("bad shape", GOOD + "input = y FP32 4\n", "shape"),
    ("negative dim", GOOD + "input = y FP32 [-2]\n", "shape"),
    ("bad number", GOOD + "threads = many\n", "threads"),
    ("out of range", GOOD + "threads = 0\n", "threads"),
    ("bad size", GOOD + "max_body = 3X\n", "max_body"),
    ("bad duration", GOOD + "drain_timeout = 5 parsecs\n", "drain_timeout"),
    ("bad strategy", GOOD + "strategy = hope\n", "strategy"),
    ("duplicate key", GOOD + "threads = 1\nthreads = 2\n", "threads"),
    ("leases no power of two", GOOD + "leases = 100\n", "leases"),
    ("body larger than arena", GOOD + "request_arena = 1M\nmax_body = 1M\n", "max_body"),
    ("duplicate tensor", GOOD + "input = x FP32 [-1,4]\n", "x"),
    ("bad model name", "[model a/b]\nengine = identity\n", "a/b"),
]


@pytest.mark.parametrize("text, says", [row[1:] for row in CONFIGURATIONS],
                         ids=[row[0] for row in CONFIGURATIONS])
def test_configuration_checker(tmp_path, text, says):
    """moultd -t names file and key and what is allowed."""
    (tmp_path / "models.d").mkdir()
    (tmp_path / "models.d" / "bad.conf").write_text(text)
    (tmp_path / "moult.conf").write_text("[supervisor]\nuser = root\nmodels_dir = models.d\n")
    result = subprocess.run([BUILD / "moultd", "-t", "-c", tmp_path / "moult.conf"],
                            capture_output=True, text=True, timeout=patience())
    assert result.returncode == 1
    assert "bad.conf" in result.stderr and says in result.stderr, result.stderr


def test_a_configuration_that_is_being_written(start):
    """Truncated, and not filled again yet: what serves is not to end by that."""
    moult = start(GOOD)
    text = moult.config.read_text()
    load = Load(moult.port)
    load.wait_more()
    moult.config.write_text("")
    wait_for("the refusal", lambda: "the file is empty" in (
        moult.status()["supervisor"]["config_error"] or ""))
    load.wait_more()
    moult.config.write_text(text)
    wait_for("the end of it", lambda: not moult.status()["supervisor"]["config_error"])
    load.stop_and_check()
    assert moult.status("echo")["generation"] == 1


def test_configurations_under_load(start):
    moult = start(GOOD)
    pid = moult.status("echo")["pid"]
    load = Load(moult.port)
    for name, text, says in CONFIGURATIONS:
        (moult.models / "0.conf").write_text(text)
        result = moult.reload("echo")
        assert result.returncode == 1, name
        assert "0.conf" in result.stderr and says in result.stderr, (name, result.stderr)
        assert moult.status("echo")["pid"] == pid, name
    (moult.models / "0.conf").write_text(GOOD)
    assert moult.reload("echo").returncode == 0
    load.wait_more()
    load.stop_and_check()


def spoil_empty(directory):
    (directory / "token").write_text("")


def spoil_large(directory):
    (directory / "token").write_text("x" * 70000)


def spoil_fifo(directory):
    (directory / "token").unlink()
    os.mkfifo(directory / "token")


def spoil_folder(directory):
    (directory / "token").unlink()
    (directory / "token").mkdir()


def spoil_writable(directory):
    (directory / "token").chmod(0o666)


def spoil_missing(directory):
    (directory / "token").unlink()


def spoil_name(directory):
    (directory / "to ken").write_text("x")


def spoil_link(directory):
    (directory / "other").symlink_to("nowhere")


SECRETS = [("empty", spoil_empty, "empty"), ("large", spoil_large, "larger"),
           ("fifo", spoil_fifo, "regular file"), ("folder", spoil_folder, "directory"),
           ("writable by all", spoil_writable, "everybody"),
           ("missing", spoil_missing, "no secret")]


def spoil_mount(directory):
    (directory / "lost+found").mkdir()


def spoil_backup(directory):
    (directory / "token~").write_text("old")


def spoil_items(directory):
    """As Kubernetes makes them of items with a path."""
    (directory / "sub").mkdir()
    (directory / "sub" / "password").write_text("x")


def spoil_other_empty(directory):
    (directory / "other").write_text("")


def spoil_other_writable(directory):
    (directory / "other").write_text("x")
    (directory / "other").chmod(0o666)


SKIPPED = [("odd name", spoil_name, "to ken (its name"),
           ("link to nowhere", spoil_link, "other (No such file"),
           ("a mount's own", spoil_mount, "lost+found (its name"),
           ("backup", spoil_backup, "token~ (its name"),
           ("item paths", spoil_items, "sub (a directory)"),
           ("empty", spoil_other_empty, "other (empty"),
           ("writable by all", spoil_other_writable, "other (can be written by everybody")]


def remake(directory, value):
    for entry in directory.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (directory / "token").write_text(value)


def test_secrets_under_load(start, tmp_path):
    """Unusable secrets never start a reload: the last good ones stay, and status says so."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    remake(secrets, "tok-0")
    moult = start(echo_section(secrets=secrets))
    load = Load(moult.port)
    pid = moult.status("echo")["pid"]
    for i, (name, spoil, says) in enumerate(SECRETS):
        spoil(secrets)
        stale = wait_for(name, lambda: moult.status("echo")["stale"])
        assert says in stale, (name, stale)
        assert moult.status("echo")["pid"] == pid, name
        remake(secrets, "tok-0")
        wait_for("fresh again", lambda: not moult.status("echo")["stale"])
    moult.write_secret(secrets, "token", "tok-1")
    moult.wait_receipt("echo", lambda r: r["cause"] == "secrets" and r["outcome"] == "ok")
    load.wait_more()
    load.stop_and_check()


def put_fifo(path):
    os.mkfifo(path)


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


FILES = [("empty", lambda path: path.touch(), "is empty"),
         ("a directory", lambda path: path.mkdir(), "not a regular file"),
         ("a FIFO", put_fifo, "not a regular file"),
         ("a socket", put_socket, "cannot open"),
         ("a device", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
         ("a file of /proc", lambda path: path.symlink_to("/proc/self/maps"), "is empty"),
         ("a loop", lambda path: path.symlink_to(path.name), "Too many levels"),
         ("gone", lambda path: None, "No such file")]


def outcomes(moult):
    return [receipt["outcome"] for receipt in moult.receipts("echo")]


def test_what_is_no_model_file(start, tmp_path):
    """Stale for as long as it lies there, also in the metric, and no reload is tried."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    moult = start(echo_section(path=path))
    pid = moult.status("echo")["pid"]
    for i, (what, put, says) in enumerate(FILES):
        path.rename(tmp_path / "aside")
        put(path)
        wait_for(what, lambda: says in (moult.status("echo")["stale"] or ""))
        lines = moult.log_text().count("event=input_stale")
        for _ in range(2):
            time.sleep(1.1)  # the poll looks again, and nothing must come of that
            assert says in (moult.status("echo")["stale"] or ""), what
            assert b'moult_stale{model="echo"} 1' in moult.get("/metrics")[1], what
        assert outcomes(moult) == ["ok"] + i * ["unchanged"], what
        assert moult.log_text().count("event=input_stale") == lines, what
        if what == "a directory":
            path.rmdir()
        elif what != "gone":
            path.unlink()
        (tmp_path / "aside").rename(path)
        wait_for("fresh again", lambda: not moult.status("echo")["stale"])
        # The file that is back is looked into; its look would meet the next one's fault.
        wait_for("the look", lambda: len(outcomes(moult)) == i + 2)
    assert moult.status("echo")["pid"] == pid


def test_what_is_no_secret_stops_no_other(start, tmp_path):
    """It is there at the first start, and when another one rotates; then it is required."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    remake(secrets, "tok-0")
    for _, spoil, _ in SKIPPED:
        if spoil not in (spoil_link, spoil_other_writable):
            spoil(secrets)
    moult = start(echo_section(secrets=secrets))
    for name, spoil, says in SKIPPED:
        before = moult.status("echo")
        remake(secrets, f"tok {name}")
        spoil(secrets)
        wait_for(name, lambda: moult.status("echo")["secrets_digest"] !=
                 before["secrets_digest"])
        assert says in wait_for(name, lambda: moult.status("echo")["secrets_skipped"])
        assert not moult.status("echo")["stale"]
    assert "event=secrets_skipped model=echo" in moult.log_text()
    (moult.models / "0.conf").write_text(echo_section(
        secrets=secrets, required_secrets="token, other"))
    result = moult.reload("echo")
    assert result.returncode == 1
    assert "secrets/other is required" in result.stderr and "chmod o-w" in result.stderr
    (secrets / "other").chmod(0o600)
    wait_for("what it asked for", lambda: not moult.status("echo")["stale"])
    remake(secrets, "tok-1")
    assert "secrets/other is required" in wait_for(
        "the refusal", lambda: moult.status("echo")["stale"])


def test_refused_secret_under_load(start, tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("tok-good")
    moult = start(echo_section(secrets=secrets, required_secrets="token",
                               **{"option.secret": "token", "option.secret_prefix": "tok-"}))
    load = Load(moult.port)
    serving = moult.status("echo")["generation"]
    moult.write_secret(secrets, "token", "bad-secret-value")
    receipt = moult.wait_receipt("echo", lambda r: r["outcome"] == "failed")
    assert "token" in receipt["reason"], receipt
    assert moult.status("echo")["generation"] == serving
    result = moult.reload("echo")
    assert result.returncode == 1 and "token" in result.stderr
    moult.write_secret(secrets, "token", "tok-better")
    moult.wait_receipt("echo", lambda r: r["outcome"] == "ok" and r["cause"] == "secrets")
    load.wait_more()
    load.stop_and_check()
    assert "bad-secret-value" not in moult.log_text()


GOOD_MODEL = (DIGITS / "digits.pt").read_bytes()
MODEL_FILES = [("random", os.urandom(5000)), ("truncated", GOOD_MODEL[:len(GOOD_MODEL) // 2]),
               ("text", b"not a model at all\n" * 100), ("empty", b""),
               ("spoiled", GOOD_MODEL[:200] + b"\0" * 400 + GOOD_MODEL[600:])]


def test_model_files_under_load(start, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(GOOD_MODEL)
    moult = start(digits_section(path=path), echo_section())
    load = Load(moult.port)
    body = (DIGITS / "heldout.jsonl").read_text().splitlines()[0]
    good = moult.infer("digits", body)[2].partition(b'"outputs"')[2]
    serving = moult.status("digits")["generation"]
    for name, content in MODEL_FILES:
        before = moult.status("digits")["receipts"]
        fresh = tmp_path / "model.new"
        fresh.write_bytes(content)
        os.rename(fresh, path)
        if content:
            receipt = moult.wait_receipt("digits", lambda r: r["number"] > before)
            assert receipt["outcome"] == "failed", (name, receipt)
            assert str(path) in receipt["reason"], (name, receipt)
        else:  # no loader is asked
            wait_for("stale", lambda: "is empty" in (moult.status("digits")["stale"] or ""))
            assert moult.status("digits")["receipts"] == before
        assert moult.status("digits")["generation"] == serving
        assert moult.infer("digits", body)[2].partition(b'"outputs"')[2] == good
    path.unlink()
    assert "model.pt" in wait_for("stale", lambda: moult.status("digits")["stale"])
    path.write_bytes(GOOD_MODEL)
    assert moult.reload("digits").returncode == 0
    load.wait_more()
    load.stop_and_check()


WRITE = """
import torch
model = torch.nn.Linear(64, 10)
torch.save(model.state_dict(), "weights.pt")
torch.save({"epoch": 3, "model": model.state_dict()}, "checkpoint.pt")
torch.save(model.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
torch.save(model, "module.pt")
torch.jit.script(model).save("good.pt")
"""
FORMATS = [("weights.pt", "a state_dict"), ("checkpoint.pt", "a state_dict"),
           ("old.pt", "before 1.6"), ("module.pt", "a pickled Python object"),
           ("cut.pt", "cut off"), ("m.onnx", "an ONNX model"),
           ("m.safetensors", "safetensors"), ("m.gguf", "a GGUF file")]


def test_what_other_people_call_a_model(start, tmp_path):
    """It is named, with what makes it right; the right file then serves."""
    try:
        subprocess.run([sys.executable, "-c", WRITE], cwd=tmp_path, check=True,
                       capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        if "No module named 'torch'" not in error.stderr:
            raise AssertionError(error.stderr) from error
        pytest.skip("PyTorch is not installed")
    good = (tmp_path / "good.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(good[:-30])
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07\x12\x07pytorch\x1a\x031.0:\x10" + b"x" * 99)
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", 8) + b'{"a":{}}')
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    moult = start(digits_section(tmp_path / "good.pt"))
    for name, says in FORMATS:
        (moult.models / "0.conf").write_text(digits_section(tmp_path / name))
        result = moult.reload("digits")
        assert result.returncode == 1 and says in result.stderr, (name, result.stderr)
        assert name in result.stderr
        assert "torch.jit" in result.stderr or name == "cut.pt", result.stderr
        print(result.stderr.strip())


def test_wrong_declaration(start):
    """What the configuration says of the model is checked against the model."""
    moult = start(digits_section())
    section = moult.models / "0.conf"
    for wrong in (digits_section().replace("[-1,10]", "[-1,11]"),
                  digits_section().replace("[-1,64]", "[-1,65]"),
                  digits_section().replace("scores FP32", "scores INT64"),
                  digits_section(device="cuda:0"),
                  digits_section(engine="nosuch")):
        section.write_text(wrong)
        result = moult.reload("digits")
        assert result.returncode == 1 and len(result.stderr) > 20, result.stderr
        print(result.stderr.strip())


def binary(header, data, length=None):
    return (header.encode() + data,
            {"Inference-Header-Content-Length": str(length or len(header))})


HEADER = ('{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32",'
          '"parameters":{"binary_data_size":%d}}]}')
REQUESTS = [
    ("no JSON", "{", None, 400, "JSON"),
    ("no object", "[]", None, 400, "JSON"),
    ("empty", "", None, 400, ""),
    ("no inputs", "{}", None, 400, "inputs"),
    ("inputs no list", '{"inputs":3}', None, 400, "inputs"),
    ("missing input", '{"inputs":[]}', None, 400, "missing"),
    ("unknown input", echo_body([1, 2, 3, 4]).replace('"x"', '"y"'), None, 400, "'y'"),
    ("twice", '{"inputs":[%s,%s]}' % ((echo_body([1, 2, 3, 4])[12:-2],) * 2), None, 400,
     "twice"),
    ("datatype", echo_body([1, 2, 3, 4]).replace("FP32", "INT8"), None, 400, "FP32"),
    ("shape", echo_body([1, 2, 3]), None, 400, "[-1,4]"),
    ("too few", echo_body([1, 2, 3, 4]).replace("[1, 2, 3, 4]", "[1, 2, 3]"), None, 400, "3"),
    ("too many", echo_body([1, 2, 3, 4]).replace("[1, 2, 3, 4]", "[1,2,3,4,5]"), None, 400,
     "more"),
    ("no number", echo_body([1, 2, 3, "a"]), None, 400, "number"),
    ("null", echo_body([1, 2, 3, None]), None, 400, "number"),
    ("negative dim", echo_body([1, 2, 3, 4]).replace("[1, 4]", "[-1, 4]"), None, 400, "dim"),
    ("huge dims", echo_body([1, 2, 3, 4]).replace("[1, 4]", "[9223372036854775807, 4]"), None,
     400, "elements"),
    ("deep", '{"inputs":' + "[" * 5000, None, 400, "JSON"),
    ("unknown output", echo_body([1, 2, 3, 4])[:-1] + ',"outputs":[{"name":"z"}]}', None, 400,
     "'z'"),
    ("binary short", *binary(HEADER % 16, b"\0" * 8), 400, "more than"),
    ("binary long", *binary(HEADER % 16, b"\0" * 20), 400, "additional"),
    ("binary size", *binary(HEADER % 12, b"\0" * 12), 400, "12 bytes"),
    ("header length", *binary(HEADER % 16, b"\0" * 16, 5000), 400, "5000"),
    ("header no number", "{}", {"Inference-Header-Content-Length": "x"}, 400, "number"),
    ("gzip broken", b"\x1f\x8b broken", {"Content-Encoding": "gzip"}, 400, "compressed"),
    ("gzip cut", gzip.compress(echo_body([1, 2, 3, 4]).encode())[:-9],
     {"Content-Encoding": "gzip"}, 400, "compressed"),
    ("gzip bomb", gzip.compress(b" " * 3_000_000), {"Content-Encoding": "gzip"}, 413,
     "max_body"),
    ("encoding", "{}", {"Content-Encoding": "br"}, 415, "gzip"),
    ("too large", "x" * 2_000_000, None, 413, "max_body"),
]


def test_requests_under_load(start):
    moult = start(echo_section(max_body="1M"))
    load = Load(moult.port)
    for name, body, headers, status, says in REQUESTS:
        got, head, answer = moult.infer("echo", body, headers)
        assert got == status, (name, got, answer)
        assert head["content-type"] == "application/json"
        assert says in answer.decode(), (name, answer)
    assert moult.infer("nosuch", "{}")[0] == 404
    assert moult.infer("echo/versions/9", "{}")[0] == 404
    assert moult.post("/v2/models/echo/versions/9/infer", "{}")[0] == 404
    assert moult.get("/v2/models/echo/infer")[0] == 405
    assert moult.post("/v2/models/echo", "{}")[0] == 405
    assert moult.get("/nowhere")[0] == 404
    load.wait_more()
    load.stop_and_check()


def test_both_lengths_are_refused(start):
    moult = start(echo_section())
    with socket.create_connection(("127.0.0.1", moult.port), 60) as client:
        client.sendall(b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
                       b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert b" 400 " in client.recv(4096)


def test_good_compression(start):
    import json
    import zlib
    moult = start(echo_section())
    body = echo_body([1.0, 2.5, -3.0, 4.0]).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)),
                             ("identity", body)):
        status, _, answer = moult.infer("echo", packed, {"Content-Encoding": encoding})
        assert status == 200, answer
        assert json.loads(answer)["outputs"][0]["data"] == [1.0, 2.5, -3.0, 4.0]
