# SPDX-License-Identifier: Apache-2.0
"""Serves a class of the user's, by what it has: "model = MODULE:CLASS"."""
import inspect
import os
import traceback

import moult
from moult import _archive, _declared, _load, _tensors
from moult._async import settle
from moult._load import CONFIG, FAILED, MODEL, PASSING, Refusal

LOADS = ("load", "load_model", "setup")
# What a class must have one of.
CALLS = ("predict", "execute", "handle")
# What classes of other servers are made of.
BASES = ("ModelClass", "LitAPI", "BaseHandler")


def has(found, name):
    return callable(getattr(found, name, None))


def can_serve(found):
    return any(has(found, name) for name in CALLS) or bool(_load.marked(found))


def blame(call, error):
    """Makes a Refusal of what @call raised for a request."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, moult.BadRequest):
        return Refusal(_tensors.INPUT, str(error) or f"{call} refuses the request")
    traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, SystemExit):
        return Refusal(MODEL, f"{call} called sys.exit({error.code!r}): a model must not end the "
                              f"process; raise an error")
    outcome = FAILED if isinstance(error, PASSING) else MODEL
    return Refusal(outcome, f"{call} raised {_load.describe(error)}; the traceback is in the log")


def is_framework(value):
    """Whether it is plainly the class of another server, and not a helper beside that."""
    return value.__name__ == "TritonPythonModel" or \
        any(base.__name__ in BASES for base in value.__mro__[1:])


def find_class(what, module, example):
    """What a file has that names none: the function handle() of TorchServe's, or the only class
    that the file itself defines and that can be served."""
    function = vars(module).get("handle")
    if inspect.isfunction(function) and _load.takes(function, 2):
        return function
    own = [value for value in vars(module).values()
           if inspect.isclass(value) and value.__module__ == module.__name__]
    found = [value for value in own if can_serve(value)]
    if len(found) > 1:
        found = [value for value in found if is_framework(value)] or found
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(one.__name__ for one in found))
        raise Refusal(CONFIG, f"{what}: the file must define exactly one class that can be served, "
                              f"and has {names}: name the class, as in {example}:{found[-1].__name__}")
    names = ", ".join(sorted(one.__name__ for one in own)) or "no class"
    raise Refusal(CONFIG, f"{what}: the file must define exactly one class that can be served, and "
                          f"has none with predict(), execute() or handle(); it defines {names}")


def find(text):
    what = f"model = {text}"
    if text.endswith(".py"):
        return what, find_class(what, _load.import_module(what, text), what)
    if text.endswith(".mar"):
        what, module, path = _archive.find(what, text)
        return what, _load.get_attribute(what, module, path) if path \
            else find_class(what, module, f"--handler {module.__name__}.py")
    name, colon, path = text.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in path.split(".")):
        raise Refusal(CONFIG, f"{what}: write MODULE:CLASS, as in model = app:Model")
    return what, _load.get_attribute(what, _load.import_module(what, name), path)


def make(what, found):
    """An instance: of a class, from a function, or @found itself; a function that takes a request is
    an entry point of TorchServe's."""
    if inspect.isroutine(found) and _load.takes(found, 0) is False and _load.takes(found, 2):
        from moult import _handlers
        return _handlers.Entry(found)
    if not inspect.isclass(found) and can_serve(found):
        return found
    if not callable(found):
        raise Refusal(CONFIG, f"{what}: it is {type(found).__name__!r}: name a class that has "
                              f"predict(), or a function that makes such an object")
    if inspect.isclass(found):
        check(what, found)
    if _load.takes(found, 0) is False:
        raise Refusal(CONFIG, f"{what}: making it takes arguments ({inspect.signature(found)}), "
                              f"and moult has none to give: give them defaults, or name a "
                              f"function that makes it")
    try:
        return found()
    except BaseException as error:
        _load.refuse(what, "making it", error)


def check(what, found):
    """Refuses a class or an object that nothing can be asked of."""
    if can_serve(found):
        return
    kind = found.__name__ if inspect.isclass(found) else type(found).__name__
    names = [name for name in dir(found) if not name.startswith("_")
             and callable(getattr(found, name, None))]
    raise Refusal(CONFIG, f"{what}: '{kind}' has neither predict(), execute() nor handle(); it has: "
                          f"{', '.join(names[:12]) or 'no methods'}")


def describe_outputs(answer):
    return "None" if answer is None else repr(type(answer).__name__)


class Computes:
    """A class that is asked for outputs: a dict of inputs to a dict of outputs."""
    CALL, ARGUMENT = "predict", "inputs"
    ENDS = ("cleanup", "unload")

    def __init__(self, what, served, config):
        self.what = what
        self.served = served
        self.name = config["model"]
        self.is_hosted = config["is_hosted"]
        self.set_inputs(config["inputs"])
        self.set_outputs(config["outputs"])
        self.max_batch = config["max_batch"]
        self.is_batched = self.max_batch > 1
        self.device = config["device"]
        self.options = dict(config["options"])
        self.is_text = self.options.get("bytes_as", "str") == "str"

    def set_inputs(self, rows):
        self.inputs = [_tensors.Spec(*row) for row in rows]

    def set_outputs(self, rows):
        self.outputs = [_tensors.Spec(*row) for row in rows]
        self.names = {spec.name for spec in self.outputs}

    def tell(self):
        """The rows of inputs and outputs that the class itself declares."""
        return _declared.of_attributes(self.what, self.served)

    def complete(self):
        """What the section leaves out comes from the class, if that tells it."""
        if self.inputs and self.outputs:
            return
        inputs, outputs = self.tell()
        if not self.inputs:
            self.set_inputs(inputs)
        if not self.outputs:
            self.set_outputs(outputs)

    def learn(self, rows, tensors):
        """Outputs from the answer to @tensors, inputs of which @rows tell."""
        self.set_inputs(rows)
        if self.outputs:
            self.infer(tensors)
        else:
            self.set_outputs(_declared.of_answer(self.CALL, self.answer(tensors)))

    def rows(self):
        return tuple([(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs]
                     for specs in (self.inputs, self.outputs))

    def check(self):
        function = getattr(self.served, self.CALL)
        if self.is_hosted:
            raise Refusal(CONFIG, f"{self.what}: its class has {self.CALL}(), which takes tensors "
                                  f"and no paths: leave route out")
        if _load.takes(function, 1) is False:
            raise Refusal(CONFIG, f"{self.what}: {self.CALL}{inspect.signature(function)} cannot "
                                  f"be called with one argument, as moult does: write "
                                  f"def {self.CALL}(self, {self.ARGUMENT})")

    def answer(self, tensors):
        inputs = {spec.name: _tensors.read(spec, shape, data, self.is_text)
                  for spec, (shape, data) in zip(self.inputs, tensors)}
        try:
            return self.ask(inputs)
        except BaseException as error:
            raise blame(self.CALL, error) from None

    def infer(self, tensors):
        return self.take(self.answer(tensors), tensors)

    def take(self, answer, tensors):
        """The outputs of @answer, in the order of the section."""
        if answer.keys() != self.names:
            self.tell_names(answer)
        outputs = [_tensors.write(spec, answer[spec.name]) for spec in self.outputs]
        if self.is_batched:
            rows = tensors[0][0][0]
            for spec, (shape, _) in zip(self.outputs, outputs):
                if shape and shape[0] != rows:
                    raise Refusal(MODEL, f"output '{spec.name}' has the shape "
                                         f"{_tensors.show(shape)}, and the inputs have {rows} "
                                         f"rows: with max_batch each row of an input has its own "
                                         f"in each output")
        return outputs

    def tell_names(self, answer):
        declared = ", ".join(spec.name for spec in self.outputs)
        missing = [spec.name for spec in self.outputs if spec.name not in answer]
        if missing:
            raise Refusal(MODEL, f"{self.CALL} returned no output '{missing[0]}'; it returned: "
                                 f"{', '.join(map(str, answer)) or 'nothing'}, and the "
                                 f"configuration declares: {declared}")
        extra = [name for name in answer if name not in self.names]
        raise Refusal(MODEL, f"{self.CALL} returned an output {extra[0]!r} that the configuration "
                             f"does not declare; it declares: {declared}")

    def close(self):
        for name in self.ENDS:
            if has(self.served, name):
                settle(getattr(self.served, name)())
                return


class Plain(Computes):
    """load() and predict(inputs)."""

    def load(self):
        for name in LOADS:
            if has(self.served, name):
                self.call_load(name, getattr(self.served, name))
                return

    def call_load(self, name, function):
        arguments = ()
        if _load.takes(function, 0) is False:
            if name != "setup" or not _load.takes(function, 1):
                raise Refusal(CONFIG, f"{self.what}: {name}{inspect.signature(function)} takes "
                                      f"arguments that moult does not have: give them defaults")
            arguments = (self.device,)
        try:
            settle(function(*arguments))
        except BaseException as error:
            _load.refuse(self.what, f"{name}()", error)

    def ask(self, inputs):
        answer = settle(self.served.predict(inputs))
        if not isinstance(answer, dict):
            name = self.outputs[0].name if self.outputs else "scores"
            raise Refusal(MODEL, f"predict returned {describe_outputs(answer)} instead of a dict "
                                 f"of outputs: return {{'{name}': ...}}")
        return answer


def check_options(config):
    value = dict(config["options"]).get("bytes_as", "str")
    if value not in ("str", "bytes"):
        raise Refusal(CONFIG, f"option.bytes_as: '{value}' must be str or bytes")


def check_kind(kind, config):
    """Refuses options that nothing would come of."""
    from moult import _triton
    options = dict(config["options"])
    if "parameters" in options and kind is not _triton.Triton:
        raise Refusal(CONFIG, "option.parameters is for a class of Triton's, which has execute(): "
                              "leave it out")
    if "bytes_as" in options and kind is not Plain:
        raise Refusal(CONFIG, "option.bytes_as is for a class whose predict() takes tensors: leave "
                              "it out")


def choose(served, config):
    """By what it has; tensors or paths decide between the two kinds of predict()."""
    from moult import _handlers, _triton
    if has(served, "execute"):
        return _triton.Triton
    if has(served, "handle"):
        return _handlers.TorchServe
    if has(served, "decode_request") or has(served, "encode_response"):
        return _handlers.Lit
    is_plain = not config["is_hosted"] and has(served, "predict")
    return Plain if is_plain else _handlers.Named


def load(text, config):
    """What serves, loaded."""
    from moult import _triton
    check_options(config)
    if not config["is_hosted"]:
        # Read by numpy's and torch's libraries as they are loaded.
        os.environ.setdefault("OMP_NUM_THREADS", str(config["threads"]))
        _tensors.prepare()
        _triton.prepare()
    what, found = find(text)
    served = make(what, found)
    check(what, served)
    kind = choose(served, config)
    check_kind(kind, config)
    model = kind(what, served, config)
    model.check()
    if not config["is_hosted"]:
        model.complete()
    model.load()
    return model
