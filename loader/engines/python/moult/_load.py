# SPDX-License-Identifier: Apache-2.0
"""From "module:attribute" to the application, or to a sentence that names what is wrong."""
import errno
import importlib
import importlib.util
import inspect
import os
import sys
import traceback

CONFIG, MODEL, FAILED = 1, 2, 5

# What each key serves, and with how many arguments that is called.
INTERFACES = {"wsgi": ("WSGI", 2), "asgi": ("ASGI", 3)}
# Of what an error says, so much goes into a sentence.
TEXT_MAX = 300
# What Clarifai's decorator "method" leaves at a function: clients may ask for that, too.
MARK = "_cf_method_info"
# Errors of this machine, today: another try may succeed.
PASSING = (ConnectionError, TimeoutError, MemoryError, BlockingIOError)


class Refusal(Exception):
    def __init__(self, outcome, sentence):
        super().__init__(sentence)
        self.outcome = outcome
        self.sentence = sentence


def describe(error):
    """The type and the text, in one line."""
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    # Those of a SyntaxError show the place in front.
    return lines[-1] if isinstance(error, SyntaxError) else " ".join(lines)[:TEXT_MAX]


def tell(error):
    """One line: the type, the text, and where in the user's code."""
    text = describe(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if os.path.dirname(frame.filename) != os.path.dirname(__file__)
              and "importlib" not in frame.filename]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}:{error.lineno})"
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def refuse(what, doing, error, remedy="mend it"):
    traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, SystemExit):
        raise Refusal(MODEL, f"{what}: {doing} called sys.exit({error.code!r}): an application "
                             f"that moult serves must not end the process, nor start a server "
                             f"of its own at import; {remedy}") from None
    outcome = FAILED if isinstance(error, PASSING) else MODEL
    raise Refusal(outcome, f"{what}: {doing} raised {tell(error)}; {remedy}, the traceback is in "
                           f"the log") from None


def import_file(what, path):
    """A module from a file, whose folder its own imports find."""
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise Refusal(CONFIG, f"{what}: there is no file '{path}': give its path from "
                              f"working_directory, or mend that")
    name = os.path.splitext(os.path.basename(path))[0]
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def is_missing(error, name):
    """Whether it is @name itself that is not there, and not what @name imports."""
    return isinstance(error, ModuleNotFoundError) and error.name is not None and \
        (error.name == name or name.startswith(error.name + "."))


def import_module(what, name):
    try:
        return import_file(what, name) if name.endswith(".py") else importlib.import_module(name)
    except Refusal:
        raise
    except BaseException as error:
        if is_missing(error, name):
            raise Refusal(CONFIG, f"{what}: there is no module '{error.name}' in '{os.getcwd()}' "
                                  f"nor in {sys.executable}: mend its name, set "
                                  f"working_directory to the folder that has it, or python to "
                                  f"the interpreter that has it") from None
        if isinstance(error, ModuleNotFoundError):
            refuse(what, f"importing '{name}'", error,
                   f"install '{error.name}' for {sys.executable}")
        refuse(what, f"importing '{name}'", error)


def get_attribute(what, module, path):
    value = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            names = sorted(name for name in vars(module)
                           if callable(getattr(module, name, None)) and not name.startswith("_"))
            raise Refusal(CONFIG, f"{what}: module '{module.__name__}' has no '{path}'; it has: "
                                  f"{', '.join(names[:12]) or 'nothing to call'}") from None
    return value


def marked(found):
    """The names of the methods that Clarifai's decorator has marked."""
    return [name for name in dir(found) if not name.startswith("_")
            and hasattr(inspect.getattr_static(found, name, None), MARK)]


def takes(function, count):
    """Whether @function can be called with @count arguments; None: nobody can tell."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return None
    return True


def make(what, function):
    try:
        return function()
    except BaseException as error:
        refuse(what, "the factory", error)


def with_three(value):
    """An application of ASGI 2, which takes its scope first, as one of ASGI 3."""
    async def application(scope, receive, send):
        await value(scope)(receive, send)
    return application


def adapt(what, value, key):
    """@value as an application of @key; None: it is none. One of another key is refused."""
    if takes(value, INTERFACES[key][1]) is not False:
        return value
    if takes(value, 0):
        return None
    if key == "asgi" and takes(value, 1):
        return with_three(value)
    for other, (name, count) in INTERFACES.items():
        if other != key and takes(value, count):
            raise Refusal(CONFIG, f"{what}: it takes {count} arguments, as an application of "
                                  f"{name} does: write {other} in place of {key}")
    return None


def choose(what, value, key):
    """The application itself, or what the factory @value makes."""
    name, count = INTERFACES[key]
    if not callable(value):
        raise Refusal(CONFIG, f"{what}: it is {type(value).__name__!r} and cannot be called: name "
                              f"an application of {name}, or a function that makes one")
    application = adapt(what, value, key)
    if application is None and not takes(value, 0):
        raise Refusal(CONFIG, f"{what}: it takes neither {count} arguments, as an application of "
                              f"{name} does, nor none, as a function that makes one: name the "
                              f"application")
    if application is None:
        made = make(what, value)
        application = adapt(what, made, key) if callable(made) else None
        if application is None:
            raise Refusal(CONFIG, f"{what}: it made {type(made).__name__!r}, which is no "
                                  f"application of {name} with {count} arguments: name the "
                                  f"application, or a function that makes it")
    return application


def load(key, text):
    what = f"{key} = {text}"
    name, colon, path = text.partition(":")
    is_call = path.endswith("()")
    path = path[:-2] if is_call else path
    if not colon or not name or not all(part.isidentifier() for part in path.split(".")):
        raise Refusal(CONFIG, f"{what}: write MODULE:NAME, as in {key} = app:application")
    value = get_attribute(what, import_module(what, name), path)
    return choose(what, make(what, value) if is_call else value, key)
