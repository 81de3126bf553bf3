# SPDX-License-Identifier: Apache-2.0
"""The calls of the engine (loader/engines/python.c), each of which gives an outcome and a sentence.

stage() imports the application, unless the loader is lean: commit() does it then. host() starts
what serves; close() ends it.
"""
import atexit
import faulthandler
import os
import signal
import sys
import threading
import traceback

import moult
from moult import _archive, _lane, _load, _weights
from moult._load import CONFIG, FAILED, Refusal

LOG_WARNING = 4
# An end that takes longer is cut short: the end of the process is the cleanup.
CLOSE_S = 5.0

config = {}
server = None  # of the application, once that is loaded
model = None  # what computes, or what is asked below a route
serving = threading.Event()  # the server was started
held = []  # what a child that was forked closes
foreign = set()  # what modules have opened that were imported ahead


def guarded(function):
    """Makes (outcome, sentence) of what @function does; no exception gets out."""
    def call(*arguments):
        try:
            function(*arguments)
        except Refusal as refusal:
            _archive.remove()
            return refusal.outcome, refusal.sentence
        except BaseException as error:
            traceback.print_exc()
            _archive.remove()
            return FAILED, f"the engine python failed: {error!r}; the traceback is in the log"
        return 0, ""
    return call


def wanted():
    """The key that names what is served, and its value."""
    options = dict(config["options"])
    found = [(key, options[key]) for key in (*_load.INTERFACES, "model") if options.get(key)]
    if len(found) != 1:
        raise Refusal(CONFIG, "engine python serves what one key names: write wsgi or asgi = "
                              "MODULE:APPLICATION, or model = MODULE:CLASS")
    if found[0][0] != "model" and not config["is_hosted"]:
        raise Refusal(CONFIG, f"{found[0][0]}: an application serves paths, and takes no tensors: "
                              f"add route = /, and leave input and output out")
    return found[0]


def keep_signals():
    """SIGTERM and SIGINT end the loader: an application that takes them would be killed later,
    and harder."""
    take = signal.signal
    if getattr(take, "keeps_signals", False):
        return

    def signal_signal(number, handler):
        if number in (signal.SIGTERM, signal.SIGINT):
            _lane.log(LOG_WARNING, "signal_kept",
                      f"{signal.Signals(number).name} is moult's: signal.signal() of it does "
                      f"nothing")
            return signal.getsignal(number)
        return take(number, handler)
    signal_signal.__doc__ = take.__doc__
    signal_signal.keeps_signals = True
    signal.signal = signal_signal


def identity(number):
    """Of an open descriptor: another file may have its number later."""
    status = os.fstat(number)
    return number, status.st_dev, status.st_ino


def descriptors():
    """Those of the loader: sockets, memory and bells that no child may hold."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            one = identity(int(name))
            if one[0] > 2 and one not in foreign:
                found.append(one)
        except OSError:
            pass  # that of listdir()
    return found


def leave_loader():
    """In a child that was forked: it is no loader."""
    _lane.forget()
    for one in held if _archive.lock is None else (*held, _archive.lock):
        try:
            if identity(one[0]) == one:
                os.close(one[0])
        except OSError:
            pass  # the loader had closed it


def prepare_process():
    faulthandler.enable()
    os.environ.update(config["environment"])
    moult.secrets._values.update(config["secrets"])
    sys.path.insert(0, os.getcwd())
    keep_signals()
    held.extend(descriptors())
    os.register_at_fork(after_in_child=leave_loader)


def load_application(weights):
    global model, server
    key, name = wanted()
    _weights.begin(weights, config["is_shared"])
    if key == "model":
        from moult import _classes
        model = _classes.load(name, config)
        if config["is_hosted"]:
            server = model.SERVER(model, config["threads"])
    elif key == "asgi":
        from moult import _asgi
        # What the application makes of asyncio's at import is of the loop that will serve.
        loop = _asgi.make_loop()
        application = _load.load(key, name)
        server = _asgi.Server(f"{key} = {name}", application, loop)
    else:
        from moult import _wsgi
        application = _load.load(key, name)
        server = _wsgi.Server(application, config["threads"])
    _weights.end()
    sys.stdout.flush()


@guarded
def stage(given):
    config.update(given)
    wanted()
    prepare_process()
    if not config["is_lean"]:
        load_application(config["weights"])


@guarded
def commit(weights):
    if server is None and model is None:
        load_application(weights)


@guarded
def host():
    held.append(identity(_lane.bell()))
    serving.set()
    server.start()


def declare(rows, tensors):
    """The rows of inputs and outputs, as far as they are known; with @tensors, inputs of which @rows
    tell, wholly."""
    if tensors is not None:
        model.learn(rows, tensors)
    return model.rows()


def compute(function, *arguments):
    """(0, what @function gives), or an outcome and a sentence."""
    try:
        return 0, function(*arguments)
    except Refusal as refusal:
        return refusal.outcome, refusal.sentence
    except BaseException as error:
        traceback.print_exc()
        return FAILED, f"the engine python failed: {error!r}; the traceback is in the log"


def infer(tensors):
    return compute(model.infer, tensors)


def tell(rows, tensors):
    return compute(declare, rows, tensors)


def finish():
    try:
        if serving.is_set():
            server.close()
        if model is not None:
            model.close()
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()


@guarded
def close():
    thread = threading.Thread(target=finish, name="moult-close", daemon=True)
    thread.start()
    thread.join(CLOSE_S)
    if thread.is_alive():
        _lane.log(LOG_WARNING, "close_is_late",
                  f"the application has not ended in {CLOSE_S:.0f} s, and is ended now")
    _archive.remove()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
