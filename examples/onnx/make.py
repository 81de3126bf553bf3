#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes digits.onnx, a model that reads digits, beside itself, from examples/digits; with nothing
but Python. The score of a digit is how near an image is to the mean of those that were learned.

usage: make.py [IMAGES]    how many are learned, of 300
"""
import json
import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
DIGITS = HERE.parent / "digits"
PIXELS, LABELS, FLOAT = 64, 10, 1


# Fields of protobuf, as onnx.proto numbers them.

def number(value):
    text = b""
    while value > 0x7f:
        text += bytes([value & 0x7f | 0x80])
        value >>= 7
    return text + bytes([value])


def value(field, what):
    return number(field << 3) + number(what)


def message(field, *parts):
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return number(field << 3 | 2) + number(len(body)) + body


def tensor(name, dims, floats):
    return message(5, *(value(1, dim) for dim in dims), value(2, FLOAT), message(8, name),
                   message(9, struct.pack(f"<{len(floats)}f", *floats)))


def info(field, name, columns):
    """An input or an output of any number of rows."""
    shape = message(2, message(1, message(2, "n")), message(1, value(1, columns)))
    return message(field, message(1, name), message(2, message(1, value(1, FLOAT), shape)))


def model(weights, bias):
    """scores = image weights + bias"""
    node = message(1, message(1, "image"), message(1, "weights"), message(1, "bias"),
                   message(2, "scores"), message(4, "Gemm"))
    graph = message(7, node, message(2, "digits"), tensor("weights", [PIXELS, LABELS], weights),
                    tensor("bias", [LABELS], bias), info(11, "image", PIXELS),
                    info(12, "scores", LABELS))
    return value(1, 8) + graph + message(8, value(2, 17))  # IR version 8, operators of 17


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    labels = json.loads((DIGITS / "expected.json").read_text())["labels"][:count]
    lines = (DIGITS / "heldout.jsonl").read_text().splitlines()
    images = [json.loads(line)["inputs"][0]["data"] for line in lines[:count]]
    means = [[sum(column) / max(1, labels.count(label)) for column in zip(
        *(image for image, its in zip(images, labels) if its == label))] or [0] * PIXELS
        for label in range(LABELS)]
    # |image - mean|^2 without what is the same for all digits.
    weights = [2 * means[label][pixel] for pixel in range(PIXELS) for label in range(LABELS)]
    bias = [-sum(x * x for x in mean) for mean in means]
    (HERE / ".new").write_bytes(model(weights, bias))
    os.rename(HERE / ".new", HERE / "digits.onnx")


main()
