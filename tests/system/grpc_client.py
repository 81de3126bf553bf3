# SPDX-License-Identifier: Apache-2.0
"""Clients of gRPC for test_grpc.py, run by the Python that has tritonclient.

usage: grpc_client.py PORT [--ca FILE] check | typed | errors | repository | limits | load N |
                      token TOKEN | slow SECONDS | cancel | cert | big BYTES
"""
import argparse
import collections
import json
import sys
import threading

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

EVERYTHING = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def channel_of(arguments):
    address = f"127.0.0.1:{arguments.port}"
    if arguments.ca:
        credentials = grpc.ssl_channel_credentials(open(arguments.ca, "rb").read())
        return grpc.secure_channel(f"localhost:{arguments.port}", credentials, EVERYTHING)
    return grpc.insecure_channel(address, EVERYTHING)


def stub_of(arguments):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel_of(arguments))


def request_of(model="echo", datatype="FP32", shape=(1, 4), raw=None, name="x", **contents):
    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(tensor.contents, field).extend(values)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


FOUR = np.arange(4, dtype=np.float32).tobytes()


def code_of(call, *arguments, **keys):
    try:
        call(*arguments, **keys)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def check(arguments):
    """tritonclient as its users write it."""
    if arguments.ca:
        client = triton.InferenceServerClient(f"localhost:{arguments.port}", ssl=True,
                                              root_certificates=arguments.ca)
    else:
        client = triton.InferenceServerClient(f"127.0.0.1:{arguments.port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("echo") and client.is_model_ready("echo", "1")
    meta = client.get_model_metadata("echo", as_json=True)
    assert meta["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}, meta
    assert client.get_server_metadata().name == "moult"
    index = client.get_model_repository_index(as_json=True)["models"]
    assert {row["name"]: row["state"] for row in index} == {"echo": "READY", "text": "READY"}
    data = np.arange(8, dtype=np.float32).reshape(2, 4)
    x = triton.InferInput("x", [2, 4], "FP32")
    x.set_data_from_numpy(data)
    for outputs in (None, [triton.InferRequestedOutput("x")]):
        result = client.infer("echo", [x], outputs=outputs, request_id="a \"request\"",
                              priority=3, timeout=50_000_000, parameters={"mine": "yes"})
        assert (result.as_numpy("x") == data).all()
        response = result.get_response()
        assert (response.model_name, response.model_version) == ("echo", "1"), response
        assert response.id == 'a "request"'
        assert response.parameters["generation"].int64_param > 0
    words = np.array([["one", "two words", "", "\u00fcml\u00e4ut"]], dtype=np.object_)
    s = triton.InferInput("s", [1, 4], "BYTES")
    s.set_data_from_numpy(words)
    got = client.infer("text", [s]).as_numpy("s")
    assert [w.decode() for w in got.flatten()] == list(words.flatten()), got
    empty = triton.InferInput("x", [0, 4], "FP32")
    empty.set_data_from_numpy(np.zeros([0, 4], dtype=np.float32))
    done = threading.Semaphore(0)
    answers = []

    def on_answer(result, error):
        answers.append(error is None and (result.as_numpy("x") == data).all())
        done.release()
    for _ in range(64):
        client.async_infer("echo", [x], on_answer)
    for _ in range(64):
        assert done.acquire(timeout=60)
    assert all(answers)
    big = np.random.default_rng(1).random([250_000, 4], dtype=np.float32)
    x = triton.InferInput("x", big.shape, "FP32")
    x.set_data_from_numpy(big)
    assert (client.infer("echo", [x]).as_numpy("x") == big).all()


def typed(arguments):
    """Contents in fields of their own, which are answered raw."""
    stub = stub_of(arguments)
    values = [1.5, -2.0, 0.0, 3.25]
    answer = stub.ModelInfer(request_of(fp32_contents=values))
    assert answer.raw_output_contents[0] == np.array(values, dtype=np.float32).tobytes()
    assert answer.outputs[0].shape == [1, 4] and answer.outputs[0].datatype == "FP32"
    answer = stub.ModelInfer(request_of("text", "BYTES", name="s",
                                        bytes_contents=[b"a", b"", b"\xff", b"four"]))
    assert answer.raw_output_contents[0] == \
        b"\1\0\0\0a\0\0\0\0\1\0\0\0\xff\4\0\0\0four", answer.raw_output_contents
    for datatype, field, kind in (("BOOL", "bool_contents", "bool"), ("INT8", "int_contents", "i1"),
                                  ("INT16", "int_contents", "i2"), ("INT32", "int_contents", "i4"),
                                  ("INT64", "int64_contents", "i8"),
                                  ("UINT8", "uint_contents", "u1"),
                                  ("UINT64", "uint64_contents", "u8"),
                                  ("FP64", "fp64_contents", "f8")):
        values = np.array([1, 0, 1, 100], dtype=kind)
        answer = stub.ModelInfer(request_of(datatype.lower(), datatype, **{field: values.tolist()}))
        assert answer.raw_output_contents[0] == values.tobytes(), datatype
    code, why = code_of(stub.ModelInfer, request_of("int8", "INT8", int_contents=[1, 2, 3, 128]))
    assert code == "INVALID_ARGUMENT" and "int_contents" in why, why
    code, why = code_of(stub.ModelInfer, request_of("fp32", "FP32", raw=FOUR,
                                                    fp32_contents=[1, 2, 3, 4]))
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND"), why


def errors(arguments):
    stub = stub_of(arguments)
    other = request_of(raw=FOUR)
    other.model_version = "9"
    shifted = request_of(raw=FOUR)
    shifted.raw_input_contents.append(b"")
    unnamed = request_of("", raw=FOUR)
    parameter = request_of(raw=FOUR)
    parameter.parameters["p"].double_param = float("nan")
    tensor = request_of(raw=FOUR)
    tensor.inputs[0].datatype = "FLOAT"
    rows = [
        (request_of("nosuch", raw=FOUR), "NOT_FOUND", "there is no model 'nosuch'"),
        (request_of("n" * 300, raw=FOUR), "NOT_FOUND", "of such a name"),
        (other, "NOT_FOUND", "has version '1', not '9'"),
        (request_of(raw=FOUR[:8]), "INVALID_ARGUMENT", "x"),
        (request_of(name="y", raw=FOUR), "INVALID_ARGUMENT", "y"),
        (request_of(shape=(1, 5), raw=FOUR), "INVALID_ARGUMENT", "x"),
        (request_of(shape=(-1, 4), raw=FOUR), "INVALID_ARGUMENT", "x"),
        (shifted, "INVALID_ARGUMENT", "1 inputs and 2 raw_input_contents"),
        (unnamed, "INVALID_ARGUMENT", "model_name is missing"),
        (parameter, "INVALID_ARGUMENT", "finite"),
        (tensor, "INVALID_ARGUMENT", "datatype 'FLOAT'"),
        (pb.ModelInferRequest(model_name="echo"), "INVALID_ARGUMENT", "x"),
    ]
    for request, want, part in rows:
        code, why = code_of(stub.ModelInfer, request)
        assert code == want and part in why, (want, part, code, why)
    for call, request, want in (
            (stub.ModelConfig, pb.ModelConfigRequest(name="echo"), "UNIMPLEMENTED"),
            (stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="nosuch"),
             "NOT_FOUND"),
            (stub.ModelReady, pb.ModelReadyRequest(name="nosuch"), "NOT_FOUND"),
            (stub.ModelMetadata, pb.ModelMetadataRequest(name="nosuch"), "NOT_FOUND")):
        assert code_of(call, request)[0] == want
    code, why = code_of(stub.ModelInfer, request_of(raw=FOUR), compression=grpc.Compression.Gzip)
    assert code == "UNIMPLEMENTED" and "gzip" in why, (code, why)
    check_health = channel_of(arguments).unary_unary("/grpc.health.v1.Health/Check")
    assert check_health(b"") == b"\x08\1"
    assert check_health(b"\x0a\x1e" + b"inference.GRPCInferenceService") == b"\x08\1"
    assert code_of(check_health, b"\x0a\1x")[0] == "NOT_FOUND"
    assert code_of(check_health, b"\x0a\5x")[0] == "INVALID_ARGUMENT"
    # What serves is not disturbed by any of that.
    assert stub.ModelInfer(request_of(raw=FOUR)).raw_output_contents[0] == FOUR


def repository(arguments):
    """A model that is unloaded, and loaded again; and anew while it serves."""
    client = triton.InferenceServerClient(f"127.0.0.1:{arguments.port}")
    stub = stub_of(arguments)

    def states():
        return {model.name: model.state for model in client.get_model_repository_index().models}
    assert states() == {"echo": "READY"}
    client.unload_model("echo")
    assert states() == {"echo": "UNAVAILABLE"}
    for call, request in ((stub.ModelInfer, request_of(raw=FOUR)),
                          (stub.ModelReady, pb.ModelReadyRequest(name="echo"))):
        code, why = code_of(call, request)
        assert code == "NOT_FOUND" and "is not loaded" in why, (code, why)
    for _ in range(2):
        client.load_model("echo")
        assert states() == {"echo": "READY"} and client.is_model_ready("echo")
        assert code_of(stub.ModelInfer, request_of(raw=FOUR))[0] == "OK"
    load = pb.RepositoryModelLoadRequest(model_name="echo")
    load.parameters["config"].string_param = "{}"
    code, why = code_of(stub.RepositoryModelLoad, load)
    assert code == "INVALID_ARGUMENT" and "change the files" in why, (code, why)


def limits(arguments):
    stub = stub_of(arguments)
    code, why = code_of(stub.ModelInfer, request_of(shape=(8192, 4), raw=bytes(131072)))
    assert code == "RESOURCE_EXHAUSTED" and "max_body" in why, (code, why)
    code, why = code_of(stub.ModelInfer, request_of(raw=FOUR), metadata=[("a", "b" * 9000)])
    assert code == "RESOURCE_EXHAUSTED", (code, why)
    many = request_of(raw=FOUR)
    for i in range(4000):
        many.parameters[f"parameter {i}"].string_param = "value"
    code, why = code_of(stub.ModelInfer, many)
    assert code == "RESOURCE_EXHAUSTED", (code, why)
    assert stub.ModelInfer(request_of(raw=FOUR)).raw_output_contents[0] == FOUR


def slow(arguments):
    code, why = code_of(stub_of(arguments).ModelInfer, request_of(raw=FOUR),
                        timeout=float(arguments.more[0]))
    print(json.dumps([code, why]))


def cancel(arguments):
    """Leaves when a line comes."""
    call = stub_of(arguments).ModelInfer.future(request_of(raw=FOUR))
    sys.stdin.readline()
    call.cancel()
    assert call.cancelled()
    print("cancelled", flush=True)
    sys.stdin.readline()


def token(arguments):
    stub = stub_of(arguments)
    metadata = [("authorization", "Bearer " + arguments.more[0])] if arguments.more else []
    print(json.dumps([code_of(stub.ModelInfer, request_of(raw=FOUR), metadata=metadata),
                      code_of(stub.ModelMetadata, pb.ModelMetadataRequest(name="echo"),
                              metadata=metadata),
                      code_of(stub.ServerLive, pb.ServerLiveRequest(), metadata=metadata)]))


def load(arguments):
    """So many calls at once on one connection, until standard input ends; what became of them."""
    stub = stub_of(arguments)
    end = threading.Event()
    codes = collections.Counter()
    whys = collections.Counter()
    lock = threading.Lock()

    def ask(i):
        value = np.full(4, i, dtype=np.float32).tobytes()
        request = request_of(raw=value)
        n = 0
        while not end.is_set():
            try:
                answer = stub.ModelInfer(request, timeout=600)
                code = "OK" if answer.raw_output_contents[0] == value else "WRONG"
            except grpc.RpcError as error:
                code = error.code().name
                whys[error.details()] += 1
                if code == "UNAVAILABLE":
                    break
            n += 1
            with lock:
                codes[code] += 1
            if n == 1:
                ready.release()

    ready = threading.Semaphore(0)
    threads = [threading.Thread(target=ask, args=[i]) for i in range(int(arguments.more[0]))]
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    print("all have been answered", flush=True)
    sys.stdin.read()
    end.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"codes": codes, "whys": whys}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--ca")
    parser.add_argument("what", choices=["check", "typed", "errors", "repository", "limits", "load",
                                         "token", "slow", "cancel"])
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
