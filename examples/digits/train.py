#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled model and writes what the demo and the tests use.

The data are the 1797 handwritten digits (8x8 pixels, values 0..16) of the UCI machine
learning repository that scikit-learn ships. A quarter is held out and never trained on.
With the fixed seed and one thread a rerun gives the same files, byte for byte.

Writes, beside this script:
  digits.pt       the network as frozen TorchScript; scaling is part of it
  heldout.jsonl   line i is the body of an inference request for held-out image i
  expected.json   labels of the held-out images, what the model answers, the accuracy
"""
import json
import pathlib

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20
EPOCHS = 60
HERE = pathlib.Path(__file__).resolve().parent


class Digits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def forward(self, image):
        return self.layers(image / 16.0 - 0.5)


def train(images, labels):
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    return model.eval()


def export(model, path):
    """Writes @model frozen, without the debug records, which hold this script's path."""
    whole = path.with_name(".whole.pt")
    torch.jit.freeze(torch.jit.script(model)).save(str(whole))
    reader = torch._C.PyTorchFileReader(str(whole))
    writer = torch._C.PyTorchFileWriter(str(path))
    # The writer adds the version itself, and would take an older one, under which
    # operators may mean something else.
    writer.set_min_version(int(reader.get_record("version")))
    for name in reader.get_all_records():
        if name != "version" and not name.endswith(".debug_pkl"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    whole.unlink()


def request_body(image):
    return json.dumps({"inputs": [{
        "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": [int(pixel) for pixel in image]}]}, separators=(",", ":"))


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    data = load_digits()
    train_x, held_x, train_y, held_y = train_test_split(
        data.data, data.target, test_size=0.25, random_state=SEED, stratify=data.target)
    model = train(torch.tensor(train_x, dtype=torch.float32), torch.tensor(train_y))
    export(model, HERE / "digits.pt")

    held = torch.tensor(held_x, dtype=torch.float32)
    with torch.inference_mode():
        answers = torch.jit.load(str(HERE / "digits.pt"))(held).argmax(dim=1)
    accuracy = (answers == torch.tensor(held_y)).double().mean().item()
    (HERE / "heldout.jsonl").write_text(
        "".join(request_body(image) + "\n" for image in held_x))
    (HERE / "expected.json").write_text(json.dumps({
        "accuracy": accuracy, "n": len(held_y), "labels": [int(y) for y in held_y],
        "predictions": [int(a) for a in answers]}, separators=(",", ":")) + "\n")
    print(f"trained on {len(train_y)} images, held out {len(held_y)}, "
          f"accuracy there {accuracy:.4f}")


if __name__ == "__main__":
    main()
