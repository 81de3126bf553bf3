# SPDX-License-Identifier: Apache-2.0
"""tritonclient and KServe's REST client, unchanged, from the virtual environment that
./check makes. Skipped, and said so, where the package index could not be reached."""
import subprocess

import pytest

from harness import BUILD, echo_section, patience

PYTHON = BUILD.parent / "venv" / "bin" / "python"

TRITON = """
import sys
import numpy as np
import tritonclient.http as http
client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("echo")
meta = client.get_model_metadata("echo")
assert meta["inputs"][0]["shape"] == [-1, 4], meta
assert client.get_server_metadata()["name"] == "moult"
assert client.get_model_repository_index()[0]["name"] == "echo"
assert client.get_inference_statistics()["model_stats"]
assert client.get_model_config("echo")["name"] == "echo"
data = np.arange(8, dtype=np.float32).reshape(2, 4)
for binary_in in (True, False):
    for binary_out in (True, False):
        for compression in (None, "gzip", "deflate"):
            x = http.InferInput("x", [2, 4], "FP32")
            x.set_data_from_numpy(data, binary_data=binary_in)
            result = client.infer(
                "echo", [x], request_id="a request",
                outputs=[http.InferRequestedOutput("x", binary_data=binary_out)],
                request_compression_algorithm=compression,
                response_compression_algorithm=compression)
            assert (result.as_numpy("x") == data).all()
            assert result.get_response()["id"] == "a request"
x = http.InferInput("x", [2, 4], "FP32")
x.set_data_from_numpy(data)
assert (client.infer("echo", [x]).as_numpy("x") == data).all()
futures = [client.async_infer("echo", [x]) for _ in range(20)]
assert all((f.get_result().as_numpy("x") == data).all() for f in futures)
big = np.arange(4 * 20000, dtype=np.float32).reshape(20000, 4)
x = http.InferInput("x", [20000, 4], "FP32")
x.set_data_from_numpy(big, binary_data=False)
out = client.infer("echo", [x], outputs=[http.InferRequestedOutput("x", binary_data=False)],
                   response_compression_algorithm="gzip").as_numpy("x")
assert (out == big).all()
words = np.array([["one", "two words", "", "\\u00fcml\\u00e4ut"]], dtype=np.object_)
for binary in (True, False):
    s = http.InferInput("s", [1, 4], "BYTES")
    s.set_data_from_numpy(words, binary_data=binary)
    got = client.infer("text", [s], outputs=[
        http.InferRequestedOutput("s", binary_data=binary)]).as_numpy("s")
    assert [w.decode() if isinstance(w, bytes) else w for w in got.flatten()] == \\
        list(words.flatten()), got
try:
    client.infer("nosuch", [x])
except Exception as error:
    assert "nosuch" in str(error), error
else:
    raise SystemExit("no error for an unknown model")
print("tritonclient passes")
"""

KSERVE = """
import asyncio
import sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    url = f"http://127.0.0.1:{sys.argv[1]}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "echo")
    data = np.arange(8, dtype=np.float32).reshape(2, 4)
    for binary in (False, True):
        x = InferInput("x", [2, 4], "FP32")
        x.set_data_from_numpy(data, binary_data=binary)
        request = InferRequest("echo", [x], request_outputs=[
            RequestedOutput("x", parameters={"binary_data": binary})])
        answer = await client.infer(url, request, model_name="echo")
        assert (answer.outputs[0].as_numpy() == data).all(), answer
    try:
        x = InferInput("y", [2, 4], "FP32")
        x.set_data_from_numpy(data, binary_data=False)
        await client.infer(url, InferRequest("echo", [x]), model_name="echo")
    except Exception as error:
        assert "'y'" in str(error), error
    else:
        raise SystemExit("no error for an unknown input")

asyncio.run(main())
print("KServe's REST client passes")
"""


def text_section():
    return echo_section("text", input="s BYTES [-1,4]", output="s BYTES [-1,4]")


@pytest.mark.parametrize("name, program", [("tritonclient", TRITON), ("kserve", KSERVE)])
def test_client(start, name, program):
    found = PYTHON.exists() and subprocess.run(
        [PYTHON, "-c", f"import {name}"], capture_output=True, timeout=patience()).returncode == 0
    if not found:
        pytest.skip(f"{name} is not installed in {PYTHON.parent.parent.name}; see "
                    "tests/clients.sh")
    moult = start(echo_section(), text_section())
    result = subprocess.run([PYTHON, "-c", program, str(moult.port)], capture_output=True,
                            text=True, timeout=1500)
    assert result.returncode == 0, result.stderr[-3000:]
    print(result.stdout)
