# SPDX-License-Identifier: Apache-2.0
"""TorchScript models of any size, written without torch and without their size in memory or
on disk: each tensor begins with 1024 times one number, the rest is a hole in the file.

A model answers with its input when all of its weights are what they should be: it adds
their sum, less what that should be.
"""
import functools
import struct
import zlib

MARKED = 1024  # floats
TENSOR_MAX = 1 << 30  # bytes; a zip entry below 4 GiB needs no other header
FAR = 0xffffffff  # or further into the file: written elsewhere
BLOCK = bytes(1 << 22)

CODE = """class Big(Module):
  __parameters__ = [{names}]
  __buffers__ = []
{fields}
  training : bool
  _is_full_backward_hook : Optional[bool]
  expected : float
  def forward(self: __torch__.Big,
    x: Tensor) -> Tensor:
{sums}
    return torch.add(x, torch.sub({total}, self.expected))
"""


SMALL = """class Small(Module):
  __parameters__ = [{parameters}]
  __buffers__ = [{buffers}]
{fields}
  training : bool
  _is_full_backward_hook : Optional[bool]
  def forward(self: __torch__.Small,
    x: Tensor) -> Tensor:
{lines}
"""


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def tensor(i, floats):
    storage = (b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(i)) +
               text("cpu") + number(floats) + b"tQ")
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + b"(" +
            number(floats) + b"t(" + number(1) + b"t\x89ccollections\nOrderedDict\n)RtR")


def pickle(count, floats, expected):
    state = b"".join(text(f"w{i}") + tensor(i, floats) for i in range(count))
    state += text("training") + b"\x89" + text("_is_full_backward_hook") + b"N"
    state += text("expected") + b"G" + struct.pack(">d", expected)
    return b"\x80\x02c__torch__\nBig\n)\x81}(" + state + b"ub."


def code(count):
    return CODE.format(
        names="".join(f'"w{i}", ' for i in range(count)),
        fields="\n".join(f"  w{i} : Tensor" for i in range(count)),
        sums="\n".join(
            [f"    s{i} = torch.sum(self.w{i})" for i in range(count)] +
            ["    t0 = s0"] +
            [f"    t{i} = torch.add(t{i - 1}, s{i})" for i in range(1, count)]),
        total=f"t{count - 1}").encode()


@functools.cache
def checksum(head, size):
    crc, left = zlib.crc32(head), size - len(head)
    while left:
        n = min(left, len(BLOCK))
        crc, left = zlib.crc32(BLOCK[:n], crc), left - n
    return crc


class Zip:
    """Stored entries whose data are aligned to 64 bytes, as libtorch writes them."""

    def __init__(self, file):
        self.file, self.directory, self.count = file, b"", 0

    def add(self, name, head, size=None):
        """What of @size is not in @head is a hole."""
        name, size, at = f"big/{name}".encode(), size or len(head), self.file.tell()
        common = struct.pack("<HHHHIII", 0, 0, 0, 0x21, checksum(head, size), size, size)
        pad = -(at + 30 + len(name) + 4) % 64
        self.file.write(struct.pack("<IH", 0x04034b50, 45) + common +
                        struct.pack("<HH", len(name), pad + 4) + name +
                        struct.pack("<HH", 0x4246, pad) + b"Z" * pad + head)
        self.file.seek(size - len(head), 1)
        # libtorch takes no longer one for an offset that fits.
        far = struct.pack("<HHQ", 1, 8, at) if at >= FAR else b""
        self.directory += (struct.pack("<IHH", 0x02014b50, 45, 45) + common +
                           struct.pack("<HHHHHII", len(name), len(far), 0, 0, 0, 0,
                                       min(at, FAR)) + name + far)
        self.count += 1

    def close(self):
        at, size = self.file.tell(), len(self.directory)
        self.file.write(self.directory)
        end = self.file.tell()
        self.file.write(
            struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, self.count, self.count,
                        size, at) +
            struct.pack("<IIQI", 0x07064b50, 0, end, 1) +
            struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, self.count, self.count, size,
                        min(at, FAR), 0))


def write(path, mib, value):
    """A model of @mib MiB whose numbers are all @value; its bytes."""
    count = max(2, -(-mib * (1 << 20) // TENSOR_MAX))
    floats = mib * (1 << 20) // count // 4
    with open(path, "wb") as file:
        archive = Zip(file)
        archive.add("version", b"3\n")
        archive.add("constants.pkl", b"\x80\x02).")
        archive.add("code/__torch__.py", code(count))
        archive.add("data.pkl", pickle(count, floats, float(MARKED * value * count)))
        for i in range(count):
            archive.add(f"data/{i}", struct.pack("<f", value) * MARKED, floats * 4)
        archive.close()
    return path.stat().st_size


def write_small(path, parameters, buffers, lines):
    """A model of vectors, {name: numbers}, whose forward(x) is @lines."""
    tensors = {**parameters, **buffers}
    names = ["".join(f'"{name}", ' for name in group) for group in (parameters, buffers)]
    code_ = SMALL.format(parameters=names[0], buffers=names[1],
                         fields="\n".join(f"  {name} : Tensor" for name in tensors),
                         lines="\n".join(f"    {line}" for line in lines))
    state = b"".join(text(name) + tensor(i, len(tensors[name]))
                     for i, name in enumerate(tensors))
    state += text("training") + b"\x89" + text("_is_full_backward_hook") + b"N"
    with open(path, "wb") as file:
        archive = Zip(file)
        archive.add("version", b"3\n")
        archive.add("constants.pkl", b"\x80\x02).")
        archive.add("code/__torch__.py", code_.encode())
        archive.add("data.pkl", b"\x80\x02c__torch__\nSmall\n)\x81}(" + state + b"ub.")
        for i, name in enumerate(tensors):
            archive.add(f"data/{i}", struct.pack(f"<{len(tensors[name])}f", *tensors[name]))
        archive.close()
