# SPDX-License-Identifier: Apache-2.0
"""Classes as Triton's Python backend has them, for test_python_model.c."""
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with twice its input, as its configuration says."""

    @staticmethod
    def auto_complete_config(config):
        raise RuntimeError("the section declares all there is")

    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert args["model_name"] == config["name"] == "m", args
        assert args["model_instance_kind"] == "CPU" and args["model_version"] == "1", args
        assert os.path.isfile(os.path.join(args["model_repository"], "triton.py")), args
        output = pb_utils.get_output_config_by_name(config, "x")
        assert pb_utils.get_output_config_by_name(config, "y") is None
        self.dims = pb_utils.get_input_config_by_name(config, "x")["dims"]
        self.is_batched = config["max_batch_size"] > 0
        assert not pb_utils.using_decoupled_model_transaction_policy(config)
        self.dtype = pb_utils.triton_string_to_numpy(output["data_type"])
        pb_utils.Logger.log_warn("initialized")

    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "x")
            x = tensor.as_numpy()
            assert list(x.shape) == tensor.shape() and tensor.is_cpu()
            assert x.shape[self.is_batched:][-1] == self.dims[-1], self.dims
            assert request.requested_output_names() == ["x"]
            assert pb_utils.triton_to_numpy_type(tensor.triton_dtype()) == x.dtype.type
            responses.append(self.answer(x))
        return responses

    def answer(self, x):
        out = pb_utils.Tensor("x", (x * 2).astype(self.dtype))
        response = pb_utils.InferenceResponse(output_tensors=[out])
        assert pb_utils.get_output_tensor_by_name(response, "x") is out
        return response

    def finalize(self):
        print("finalized")
        with open(os.environ["MARK"], "w", encoding="utf-8") as mark:
            mark.write("clean")


class Blames(TritonPythonModel):
    def answer(self, x):
        what = int(x[0][0])
        if what in (1, 2):
            error = pb_utils.TritonError(f"x is {what}", pb_utils.TritonError.INVALID_ARG) \
                if what == 1 else pb_utils.TritonError("x is 2")
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        if what == 3:
            raise pb_utils.TritonModelException("x is 3")
        if what == 4:
            return None
        if what == 5:
            return pb_utils.InferenceRequest(inputs=[], model_name="other").exec()
        return super().answer(x)


class Parameters(TritonPythonModel):
    def initialize(self, args):
        super().initialize(args)
        self.factor = float(json.loads(args["model_config"])["parameters"]["factor"]["string_value"])

    def answer(self, x):
        return pb_utils.InferenceResponse([pb_utils.Tensor("x", x * np.float32(self.factor))])


class Dlpack(TritonPythonModel):
    def answer(self, x):
        once = pb_utils.Tensor.from_dlpack("a", pb_utils.Tensor("a", x.copy()))
        again = pb_utils.Tensor.from_dlpack("a", pb_utils.Tensor("a", x.copy()).to_dlpack())
        out = pb_utils.Tensor("x", once.as_numpy() + again.as_numpy())
        return pb_utils.InferenceResponse(output_tensors=[out])


class Text:
    """BYTES are bytes, whatever the section says."""

    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x").as_numpy()
        encoded = pb_utils.serialize_byte_tensor(x)
        same = pb_utils.deserialize_bytes_tensor(encoded.item())
        assert same.tolist() == x.ravel().tolist()
        out = np.array([[b"<" + one + b">" for one in row] for row in x], dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("x", out)])]


class Unknown(TritonPythonModel):
    def initialize(self, args):
        pb_utils.NoSuchThing()


class Other(TritonPythonModel):
    def answer(self, x):
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
