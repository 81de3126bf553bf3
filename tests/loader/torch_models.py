# SPDX-License-Identifier: Apache-2.0
"""Writes the small TorchScript files that test_torch reads. Exits 77 without torch."""

import struct
import sys
import zipfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

try:
    import torch
except ImportError:
    sys.exit(77)


class Sum(torch.nn.Module):
    """Parameters, so that the weights matter: 1 + x summed over each row."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.ones_(self.layer.bias)

    def forward(self, x):
        return self.layer(x)


class Square(torch.nn.Module):
    """Memory grows with the square of a row's length; says how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        total = (x.unsqueeze(2) * x.unsqueeze(1)).sum([1, 2])
        return torch.stack([total, self.calls.expand(x.size(0))], 1)


class InPlace(torch.nn.Module):
    def forward(self, x):
        x += 1
        return x


class Nested(torch.nn.Module):
    """Writes its input through a view, inside of a submodule."""

    def __init__(self):
        super().__init__()
        self.inner = InPlace()

    def forward(self, x):
        self.inner(x[:, :1])
        return x


class Two(torch.nn.Module):
    def forward(self, a, b) -> Tuple[torch.Tensor, torch.Tensor]:
        return a + b, a - b


class Listed(torch.nn.Module):
    def forward(self, a, b) -> List[torch.Tensor]:
        return [a + b, a - b]


class Named(torch.nn.Module):
    """By name, in another order, and one not contiguous."""

    def forward(self, a, b) -> Dict[str, torch.Tensor]:
        return {"minus": (a - b).t().contiguous().t(), "plus": a + b, "other": a}


class Both(NamedTuple):
    total: torch.Tensor
    rest: torch.Tensor


class Fields(torch.nn.Module):
    def forward(self, a, b) -> Both:
        return Both(a + b, a - b)


class Half(torch.nn.Module):
    def forward(self, x):
        return x.half()


class Number(torch.nn.Module):
    def forward(self, x, n: int):
        return x * n


class Text(torch.nn.Module):
    def forward(self, x):
        return "text"


class Picky(torch.nn.Module):
    def forward(self, x):
        if bool((x == 13).any()):
            raise ValueError("thirteen is not welcome")
        return x


class Greedy(torch.nn.Module):
    """Wants more memory than there is."""

    def forward(self, x):
        return x + torch.empty(1 << 50)[:2]


class Asked(torch.nn.Module):
    """Takes as many floats as x[0, 1] says, twice when x[0, 0] is 2, and fails after the
    first when it is 1."""

    def forward(self, x):
        way, floats = int(x[0, 0]), int(x[0, 1])
        first = torch.empty(floats).zero_()
        if way == 1:
            raise ValueError("one is not welcome")
        if way == 2:
            return x + first[0] + torch.empty(floats).zero_()[0]
        return x + first[0]


class Lookup(torch.nn.Module):
    """A hundred known words."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(100, 4)

    def forward(self, x):
        return self.words(x).sum(1)


class Fails(torch.nn.Module):
    """In the way that x[0, 0] names; every other number is answered with itself."""

    def forward(self, x):
        k = int(x[0, 0])
        if k == 1:
            raise IndexError("one has no place")
        if k == 2:
            raise RuntimeError("two is the model's own")
        if k == 3:
            return torch.gather(x, 1, torch.full([1, 1], 99))
        if k == 4:
            return x.index_select(0, torch.tensor([99]))
        if k == 5:
            return x[:, torch.tensor([99])]
        if k == 6:
            return x * [1.0, 2.0][k]
        if k == 7:
            return x @ torch.zeros(9, 2)
        if k == 8:
            assert k == 0, "eight is no input"
        return x


class Wide(torch.nn.Module):
    """Any width is declared, three is right; one row, which is warmed up with, is too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.ones(3, 1))

    def forward(self, x):
        return x.sum(1, keepdim=True) if x.size(1) == 1 else x @ self.w


class Scaled(torch.nn.Module):
    """Weights that are no numbers, as a training that has diverged leaves them."""

    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.full((1,), float("nan")))

    def forward(self, x):
        return x * self.k


class Buffer(torch.nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(1))

    def forward(self, x):
        self.n += 1
        return x * 0 + self.n


class Tied(torch.nn.Module):
    """One storage with two names, one of them a transposed view that forward writes to: all
    of it must be the same memory. Each call adds one to the weight of x[0], which then
    counts 3 by the third call: 3 * (0 + ...)."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, 2))
        self.register_buffer("view", self.weight.detach().t())

    def forward(self, x):
        self.view[0, :1] += 1
        return x[:, :1] * self.weight[0, 0] - x[:, :1]


class Constant(torch.nn.Module):
    """Frozen before it is saved: its tensor is a constant of the graph."""

    def __init__(self):
        super().__init__()
        self.k = torch.full((2,), 7.0)

    def forward(self, x):
        return x + self.k


class Traced(torch.nn.Module):
    """What is made while it is traced becomes a constant of the graph."""

    def forward(self, x):
        return x @ torch.tensor([[1., 2.], [3., 4.]])


class Empty(torch.nn.Module):
    """Tensors without elements: a constant, a buffer, and one in a list."""

    def __init__(self):
        super().__init__()
        self.register_buffer("none", torch.zeros(0, 2))
        self.some = [torch.ones(2), torch.zeros(0)]
        self.k = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.cat([x * self.k, self.none]) + self.some[0]


def rewrite(source: Path, target: Path, method: int) -> None:
    """The same archive as another program would write it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))


def overstate(source: Path, target: Path) -> None:
    """Says of a storage that it has more elements than the file has bytes."""
    with zipfile.ZipFile(source) as old:
        names = {item.filename: old.read(item) for item in old.infolist()}
    pickles = [name for name in names if name.endswith("/data.pkl")]
    # The pickle of the weight: ("storage", FloatStorage, "0", "cpu", 2).
    text = names[pickles[0]]
    at = text.index(b"K\x02", text.index(b"cpu"))
    names[pickles[0]] = text[:at] + b"J\xff\xff\xff\x0f" + text[at + 2:]
    with zipfile.ZipFile(target, "w") as new:
        for name, data in names.items():
            item = zipfile.ZipInfo(name)
            # torch.save puts padding in, so that data begins at a multiple of 64 bytes.
            begin = new.fp.tell() + 30 + len(name)
            item.extra = b"FB" + struct.pack("<H", (-(begin + 4)) % 64) + \
                b"Z" * ((-(begin + 4)) % 64)
            new.writestr(item, data)


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    models = [Sum(), InPlace(), Nested(), Two(), Listed(), Named(), Fields(), Half(), Number(),
              Text(), Picky(), Greedy(), Buffer(), Tied(), Square(), Asked(),
              Lookup(), Fails(), Wide(), Scaled()]
    for model in models:
        path = target / f"{type(model).__name__.lower()}.pt"
        torch.jit.script(model).save(str(path))
    whole = (target / "sum.pt").read_bytes()
    (target / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.jit.freeze(torch.jit.script(Constant().eval())).save(str(target / "constant.pt"))
    torch.jit.trace(Traced(), torch.ones(1, 2)).save(str(target / "traced.pt"))
    torch.jit.script(Empty()).save(str(target / "empty.pt"))
    torch.jit.freeze(torch.jit.script(Empty().eval())).save(str(target / "empty-frozen.pt"))
    wide = torch.nn.Sequential(torch.nn.Linear(2, 256), torch.nn.Linear(256, 1))
    packed = torch.quantization.quantize_dynamic(wide, {torch.nn.Linear})
    torch.jit.script(packed).save(str(target / "packed.pt"))
    rewrite(target / "sum.pt", target / "deflated.pt", zipfile.ZIP_DEFLATED)
    rewrite(target / "sum.pt", target / "unaligned.pt", zipfile.ZIP_STORED)
    overstate(target / "sum.pt", target / "beyond.pt")
    (target / "text_file.pt").write_bytes(b"this is no archive\n" * 100)


main(Path(sys.argv[1]))
