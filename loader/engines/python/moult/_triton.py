# SPDX-License-Identifier: Apache-2.0
"""A TritonPythonModel: initialize(args), execute(requests), finalize()."""
import json
import os
import sys

from moult import _declared, _load, _tensors
from moult._async import settle
from moult._classes import Computes, describe_outputs
from moult._load import CONFIG, MODEL, Refusal

UTILS = "triton_python_backend_utils"
STRING = {"BYTES": "TYPE_STRING"}


def prepare():
    """Puts the module there that such a class imports."""
    if _tensors.numpy is None or UTILS in sys.modules:
        return
    from moult import _triton_utils
    sys.modules[UTILS] = _triton_utils


def make_tensors(specs, is_batched):
    # The first dim is the batch's, and Triton does not count it.
    return [{"name": spec.name, "data_type": STRING.get(spec.datatype, "TYPE_" + spec.datatype),
             "dims": list(spec.shape[1:] if is_batched else spec.shape)} for spec in specs]


class Triton(Computes):
    CALL, ARGUMENT = "execute", "requests"
    ENDS = ("finalize",)

    def check(self):
        super().check()
        if _tensors.numpy is None:
            raise Refusal(CONFIG, f"{self.what}: its class has execute(requests), as Triton's "
                                  f"have, and works with arrays of numpy: install numpy for "
                                  f"{sys.executable}")

    def load(self):
        self.is_text = False
        initialize = getattr(self.served, "initialize", None)
        if not callable(initialize):
            return
        arguments = self.make_arguments()
        try:
            settle(initialize(arguments))
        except BaseException as error:
            _load.refuse(self.what, "initialize()", error)

    def read_parameters(self):
        """As the file of Triton's repository has them, from option.parameters."""
        text = self.options.get("parameters", "{}")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Refusal(CONFIG, f"option.parameters is no JSON: {error}") from None
        if not isinstance(found, dict) or \
                not all(isinstance(value, str) for value in found.values()):
            raise Refusal(CONFIG, "option.parameters must be an object of texts, as in "
                                  "{\"threshold\": \"0.5\"}")
        return {name: {"string_value": value} for name, value in found.items()}

    def make_config(self):
        return {
            "name": self.name,
            "backend": "python",
            "max_batch_size": self.max_batch if self.is_batched else 0,
            "input": make_tensors(self.inputs, self.is_batched),
            "output": make_tensors(self.outputs, self.is_batched),
            "parameters": self.read_parameters(),
        }

    def tell(self):
        return _declared.complete_triton(self.what, self.served, self.make_config(),
                                         sys.modules[UTILS].ModelConfig)

    def make_arguments(self):
        is_gpu = self.device != "cpu"
        return {
            "model_config": json.dumps(self.make_config()),
            "model_name": self.name,
            "model_version": "1",
            "model_repository": os.getcwd(),
            "model_instance_name": f"{self.name}_0",
            "model_instance_kind": "GPU" if is_gpu else "CPU",
            "model_instance_device_id": self.device.partition(":")[2] if is_gpu else "0",
        }

    def ask(self, inputs):
        utils = sys.modules[UTILS]
        request = utils.InferenceRequest(
            inputs=[utils.Tensor(name, array) for name, array in inputs.items()],
            requested_output_names=[spec.name for spec in self.outputs], model_name=self.name)
        responses = settle(self.served.execute([request]))
        if not isinstance(responses, (list, tuple)) or len(responses) != 1 or \
                not hasattr(responses[0], "output_tensors"):
            got = f"a list of {len(responses)}" if isinstance(responses, (list, tuple)) \
                else describe_outputs(responses)
            raise Refusal(MODEL, f"execute returned {got} instead of a list of one "
                                 f"InferenceResponse for one request")
        response = responses[0]
        if response.has_error():
            error = response.error()
            code = error.code() if hasattr(error, "code") else None
            text = error.message() if hasattr(error, "message") else str(error)
            is_input = code == utils.TritonError.INVALID_ARG
            raise Refusal(_tensors.INPUT if is_input else MODEL,
                          text or "execute gave an error without a text")
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
