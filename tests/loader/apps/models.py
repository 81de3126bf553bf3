# SPDX-License-Identifier: Apache-2.0
"""Classes that compute, for test_python_model.c: right ones and wrong ones. What they do takes
arrays as well as nested lists, but where a name says otherwise."""
import asyncio
import os
import sys
import threading
import time

import moult

try:
    import numpy
except ImportError:
    numpy = None

number = 42


def over(value, function):
    """@function of each number."""
    if isinstance(value, list):
        return [over(row, function) for row in value]
    return function(value)


def doubled(value):
    return over(value, lambda one: 2 * one)


class Doubles:
    """What predict() gives comes from what load() has left."""

    def load(self):
        self.function = doubled

    def predict(self, inputs):
        return {"x": self.function(inputs["x"])}


class LoadModel(Doubles):
    load = None

    def load_model(self):
        self.function = doubled


class Setup(Doubles):
    load = None

    def setup(self, device):
        assert device == "cpu", device
        self.function = doubled


def make():
    return Doubles()


ready = LoadModel()


class Echo:
    def predict(self, inputs):
        return {"x": inputs["x"]}


class Kinds:
    """The type of what comes, as text."""

    def predict(self, inputs):
        value = inputs["x"]
        while isinstance(value, list) or (numpy and isinstance(value, numpy.ndarray)):
            value = value[0]
        return {"x": [[f"{type(value).__name__} {value}"]]}


class Keeps:
    """Writes to its inputs, and keeps them."""

    def __init__(self):
        self.kept = []

    def predict(self, inputs):
        x = inputs["x"]
        x[0][0] = x[0][0] + 1
        self.kept.append(x)
        return {"x": [[float(sum(one[0][0] for one in self.kept)), float(len(self.kept))]]}


class Secret:
    def load(self):
        self.token = moult.secrets["TOKEN"]

    def predict(self, inputs):
        return {"x": [[self.token + os.environ["TOKEN"]]]}


class Async:
    """Its coroutines share one loop, and one that exits ends nothing."""

    async def load(self):
        self.loop = asyncio.get_running_loop()

    async def predict(self, inputs):
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        if inputs["x"][0][0] == 3:
            sys.exit("over")
        return {"x": inputs["x"]}


class Threads:
    """How many its libraries may use."""

    def predict(self, inputs):
        return {"x": [[os.environ["OMP_NUM_THREADS"]]]}


class Threaded:
    """One of its threads dies."""

    def load(self):
        def die():
            raise RuntimeError("a thread that dies")
        thread = threading.Thread(target=die)
        thread.start()
        thread.join()

    def predict(self, inputs):
        return {"x": inputs["x"]}


class Blames:
    """Fails as it is told by the request's first number."""

    def predict(self, inputs):
        what = int(inputs["x"][0][0])
        if what == 1:
            raise moult.BadRequest("x must not be 1")
        if what == 2:
            raise ValueError("x was 2")
        if what == 3:
            sys.exit("over")
        if what == 4:
            raise KeyboardInterrupt()
        if what == 5:
            raise ConnectionResetError("the store is away")
        return {"x": inputs["x"]}


class Cleanup:
    def predict(self, inputs):
        return {"x": inputs["x"]}

    def cleanup(self):
        print("cleaned up")
        with open(os.environ["MARK"], "w", encoding="utf-8") as mark:
            mark.write("clean")


class Lingers(Echo):
    def unload(self):
        time.sleep(3600)


class Returns:
    """Returns its value."""
    value = None

    def predict(self, inputs):
        return self.value


class ReturnsList(Returns):
    value = [[1.0, 2.0]]


class Lacks(Returns):
    value = {"y": [[1.0, 2.0]]}


class Extra(Returns):
    value = {"x": [[1.0, 2.0]], "more": 1}


class NoneInside(Returns):
    value = {"x": None}


class Ragged(Returns):
    value = {"x": [[1.0, 2.0], [3.0]]}


class Text(Returns):
    value = {"x": [["a", "b"]]}


class Wide(Returns):
    value = {"x": [[1.0, 2.0, 3.0]]}


class Scalar(Returns):
    value = {"x": 1.0}


class Deep(Returns):
    value = {"x": [[[[[[[[[1.0]]]]]]]]]}


class OneRow(Returns):
    value = {"x": [[1.0, 2.0]]}


class Double(Echo):
    def predict(self, inputs):
        return {"x": inputs["x"].astype("float64")}


class Strided(Echo):
    """An array that does not lie in one piece, in the other order of bytes."""

    def predict(self, inputs):
        return {"x": inputs["x"][:, ::-1].astype(">f4")}


class Large:
    """Outputs that are not copied: the same memory each time, or what the caller lets go."""

    def load(self):
        self.memory = numpy.zeros((1, 8192), "float32")

    def predict(self, inputs):
        self.memory += 1
        self.memory[0, -1] = inputs["x"][0, 0]
        return {"x": self.memory if inputs["x"][0, 1] else self.memory + 0}


class Raises(Echo):
    def predict(self, inputs):
        raise ZeroDivisionError("no such luck")


class NeedsArguments(Echo):
    def __init__(self, path):
        self.path = path


class MakingRaises(Echo):
    def __init__(self):
        raise OSError("no such file")


class LoadRaises(Echo):
    def load(self):
        raise RuntimeError("weights\nare bad")


class LoadExits(Echo):
    def load(self):
        sys.exit("no weights")


class LoadTakes(Echo):
    def load(self, path):
        self.path = path


class PredictTakes:
    def predict(self, prompt, count):
        return prompt * count


class Nothing:
    def run(self):
        pass


class Executes:
    def execute(self, requests):
        return requests


class Weights:
    """Some bytes of the model file, and how many there are."""

    def load(self):
        self.weights = moult.weights()
        assert moult.weights() is self.weights
        self.weights[2] = ord("C")  # its own copy, or a page that is private from then on

    def predict(self, inputs):
        return {"x": [[f"{bytes(self.weights[:3]).decode()} {len(self.weights)}"]]}


class Late:
    def predict(self, inputs):
        return {"x": [[str(len(moult.weights()))]]}
