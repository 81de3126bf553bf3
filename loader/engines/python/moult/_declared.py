# SPDX-License-Identifier: Apache-2.0
"""Tensors that a class tells itself, where the section leaves them out: rows of (name, datatype,
shape)."""
import re

from moult import _load, _tensors
from moult._load import CONFIG, Refusal

SPEC = re.compile(r"\s*(\S+)\s+(\w+)\s+\[([-\d\s,]*)\]\s*")
TYPES = {"TYPE_STRING": "BYTES"}


def parse(what, attribute, text):
    """A row of "image FP32 [-1,64]"."""
    found = SPEC.fullmatch(text)
    try:
        shape = tuple(int(dim) for dim in found[3].split(",")) if found[3].strip() else ()
    except (TypeError, ValueError):
        shape = None
    if shape is None or len(shape) > _tensors.RANK_MAX or \
            found[2] not in (*_tensors.FORMATS, "BF16", "BYTES"):
        raise Refusal(CONFIG, f"{what}: its attribute {attribute} has {text!r}, and must have "
                              f"texts as \"image FP32 [-1,64]\": mend it, or declare "
                              f"{attribute[:-1]}")
    return found[1], found[2], shape


def of_attribute(what, served, attribute):
    """Of a list of texts; an attribute of another kind is the class's own affair."""
    value = getattr(served, attribute, None)
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        return []
    return [parse(what, attribute, text) for text in value]


def of_attributes(what, served):
    return of_attribute(what, served, "inputs"), of_attribute(what, served, "outputs")


def of_triton(what, rows, is_batched):
    """From the form of Triton's configuration."""
    found = []
    for row in rows:
        name, kind, dims = row["name"], str(row["data_type"]), list(row["dims"])
        datatype = TYPES.get(kind, kind.replace("TYPE_", "", 1))
        shape = tuple([-1] * is_batched + dims)
        if datatype not in (*_tensors.FORMATS, "BF16", "BYTES") or \
                not all(isinstance(dim, int) and dim >= -1 for dim in shape) or \
                len(shape) > _tensors.RANK_MAX:
            raise Refusal(CONFIG, f"{what}: auto_complete_config() tells '{name}' as {kind} "
                                  f"{_tensors.show(dims)}, which no tensor is: mend it, or "
                                  f"declare input and output")
        found.append((name, datatype, shape))
    return found


def complete_triton(what, served, config, make):
    """What auto_complete_config() tells, if the class has that. @config: Triton's form of the
    section; @make: the class of the object that the method gets."""
    complete = getattr(served, "auto_complete_config", None)
    if not callable(complete):
        return [], []
    most = config["max_batch_size"]
    try:
        given = complete(make(config))
        told = (given if given is not None else make(config)).as_dict()
    except BaseException as error:
        _load.refuse(what, "auto_complete_config()", error)
    if 1 < most and told["max_batch_size"] < most:
        raise Refusal(CONFIG, f"max_batch: {most} is more than the {told['max_batch_size']} rows "
                              f"that auto_complete_config() allows: make it smaller, or leave it "
                              f"out")
    is_batched = told["max_batch_size"] > 0
    return of_triton(what, told["input"], is_batched), \
        of_triton(what, told["output"], is_batched)


# From an answer


def datatype_of_list(value):
    """Of nested lists, without numpy."""
    while isinstance(value, (list, tuple)):
        value = value[0] if value else 0.0
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, int):
        return "INT64"
    return "BYTES" if isinstance(value, (str, bytes, bytearray, memoryview)) else "FP64"


def rank_of_list(value):
    rank = 0
    while isinstance(value, (list, tuple)):
        rank += 1
        value = value[0] if value else None
    return rank


def of_value(name, value):
    """A row for an output, each dim of which another request may change."""
    if _tensors.numpy is None:
        if isinstance(value, memoryview):
            value = value.tolist()
        return name, datatype_of_list(value), (-1,) * rank_of_list(value)
    array = value if isinstance(value, _tensors.numpy.ndarray) else _tensors.numpy.asarray(value)
    if array.dtype.name == "bfloat16":
        return name, "BF16", (-1,) * array.ndim
    datatype = "BYTES" if array.dtype.kind in "OSU" else _tensors.name_of(array.dtype)
    return name, datatype, (-1,) * array.ndim


def of_answer(call, answer):
    found = []
    for name, value in answer.items():
        try:
            row = of_value(str(name), value)
        except Exception as error:
            raise Refusal(_load.MODEL, f"{call} returned an output {name!r} of "
                                       f"{type(value).__name__!r}, of which numpy makes no array "
                                       f"({error})") from None
        if row[1] not in (*_tensors.FORMATS, "BF16", "BYTES"):
            raise Refusal(_load.MODEL, f"{call} returned an output {name!r} of {row[1]}, which no "
                                       f"tensor can have: return it with .astype()")
        found.append(row)
    if not found:
        raise Refusal(_load.MODEL, f"{call} returned no output")
    return found
