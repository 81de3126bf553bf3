#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes packages of AOTInductor that tests/system/test_aoti.py serves. Compiling takes minutes.

usage: PYTHON aoti_models.py FOLDER   (exit 77: PYTHON has no torch that compiles packages)
"""
import json
import pathlib
import sys

try:
    import torch
    from torch._inductor import aoti_compile_and_package
except ImportError:
    sys.exit(77)

# Weights beside the code, where loaders can share them.
BESIDE = {"aot_inductor.package_constants_in_so": False,
          "aot_inductor.package_constants_on_disk_format": "pickle_weights"}


class Linear(torch.nn.Module):
    """y = x W + (1, -1)."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.arange(8.).reshape(4, 2).t())
            self.fc.bias.copy_(torch.tensor([1., -1.]))

    def forward(self, x):
        return self.fc(x)


class Named(torch.nn.Module):
    """Takes its inputs by name and gives a dict; one output is no contiguous tensor."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(16, 8)
        with torch.no_grad():
            self.table.weight.copy_(torch.arange(128.).reshape(16, 8))

    def forward(self, ids, scale):
        rows = self.table(ids) * scale[:, None, None]
        return {"rows": rows, "turned": rows.transpose(1, 2), "ids": ids + 1}


class Layer(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.into = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)
        self.before = torch.nn.LayerNorm(width)
        self.between = torch.nn.LayerNorm(width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (part.reshape(batch, length, self.heads, -1).transpose(1, 2)
                   for part in self.into(self.before(x)).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(torch.nn.functional.gelu(self.up(self.between(x))))


class Encoder(torch.nn.Module):
    """A small one of the kind that embeds texts: 50 MB of weights."""

    def __init__(self, width=512, layers=4):
        super().__init__()
        self.table = torch.nn.Embedding(1000, width)
        self.layers = torch.nn.ModuleList(Layer(width, 8) for _ in range(layers))
        self.end = torch.nn.LayerNorm(width)

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return self.end(x).mean(1)


def write(folder, name, model, args, dims, kwargs=None, **config):
    program = torch.export.export(model.eval(), args, kwargs, dynamic_shapes=dims)
    # torch calls the folder in the package after the file.
    part = folder / "part" / f"{name}.pt2"
    part.parent.mkdir(exist_ok=True)
    aoti_compile_and_package(program, package_path=str(part), inductor_configs=config)
    part.rename(folder / f"{name}.pt2")
    return program


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    batch = torch.export.Dim("batch", min=1, max=64)
    length = torch.export.Dim("length", min=1, max=512)
    with torch.no_grad():
        x = torch.ones(2, 4)
        program = write(folder, "linear", Linear(), (x,), ({0: batch},), **BESIDE)
        torch.export.save(program, folder / "program.pt2")
        write(folder, "inside", Linear(), (x,), ({0: batch},))
        write(folder, "named", Named(), (), {"ids": {0: batch, 1: length}, "scale": {0: batch}},
              {"ids": torch.ones(2, 3, dtype=torch.int64), "scale": torch.ones(2)}, **BESIDE)
        ids = torch.randint(0, 1000, (2, 64))
        encoder = Encoder()
        write(folder, "encoder", encoder, (ids,), ({0: batch},), **BESIDE)
        write(folder, "encoder_inside", encoder, (ids,), ({0: batch},))
        (folder / "encoder.json").write_text(json.dumps(
            {"ids": ids.flatten().tolist(), "answer": encoder.eval()(ids).flatten().tolist()}))
    (folder / "complete").write_text(torch.__version__)


if __name__ == "__main__":
    main()
