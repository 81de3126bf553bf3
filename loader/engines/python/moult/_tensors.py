# SPDX-License-Identifier: Apache-2.0
"""Tensors of the engine, which are (shape, data), to what a class takes and gives: arrays of numpy,
or nested lists in an interpreter that has no numpy."""
import struct

from moult._load import MODEL, Refusal, is_missing, refuse

INPUT = 4
RANK_MAX = 8
# A larger output is not copied.
COPY_BYTES = 16384
FORMATS = {"BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b",
           "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}
# What numpy calls them; BF16 comes as FP32, which has all of its values.
CODES = {"BOOL": "?", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1",
         "INT16": "i2", "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
         "BF16": "f4"}

numpy = None
dtypes = {}


def prepare():
    """Imports numpy, if the interpreter has it."""
    global numpy
    try:
        import numpy
    except BaseException as error:
        if not is_missing(error, "numpy"):
            refuse("numpy", "importing it", error, "install it anew for this interpreter")
        return
    dtypes.update((name, numpy.dtype("<" + code)) for name, code in CODES.items())
    dtypes["BYTES"] = numpy.dtype(object)


class Spec:
    """A tensor as the section declares it."""

    def __init__(self, name, datatype, shape):
        self.name = name
        self.datatype = datatype
        self.shape = shape
        self.dtype = dtypes.get(datatype)

    def __str__(self):
        return f"{self.datatype} {show(self.shape)}"


def show(shape):
    return f"[{','.join(map(str, shape))}]"


def count_of(shape):
    count = 1
    for dim in shape:
        count *= dim
    return count


def nest(flat, shape):
    """Nested lists of @shape."""
    if not shape:
        return flat[0]
    for dim in reversed(shape[1:]):
        rows = len(flat) // dim if dim else count_of(shape[:-1])
        flat = [flat[i * dim:(i + 1) * dim] for i in range(rows)]
    return flat


# From the engine


def split(data, count):
    """The elements of BYTES: a length and as many bytes each."""
    elements, at = [], 0
    for _ in range(count):
        size, = struct.unpack_from("<I", data, at)
        elements.append(bytes(data[at + 4:at + 4 + size]))
        at += 4 + size
    return elements


def decode(spec, elements):
    texts = []
    for i, element in enumerate(elements):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError:
            raise Refusal(INPUT, f"input '{spec.name}': element {i} is no text of UTF-8, which "
                                 f"this model takes; its owner can set option.bytes_as = bytes"
                          ) from None
    return texts


def read(spec, shape, data, is_text):
    """What a class gets."""
    if spec.datatype == "BYTES":
        elements = split(data, count_of(shape))
        if is_text:
            elements = decode(spec, elements)
        if numpy is None:
            return nest(elements, shape)
        array = numpy.empty(len(elements), object)
        array[:] = elements
        return array.reshape(shape)
    if spec.datatype == "BF16":
        return read_short(spec, shape, data)
    if numpy is None:
        return nest(unpack(FORMATS[spec.datatype], data), shape)
    return numpy.ndarray(shape, spec.dtype, data)


def unpack(code, data):
    return [value for value, in struct.iter_unpack("<" + code, data)]


def read_short(spec, shape, data):
    """BF16: the upper half of FP32."""
    if numpy is not None:
        return (numpy.ndarray(shape, "<u2", data).astype("<u4") << 16).view(spec.dtype)
    wide = b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2))
    return nest(unpack("f", wide), shape)


# To the engine


def wrong(spec, what, remedy="return what is declared, or declare what is returned"):
    raise Refusal(MODEL, f"output '{spec.name}' is {what}, and the configuration declares {spec}: "
                         f"{remedy}")


def name_of(dtype):
    for name, one in dtypes.items():
        if name != "BF16" and (one.kind, one.itemsize) == (dtype.kind, dtype.itemsize):
            return name
    return str(dtype)


def join(spec, elements):
    parts = []
    for element in elements:
        if isinstance(element, str):
            element = element.encode()
        elif not isinstance(element, (bytes, bytearray, memoryview)):
            wrong(spec, f"a tensor with {type(element).__name__!r} in it",
                  "return str or bytes")
        parts += (struct.pack("<I", len(element)), element)
    return b"".join(parts)


def flatten(spec, value, shape):
    """The elements of nested lists, whose shape is appended to @shape."""
    flat, is_row = [value], True
    while is_row:
        rows = [row for row in flat if isinstance(row, (list, tuple))]
        is_row = bool(rows)
        if not is_row:
            break
        if len(rows) < len(flat) or len({len(row) for row in rows}) > 1:
            wrong(spec, "a nested list whose rows differ in length")
        shape.append(len(rows[0]))
        flat = [element for row in rows for element in row]
    return flat


def pack(spec, flat):
    """Numbers without numpy."""
    code = FORMATS.get(spec.datatype, "f")
    try:
        data = struct.pack(f"<{len(flat)}{code}", *flat)
    except (struct.error, OverflowError) as error:
        kinds = ", ".join(sorted({type(element).__name__ for element in flat}))
        wrong(spec, f"a list of {kinds} ({error})")
    if spec.datatype != "BF16":
        return data
    return b"".join(shorten(*struct.unpack_from("<I", data, i)) for i in range(0, len(data), 4))


def shorten(bits):
    if bits & 0x7fffffff > 0x7f800000:
        return struct.pack("<H", (bits >> 16) | 0x40)  # not a number stays that
    return struct.pack("<H", (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 & 0xffff)


def write(spec, value):
    """(shape, data) of what a class gave for @spec."""
    if value is None:
        wrong(spec, "None")
    shape, data = write_array(spec, to_array(spec, value)) if numpy is not None \
        else write_list(spec, value)
    if len(shape) > RANK_MAX:
        wrong(spec, f"a tensor of {len(shape)} dims")
    return shape, data


def write_list(spec, value):
    if isinstance(value, memoryview):
        value = value.tolist()
    shape = []
    flat = flatten(spec, value, shape)
    if shape and not flat:
        shape += spec.shape[len(shape):]  # nothing tells the dims behind an empty one
        shape = [max(dim, 0) for dim in shape]
    return tuple(shape), join(spec, flat) if spec.datatype == "BYTES" else pack(spec, flat)


def to_array(spec, value):
    if isinstance(value, numpy.ndarray):
        return value
    if isinstance(value, (bool, int, float, list, tuple, str, bytes)):
        return convert(spec, value)
    try:
        return numpy.asarray(value)
    except Exception as error:
        wrong(spec, f"{type(value).__name__!r}, of which numpy makes no array ({error})")


def convert(spec, value):
    """Lists of Python's numbers have no datatype of their own: the declared one, if it holds
    them."""
    try:
        if spec.datatype == "BYTES":
            return numpy.array(value, object)
        array = numpy.array(value)
        kinds = array.dtype.kind, spec.dtype.kind
        if array.size == 0:
            return array.astype(spec.dtype)
        if kinds[0] not in "biuf" or kinds[0] == "f" != kinds[1] or \
                (kinds[1] == "b") != (kinds[0] == "b"):
            wrong(spec, f"a list of {array.dtype.name}")
        with numpy.errstate(all="ignore"):
            copy = array.astype(spec.dtype)
        if kinds[1] in "iu" and not numpy.array_equal(array, copy):
            wrong(spec, "a list with a number that is too large")
        return copy
    except (ValueError, TypeError, OverflowError) as error:
        wrong(spec, f"a list of which numpy makes no array ({error})")


def write_array(spec, array):
    kind, size = array.dtype.kind, array.dtype.itemsize
    if spec.datatype == "BYTES":
        if kind not in "OSU":
            wrong(spec, f"{name_of(array.dtype)} {show(array.shape)}")
        return array.shape, join(spec, array.ravel().tolist())
    if spec.datatype == "BF16" and array.dtype.name == "bfloat16":
        return array.shape, array.tobytes()
    if (kind, size) != (spec.dtype.kind, spec.dtype.itemsize):
        wrong(spec, f"{name_of(array.dtype)} {show(array.shape)}",
              f"return it with .astype('{spec.dtype.name}'), or declare what is returned")
    if spec.datatype == "BF16":
        return array.shape, shorten_array(array)
    array = array.astype(spec.dtype, order="C", copy=False)
    if array.nbytes < COPY_BYTES or not array.flags.carray:
        return array.shape, array.tobytes()
    # Read where it lies; the array goes along, so that it stays.
    return array.shape, (array.__array_interface__["data"][0], array.nbytes, array)


def shorten_array(array):
    bits = numpy.ascontiguousarray(array, "<f4").view("<u4")
    short = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
    return numpy.where(numpy.isnan(array), (bits >> 16) | 0x40, short).astype("<u2").tobytes()
