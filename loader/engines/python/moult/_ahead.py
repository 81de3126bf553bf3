# SPDX-License-Identifier: Apache-2.0
"""What a spare of engine python does before it is anybody's loader: it imports modules, and later
sees whether a loader that is started now would import the same (loader/interpreter_module.c).

It knows no model, no secret and no route. What it imports has to be what the application would
import: a module that is found otherwise once the application's own folder stands in sys.path makes
the spare useless, and so does a file that has changed.
"""
import importlib
import importlib.util
import os
import socket
import sys
import sysconfig
import traceback

LOG_WARNING = 4

names = [name for name in sys.argv[4].split(",") if name]
file = sys.argv[5]
# What the application finds there is as in any loader.
del sys.argv[4:]

ahead = set()  # top-level names of what was imported
files = {}  # path: identity, of what was imported
folders = {}  # path: identity, of sys.path


def identity(path):
    """Of the file that has this name now; None: none has."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def application_folders():
    """Where the application's own modules are looked for first."""
    return {os.getcwd(), os.path.dirname(os.path.abspath(file))} if file else {os.getcwd()}


def is_installed(path):
    return path.startswith(sysconfig.get_paths()["stdlib"] + "/") or "-packages/" in path


def is_own(name):
    """Whether module @name is the application's: to be found, but not installed, below its
    folder."""
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except ValueError:
        return False  # a module without one
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
    return any(os.path.abspath(place).startswith(folder + "/") and not is_installed(place + "/")
               for place in places for folder in application_folders() if folder != "/")


def find_shadow(modules):
    """What in the application's folders would be imported in the place of one of @modules."""
    for folder in application_folders():
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            name, dot, suffix = entry.partition(".")
            path = os.path.join(folder, entry)
            if name in modules and (suffix == "py" or suffix.endswith("so") or not dot and
                                    os.path.exists(os.path.join(path, "__init__.py"))):
                return f"'{path}' stands before module '{name}', which was imported ahead"
    return ""


def open_files():
    """{descriptor: (device, inode)}"""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # that of listdir()
        found[int(name)] = status.st_dev, status.st_ino
    return found


def listens(number):
    try:
        with socket.socket(fileno=os.dup(number)) as one:
            return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError:
        return False


def leave_out_own():
    """The names of the others."""
    from moult import _lane
    own = {name for name in names if is_own(name)}
    for name in own:
        _lane.log(LOG_WARNING, "preload_left_out", f"module '{name}' is the application's own")
    return [name for name in names if name not in own]


def import_ahead(name):
    """An error is not the spare's: the application's own import raises it again."""
    from moult import _lane, _load
    try:
        importlib.import_module(name)
    except BaseException as error:
        traceback.print_exc()
        _lane.log(LOG_WARNING, "preload_failed",
                  f"importing '{name}' ahead raised {_load.describe(error)}: leave it out of "
                  f"preload, or install it for {sys.executable}")


def import_all(wanted):
    """"", or why this is no spare."""
    from moult import _engine
    _engine.keep_signals()
    before = open_files()
    for name in wanted:
        import_ahead(name)
        for number, place in open_files().items():
            if before.get(number) == place:
                continue
            if listens(number):
                return (f"preload: module '{name}' listens on a socket when it is imported: "
                        f"leave it out")
            before[number] = place
            _engine.foreign.add((number, *place))
    return ""


def note():
    """What was imported, from where."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and os.path.isabs(path):
            files[path] = identity(path)
    files[os.path.join(sys.prefix, "pyvenv.cfg")] = None
    for path in list(files):
        files[path] = identity(path)
    for path in sys.path:
        folders[path] = identity(path)


def prepare(_):
    """"", or why this is no spare."""
    before = set(sys.modules)
    for name in ("_asgi", "_classes", "_wsgi"):
        importlib.import_module(f"moult.{name}")
    wanted = leave_out_own()
    # Before the time is spent on it.
    shadow = find_shadow({name.partition(".")[0] for name in wanted})
    if shadow:
        return f"preload: {shadow}"
    why = import_all(wanted)
    ahead.update(name.partition(".")[0] for name in set(sys.modules) - before)
    note()
    shadow = find_shadow(ahead)
    return why or shadow and f"preload: {shadow}"


def find_outdated(is_taken):
    """"", or what has changed; all files are looked at when the spare is taken."""
    for path, one in (files if is_taken else folders).items():
        if identity(path) != one:
            return f"'{path}' has changed"
    return find_shadow(ahead) if is_taken else ""
