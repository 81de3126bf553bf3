# SPDX-License-Identifier: Apache-2.0
"""What a TritonPythonModel imports as triton_python_backend_utils: moult-python(7)."""
import enum
import struct

import numpy

from moult import _lane

LEVELS = {"ERROR": 3, "WARNING": 4, "INFO": 5, "VERBOSE": 7}  # those of the loader's log
NUMPY = {"TYPE_BOOL": numpy.bool_, "TYPE_UINT8": numpy.uint8, "TYPE_UINT16": numpy.uint16,
         "TYPE_UINT32": numpy.uint32, "TYPE_UINT64": numpy.uint64, "TYPE_INT8": numpy.int8,
         "TYPE_INT16": numpy.int16, "TYPE_INT32": numpy.int32, "TYPE_INT64": numpy.int64,
         "TYPE_FP16": numpy.float16, "TYPE_FP32": numpy.float32, "TYPE_FP64": numpy.float64,
         "TYPE_STRING": numpy.object_}
NUMBERS = dict(enumerate(NUMPY.values(), 1))


def __getattr__(name):
    raise AttributeError(f"moult's triton_python_backend_utils has no {name!r}")


class TritonModelException(Exception):
    """What a model raises."""
    __module__ = "triton_python_backend_utils"


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, \
        CANCELLED = range(8)

    def __init__(self, message="", code=INTERNAL):
        self._message = message
        self._code = code

    def message(self):
        return self._message

    def code(self):
        return self._code

    def __str__(self):
        return str(self._message)


class Tensor:
    def __init__(self, name, array):
        if not isinstance(array, numpy.ndarray):
            raise TritonModelException(f"tensor '{name}' is made of {type(array).__name__!r}: "
                                       f"give an array of numpy")
        self._name = name
        self._array = array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array

    def shape(self):
        return list(self._array.shape)

    def triton_dtype(self):
        return numpy_to_triton_type(self._array.dtype.type)

    def is_cpu(self):
        return True

    def to_dlpack(self):
        return self._array.__dlpack__()

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    @classmethod
    def from_dlpack(cls, name, value):
        """A tensor in the host's memory: one of torch is taken as it is or as its capsule."""
        if not hasattr(value, "__dlpack__"):
            value = _Capsule(value)
        elif value.__dlpack_device__()[0] != 1:
            raise TritonModelException(f"tensor '{name}' lies on a device: give its .cpu()")
        return cls(name, numpy.from_dlpack(value))


class _Capsule:
    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack__(self, **arguments):
        return self._capsule

    def __dlpack_device__(self):
        return 1, 0


class InferenceRequest:
    """All that moult computes at once: the rows of several clients' requests, perhaps."""

    def __init__(self, inputs=(), requested_output_names=(), request_id="", correlation_id=0,
                 model_name="", model_version=-1, **_):
        self._inputs = list(inputs)
        self._names = list(requested_output_names)
        self._request_id = request_id
        self._correlation_id = correlation_id
        self.model_name = model_name
        self.model_version = model_version

    def inputs(self):
        return self._inputs

    def requested_output_names(self):
        return self._names

    def request_id(self):
        return self._request_id

    def correlation_id(self):
        return self._correlation_id

    def flags(self):
        return 0

    def timeout(self):
        return 0

    def priority(self):
        return 0

    def parameters(self):
        return "{}"

    def is_cancelled(self):
        return False

    def exec(self, *_, **__):
        raise TritonModelException("a model cannot ask another one here (BLS): moult hosts each "
                                   "in a process of its own, ask it over HTTP")

    async_exec = exec

    def get_response_sender(self):
        raise TritonModelException("a model answers each request once here, and not in parts "
                                   "(decoupled)")


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None, parameters=""):
        self._tensors = list(output_tensors or ())
        self._error = error
        self._parameters = parameters

    def output_tensors(self):
        return self._tensors

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error

    def parameters(self):
        return self._parameters


class LogLevel(enum.Enum):
    ERROR, WARNING, INFO, VERBOSE = LEVELS


class Logger:
    """Writes to the loader's log."""
    @staticmethod
    def log(message, level=LogLevel.INFO):
        _lane.log(LEVELS[level.name], "model", str(message))

    @staticmethod
    def log_info(message):
        Logger.log(message, LogLevel.INFO)

    @staticmethod
    def log_warn(message):
        Logger.log(message, LogLevel.WARNING)

    @staticmethod
    def log_error(message):
        Logger.log(message, LogLevel.ERROR)

    @staticmethod
    def log_verbose(message):
        Logger.log(message, LogLevel.VERBOSE)


def _find(tensors, name):
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_tensor_by_name(inference_request, name):
    return _find(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response, name):
    return _find(inference_response.output_tensors(), name)


def _find_config(model_config, key, name):
    return next((row for row in model_config.get(key, ()) if row["name"] == name), None)


def get_input_config_by_name(model_config, name):
    return _find_config(model_config, "input", name)


def get_output_config_by_name(model_config, name):
    return _find_config(model_config, "output", name)


class ModelConfig:
    """What auto_complete_config() gets and gives."""

    def __init__(self, config):
        self._config = config

    def as_dict(self):
        return self._config

    def set_max_batch_size(self, max_batch_size):
        self._config["max_batch_size"] = int(max_batch_size)

    def set_dynamic_batching(self):
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy):
        if transaction_policy.get("decoupled"):
            raise ValueError("moult answers each request once: a decoupled model cannot be served")

    def add_input(self, input):
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output):
        self._add("output", output, ("name", "data_type", "dims"))

    def _add(self, key, tensor, known):
        unknown = [name for name in tensor if name not in known]
        missing = [name for name in ("name", "data_type", "dims") if name not in tensor]
        if unknown or missing:
            raise ValueError(f"{key} {tensor!r} has {unknown or missing} "
                             f"{'too much' if unknown else 'too little'}")
        there = _find_config(self._config, key, tensor["name"])
        if there is None:
            self._config[key].append(dict(tensor))
        elif (there["data_type"], list(there["dims"])) != \
                (tensor["data_type"], list(tensor["dims"])):
            raise ValueError(f"{key} '{tensor['name']}' is {there['data_type']} {there['dims']} "
                             f"already")


def using_decoupled_model_transaction_policy(model_config):
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled"))


def triton_string_to_numpy(triton_type_string):
    return NUMPY[triton_type_string]


def triton_to_numpy_type(data_type):
    return NUMBERS[data_type]


def numpy_to_triton_type(data_type):
    kind = numpy.dtype(data_type)
    for number, one in NUMBERS.items():
        if numpy.dtype(one) == kind:
            return number
    if kind.kind in "SU":
        return len(NUMBERS)
    raise TritonModelException(f"there is no datatype for numpy's {kind}")


def serialize_byte_tensor(array):
    """Elements of BYTES, each behind its length, as an array of bytes."""
    if array.size == 0:
        return numpy.empty(0, numpy.object_)
    parts = []
    for element in array.ravel():
        element = element if isinstance(element, bytes) else str(element).encode()
        parts.append(struct.pack("<I", len(element)) + element)
    return numpy.array(b"".join(parts), dtype=numpy.object_)


def deserialize_bytes_tensor(encoded):
    elements, at = [], 0
    while at < len(encoded):
        size, = struct.unpack_from("<I", encoded, at)
        elements.append(bytes(encoded[at + 4:at + 4 + size]))
        at += 4 + size
    return numpy.array(elements, dtype=numpy.object_)
