# SPDX-License-Identifier: Apache-2.0
"""Classes that take a request of HTTP and answer with JSON, below the paths of route: TorchServe's,
LitServe's, and others by the arguments of predict(). Each is a WSGI application of its own."""
import functools
import http
import inspect
import os
import sys
import traceback

from moult import _archive, _load, _wsgi
from moult._async import settle
from moult._bodies import (Failure, Request, check_plain, encode, encode_parts, hints_of, shape,
                           to_failure)
from moult._load import CONFIG, FAILED, Refusal


class Together(_wsgi.Server):
    """Gives the application the requests that wait together, up to as many as it takes."""

    def serve(self, request, application=None):
        requests = [request]
        while len(requests) < self.application.most:
            try:
                more = self.take(False)
            except MemoryError:
                break  # that one was answered
            if not more:
                break
            requests.append(more)
        outcomes = self.ask(requests) if len(requests) > 1 else [None]
        for one, outcome in zip(requests, outcomes):
            super().serve(one, outcome)

    def ask(self, requests):
        """For each request what answers it; None: it is asked alone, to find the culprit."""
        try:
            outcomes = self.application.ask_all([
                Request(_wsgi.make_environ(request, self.is_threaded)) for request in requests])
        except BaseException:
            return [None] * len(requests)
        return [functools.partial(self.application.finish, outcome) for outcome in outcomes]


class Hosted:
    """One class, below the section's routes."""
    CALL = "predict"
    LOADS = ("load", "load_model", "setup")
    ENDS = ("cleanup", "unload")
    SERVER = _wsgi.Server
    TAKES_MANY = False

    def __init__(self, what, served, config):
        self.what = what
        self.served = served
        self.most = config["max_batch"]
        self.name = config["model"]
        self.device = config["device"]
        self.has_tensors = not config["is_hosted"]

    def check(self):
        if self.has_tensors:
            raise Refusal(CONFIG, f"{self.what}: its class has {self.CALL}(), which takes "
                                  f"requests of HTTP and no tensors: add a route, and leave input "
                                  f"and output out")
        if self.most > 1 and not self.TAKES_MANY:
            raise Refusal(CONFIG, f"{self.what}: {self.CALL}() gets one request at a time: leave "
                                  f"max_batch out")

    def load(self):
        for name in self.LOADS:
            function = getattr(self.served, name, None)
            if not callable(function):
                continue
            arguments = self.arguments_of(name, function)
            try:
                settle(function(*arguments))
            except BaseException as error:
                _load.refuse(self.what, f"{name}()", error)
            return

    def arguments_of(self, name, function):
        if _load.takes(function, 0) is not False:
            return ()
        if name == "setup" and _load.takes(function, 1):
            return (self.device,)
        raise Refusal(CONFIG, f"{self.what}: {name}{inspect.signature(function)} takes arguments "
                              f"that moult does not have: give them defaults")

    def __call__(self, environ, start_response):
        try:
            outcome = self.ask_all([Request(environ)])[0]
        except Exception as error:
            outcome = error
        return self.finish(outcome, environ, start_response)

    def finish(self, outcome, environ, start_response):
        """Answers with (status, value, fields), or what an exception stands for."""
        if not isinstance(outcome, Exception):
            try:
                return self.give(start_response, *outcome)
            except Exception as error:
                outcome = error
        failure = to_failure(outcome)
        if failure is None:
            raise outcome
        if failure.status == 500:
            traceback.print_exception(type(outcome), outcome, outcome.__traceback__)
        fields = [("Allow", "POST")] if failure.status == 405 else []
        return self.give(start_response, failure.status, failure.answer, fields)

    def ask_all(self, requests):
        """For each of @requests (status, value, fields), or a Failure."""
        outcomes, values, asked = [], [], []
        for request in requests:
            try:
                if request.method != "POST":
                    raise Failure(405, {"error": f"{request.method} is no method of this path: "
                                                 f"POST is"})
                values.append(self.decode(request))
            except Exception as error:
                failure = to_failure(error)
                if failure is None:
                    raise
                outcomes.append(failure)
            else:
                asked.append(request)
                outcomes.append(None)
        found = iter(self.ask(asked, values) if asked else ())
        return [outcome or next(found) for outcome in outcomes]

    @staticmethod
    def give(start_response, status, value, fields):
        is_stream = inspect.isgenerator(value)
        body, kind = (encode_parts(value), "text/plain; charset=utf-8") if is_stream \
            else encode(value)
        if not any(name.lower() == "content-type" for name, _ in fields):
            fields = [("Content-Type", kind), *fields]
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        start_response(f"{status} {phrase}", fields)
        return body if is_stream else [body]

    def decode(self, request):
        """What the class gets of it."""
        raise NotImplementedError

    def ask(self, requests, values):
        """(status, value, fields) for each of the requests, which came to @values."""
        raise NotImplementedError

    def close(self):
        for name in self.ENDS:
            function = getattr(self.served, name, None)
            if callable(function):
                settle(function())
                return


class Named(Hosted):
    """predict() with arguments of its own: the body is an object that has them by name. A path
    that ends in the name of generate() asks for that, where there is one, and so does one that ends
    in the name of another method that Clarifai's decorator has marked."""

    def load(self):
        names = dict.fromkeys(("predict", "generate", *_load.marked(self.served)))
        found = [name for name in names if callable(getattr(self.served, name, None))]
        self.signatures = {name: inspect.signature(getattr(self.served, name)) for name in found}
        self.hints = {name: hints_of(getattr(self.served, name)) for name in found}
        super().load()

    def name_of(self, path):
        """The method that @path asks for."""
        name = path.rstrip("/").rpartition("/")[2]
        if name in self.signatures:
            return name
        if "predict" in self.signatures or len(self.signatures) == 1:
            return next(iter(self.signatures))
        raise Failure(404, {"error": f"the path must end in the name of a method: "
                                     f"{', '.join(self.signatures)}"})

    def decode(self, request):
        name = self.name_of(request.path)
        arguments = request.arguments()
        signature, hints = self.signatures[name], self.hints[name]
        arguments = {key: shape(hints.get(key), value) for key, value in arguments.items()}
        try:
            bound = signature.bind(**arguments)
        except TypeError as error:
            raise Failure(400, {"error": f"{name}{signature}: {error}"}) from None
        for key, value in bound.arguments.items():
            parameter = signature.parameters[key]
            if parameter.kind is not parameter.VAR_KEYWORD:
                check_plain(key, hints.get(key), parameter.default, value)
        return name, bound

    def ask(self, requests, values):
        return [(200, settle(getattr(self.served, name)(*bound.args, **bound.kwargs)), [])
                for name, bound in values]


def takes_context(function):
    try:
        return "context" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # it is none, or one of C's
        return False


class Lit(Hosted):
    """LitServe's: decode_request(), predict(), encode_response(); batch() and unbatch()."""
    LOADS = ("setup",)
    ENDS = ("teardown",)
    CALLS = ("decode_request", "batch", "predict", "unbatch", "encode_response")
    SERVER = Together
    TAKES_MANY = True

    def check(self):
        super().check()
        if self.most > 1 and inspect.isgeneratorfunction(self.served.predict):
            raise Refusal(CONFIG, f"{self.what}: predict() yields, and parts of many answers at "
                                  f"once cannot be told apart: leave max_batch out")

    def load(self):
        if isinstance(getattr(type(self.served), "device", None), property):
            self.served.device = self.device
        if self.most > 1:
            self.served.max_batch_size = self.most
        hints = hints_of(getattr(self.served, "decode_request", None))
        self.kind = next(iter(hints.values()), None)
        if callable(getattr(self.served, "pre_setup", None)):
            self.served.pre_setup()
        super().load()
        # To ask for a signature takes longer than most that is called with it.
        self.with_context = {name for name in self.CALLS
                             if takes_context(getattr(self.served, name, None))}

    def call(self, name, value, context, otherwise=lambda value: value):
        function = getattr(self.served, name, None)
        if not callable(function):
            return otherwise(value)
        if name in self.with_context:
            return settle(function(value, context=context))
        return settle(function(value))

    def decode(self, request):
        request.context = {}
        value = request.json() if request.has_json() else \
            request.read_form() if request.has_form() else request.body
        return self.call("decode_request", shape(self.kind, value), request.context)

    def ask(self, requests, values):
        if self.most == 1:
            outputs = [self.call("predict", values[0], requests[0].context)]
        else:
            contexts = [request.context for request in requests]
            value = self.call("batch", values, contexts)
            value = self.call("predict", value, contexts)
            outputs = list(self.call("unbatch", value, contexts, list))
            if len(outputs) != len(requests):
                raise ValueError(f"predict and unbatch gave {len(outputs)} outputs for "
                                 f"{len(requests)} inputs")
        return [(200, self.call("encode_response", output, request.context), [])
                for request, output in zip(requests, outputs)]


class Metrics:
    """Takes what a handler measures, and keeps none of it."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_, **__):
        return self


class Context:
    """What a TorchServe handler asks for where it runs, and answers besides its data."""

    def __init__(self, name, manifest, properties):
        self.model_name = name
        self.manifest = manifest
        self.system_properties = properties
        self.model_yaml_config = {}
        self.metrics = Metrics()
        self.request_ids = {}
        self.headers = []

    def for_requests(self, requests):
        """One of its own for a call of handle()."""
        context = Context(self.model_name, self.manifest, self.system_properties)
        context.model_yaml_config = self.model_yaml_config
        context.headers = [request.headers() for request in requests]
        context.request_ids = {i: headers.get("X-Request-Id", str(i))
                               for i, headers in enumerate(context.headers)}
        context.statuses = [200] * len(requests)
        context.fields = [{} for _ in requests]
        return context

    def get_request_id(self, idx=0):
        return self.request_ids.get(idx)

    def get_request_header(self, idx, key):
        return self.headers[idx].get(key.title())

    def get_all_request_header(self, idx):
        return self.headers[idx]

    def set_response_content_type(self, idx, value):
        self.fields[idx]["Content-Type"] = value

    def get_response_content_type(self, idx):
        return self.fields[idx].get("Content-Type")

    def set_response_header(self, idx, key, value):
        self.fields[idx][key] = value

    def get_response_headers(self, idx):
        return self.fields[idx]

    def set_response_status(self, code=200, phrase="", idx=0):
        self.statuses[idx] = code

    def set_all_response_status(self, code=200, phrase=""):
        self.statuses = [code] * len(self.statuses)

    def get_response_status(self, idx):
        return self.statuses[idx], ""


class Entry:
    """A function of TorchServe's, which is called without data to begin with."""

    def __init__(self, function):
        self.handle = function

    def initialize(self, context):
        settle(self.handle(None, context))


class TorchServe(Hosted):
    """TorchServe's: initialize(context), handle(data, context)."""
    CALL = "handle"
    ENDS = ("cleanup",)
    SERVER = Together
    TAKES_MANY = True

    def load(self):
        is_gpu = self.device != "cpu"
        manifest = self.read_manifest()
        self.context = Context(self.name, manifest, {
            "model_dir": os.getcwd(), "batch_size": self.most, "server_name": "moult",
            "server_version": "0", "limit_max_image_pixels": True,
            "gpu_id": int(self.device.partition(":")[2] or 0) if is_gpu else None})
        self.context.model_yaml_config = self.read_config(manifest)
        initialize = getattr(self.served, "initialize", None)
        if not callable(initialize):
            return
        try:
            initialize(self.context)
        except BaseException as error:
            _load.refuse(self.what, "initialize()", error)

    def read_manifest(self):
        """That of an archive that was unpacked into the working directory, if it was."""
        if not os.path.exists(_archive.MANIFEST):
            return {"model": {"modelName": self.name, "modelVersion": "1.0"}}
        return _archive.read_manifest(self.what)

    def read_config(self, manifest):
        """The file of YAML that the manifest names."""
        name = manifest["model"].get("configFile")
        if not name:
            return {}
        try:
            import yaml
            with open(os.path.basename(name), encoding="utf-8") as stream:
                return yaml.safe_load(stream) or {}
        except ImportError:
            raise Refusal(CONFIG, f"{self.what}: reading '{name}' takes yaml: install 'pyyaml' for "
                                  f"{sys.executable}") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise Refusal(FAILED if isinstance(error, OSError) else CONFIG,
                          f"{self.what}: '{name}' of the archive cannot be read: "
                          f"{_load.describe(error)}") from None

    def decode(self, request):
        if request.has_form():
            return request.read_form()
        if request.media and request.has_json():
            return {"body": request.json()}
        if request.media.startswith("text/"):
            return {"body": request.body.decode(errors="replace")}
        return {"body": bytearray(request.body)}

    def ask(self, requests, values):
        context = self.context.for_requests(requests)
        answers = settle(self.served.handle(values, context))
        if not isinstance(answers, list) or len(answers) != len(requests):
            got = f"a list of {len(answers)}" if isinstance(answers, list) \
                else repr(type(answers).__name__)
            raise TypeError(f"handle returned {got} instead of a list of {len(requests)}, one "
                            f"answer for each request")
        return [(context.statuses[i], answer, list(context.fields[i].items()))
                for i, answer in enumerate(answers)]
