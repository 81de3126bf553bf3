# SPDX-License-Identifier: Apache-2.0
"""Archives of TorchServe's: "model = FILE.mar". What is in one is unpacked into a folder of the
loader's own, which goes with the loader and is the working directory from then on, as it is there.
"""
import importlib
import json
import os
import stat
import sys
import zipfile

from moult import _lane, _load
from moult._load import CONFIG, FAILED, Refusal

MANIFEST = os.path.join("MAR-INF", "MANIFEST.json")
ENTRIES_MAX = 65_536
BYTES_MAX = 64 << 30
# Of what the archive has, so many names go into a sentence.
NAMES_MAX = 12
# The package of the handlers that TorchServe itself has.
DEFAULTS = "ts.torch_handler"

folder = None
lock = None  # the descriptor that holds the folder's, with its identity


def check(what, infos):
    """No name may lead out of the folder, and all must have room."""
    if len(infos) > ENTRIES_MAX:
        raise Refusal(CONFIG, f"{what}: the archive has {len(infos)} entries, and {ENTRIES_MAX} "
                              f"are taken at most: leave out what the handler does not need")
    for info in infos:
        name = info.filename
        if name.startswith("/") or ".." in name.split("/"):
            raise Refusal(CONFIG, f"{what}: the archive has an entry {name!r} that would lie "
                                  f"outside of its folder: do not trust the archive, or make it "
                                  f"again")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise Refusal(CONFIG, f"{what}: the archive has a symbolic link {name!r}: put the file "
                                  f"itself into it")
    size = sum(info.file_size for info in infos)
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if size > BYTES_MAX:
        raise Refusal(CONFIG, f"{what}: the archive unpacks to {size} bytes, and {BYTES_MAX} are "
                              f"taken at most")
    if size > free:
        raise Refusal(FAILED, f"{what}: the archive unpacks to {size} bytes, and {folder} has room "
                              f"for {free}: make room, or set environment.TMPDIR to a folder that "
                              f"has more")


def unpack(what, path):
    global folder, lock
    try:
        folder, descriptor = _lane.make_folder()
        status = os.fstat(descriptor)
        lock = (descriptor, status.st_dev, status.st_ino)
        with zipfile.ZipFile(path) as archive:
            check(what, archive.infolist())
            archive.extractall(folder)
    except Refusal:
        raise
    except OSError as error:
        raise Refusal(FAILED, f"{what}: the archive cannot be unpacked: {error}") from None
    except Exception as error:  # those of zipfile, and of each way to compress
        raise Refusal(CONFIG, f"{what}: this is no archive of TorchServe's, or not the whole of one "
                              f"({_load.describe(error)}): copy it again, or make it by "
                              f"torch-model-archiver --archive-format default") from None


def remove():
    """Accepts that there is none."""
    global folder
    if folder is not None:
        _lane.remove_folder(folder)
        folder = None


def read_manifest(what):
    """What the archive says of itself, from the working directory."""
    try:
        with open(MANIFEST, encoding="utf-8") as stream:
            manifest = json.load(stream)
    except FileNotFoundError:
        raise Refusal(CONFIG, f"{what}: the archive has no {MANIFEST}: make it by "
                              f"torch-model-archiver") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal(FAILED if isinstance(error, OSError) else CONFIG,
                      f"{what}: '{MANIFEST}' cannot be read ({error}): make the archive "
                      f"again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("model"), dict):
        raise Refusal(CONFIG, f"{what}: '{MANIFEST}' has no object 'model': make the archive again")
    return manifest


def import_default(what, name):
    """One of TorchServe's own handlers."""
    missing = f"{what}: the archive has no file '{name}.py'"
    if not name.isidentifier():
        raise Refusal(CONFIG, f"{missing}: it has {names_of_files()}")
    try:
        return importlib.import_module(f"{DEFAULTS}.{name}")
    except ModuleNotFoundError as error:
        if error.name == f"{DEFAULTS}.{name}":
            raise Refusal(CONFIG, f"{missing}, and TorchServe has no handler of that name; the "
                                  f"archive has {names_of_files()}") from None
        if not _load.is_missing(error, f"{DEFAULTS}.{name}"):
            _load.refuse(what, f"importing '{DEFAULTS}.{name}'", error,
                         f"install '{error.name}' for {sys.executable}")
        raise Refusal(CONFIG, f"{missing}, so that '{name}' is a handler of TorchServe's own, and "
                              f"{sys.executable} has no package 'ts': install torchserve for it, "
                              f"or put a handler into the archive") from None
    except BaseException as error:
        _load.refuse(what, f"importing '{DEFAULTS}.{name}'", error)


def names_of_files():
    names = sorted(name for name in os.listdir(".") if not name.startswith((".", "MAR-INF")))
    return ", ".join(names[:NAMES_MAX]) or "nothing"


def find(what, text):
    """The handler's module, and the name of what it has in it; None: the module tells."""
    path = os.path.abspath(text)
    if not os.path.isfile(path):
        raise Refusal(CONFIG, f"{what}: there is no file '{path}': give its path from "
                              f"working_directory, or mend that")
    unpack(what, path)
    os.chdir(folder)
    handler = read_manifest(what)["model"].get("handler")
    if not isinstance(handler, str) or not handler:
        raise Refusal(CONFIG, f"{what}: '{MANIFEST}' names no handler: make the archive with "
                              f"--handler")
    name, _, function = handler.partition(":")
    name = os.path.basename(name)
    name = name[:-3] if name.endswith(".py") else name
    what = f"{what}: handler {handler!r}"
    sys.path.insert(0, folder)
    module = _load.import_module(what, name + ".py") if os.path.isfile(name + ".py") \
        else import_default(what, name)
    return what, module, function or None
