# SPDX-License-Identifier: Apache-2.0
# The program of an interpreter that becomes a loader: see loader/interpreter.c. Any Python reads
# this, also one that moult does not work with: then REFUSED goes over the control channel
# (shared/proto.h), and names the remedy.
import sys


def refuse(reason):
    import json
    import os
    import struct
    text = json.dumps({"code": "config", "reason": "python = %s %s" % (
        sys.executable, reason)}).encode("utf-8")
    head = struct.pack("<4sHHQII", b"MOLT", int(sys.argv[3]), 20, int(sys.argv[2]), len(text), 0)
    os.write(3, head + text)
    os._exit(64)


def check():
    if sys.version_info < (3, 9):
        refuse("is Python %d.%d: moult needs 3.9 or later" % sys.version_info[:2])
    if sys.implementation.name != "cpython":
        refuse("is %s: moult needs CPython, from 3.9 on" % sys.implementation.name)
    if "t" in sys.abiflags:
        refuse("has no GIL, and moult's module needs one: use the usual build of Python")


def load(directory):
    # With -c the folder that moultd was started in stands first.
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    import importlib.machinery
    import importlib.util
    path = directory + "/moult-engine-python.so"
    loader = importlib.machinery.ExtensionFileLoader("_moult_loader", path)
    try:
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_file_location("_moult_loader", path, loader=loader))
    except ImportError as error:
        refuse("cannot load moult's module (%s): install moult wholly, from one build" % error)
    sys.path.append(directory + "/python")
    # A program that -c gives has no file, and applications ask for it (inspect.getfile).
    sys.modules["__main__"].__file__ = directory + "/python/main.py"
    return module


check()
module = load(sys.argv[1])
if int(sys.argv[2]) == 0:
    from moult import _ahead
    module.run(0, sys.argv[1], _ahead)
module.run(int(sys.argv[2]))
