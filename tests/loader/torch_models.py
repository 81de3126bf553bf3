# SPDX-License-Identifier: Apache-2.0
"""Writes the small TorchScript files that test_torch reads. Exits 77 without torch."""

import sys
from pathlib import Path
from typing import Dict, List, Tuple

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


class Buffer(torch.nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(1))

    def forward(self, x):
        self.n += 1
        return x * 0 + self.n


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    models = [Sum(), InPlace(), Nested(), Two(), Listed(), Named(), Half(), Number(),
              Text(), Picky(), Greedy(), Buffer()]
    for model in models:
        path = target / f"{type(model).__name__.lower()}.pt"
        torch.jit.script(model).save(str(path))
    whole = (target / "sum.pt").read_bytes()
    (target / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (target / "text_file.pt").write_bytes(b"this is no archive\n" * 100)


main(Path(sys.argv[1]))
