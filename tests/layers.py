#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The folders in their order: each includes itself and those before it, supervisor/ and
loader/ never each other, and what runs beside frameworks links none.

usage: layers.py SOURCE BUILD
"""
import collections
import os
import pathlib
import re
import subprocess
import sys

# "." is the folder itself, where all the others come together.
ORDER = {
    "supervisor": ["loop", "figures", "repository", "config", "memory", "process", "control", "inputs",
                   "devices", "spares", "weights", "traffic", "keep", "loaders", "parts",
                   "model", "reload", "metrics", "wire", "gate", "page", "http", "messages",
                   "grpc", "start", "."],
    "loader": ["numbers", "oip", "gpu", "load", "walls", "serve", "hosting", "proof",
               "."],
}
# They stand alone: nobody includes them, and they include themselves and shared/.
ALONE = {"supervisor": {"ctl"}, "loader": {"engines", "aoti", "onnx", "server"}}
# The engines' contract is loader/'s, and everybody's in it.
FOR_ALL = "loader/engine.h"
MOST_FILES = 20
BINARIES = ("moultd", "moult-loader", "moultctl", "moult-nvml", "moult-log")
FRAMEWORK = re.compile(r"NEEDED.*(torch|c10|cuda|nvidia)")


def sources(top):
    return sorted(path for path in pathlib.Path(top).rglob("*")
                  if path.suffix in (".c", ".h", ".cpp", ".hpp"))


def folder_of(path):
    """Of "supervisor/http/conn.c": "supervisor", "http"."""
    parts = pathlib.PurePath(path).parts
    return parts[0], parts[1] if len(parts) > 2 else "."


def includes(path):
    """Without what protobuf-c makes while it is built."""
    found = re.findall(r'^#\s*include "((?:supervisor|loader|shared|tests)/[^"]+)"',
                       path.read_text(), re.MULTILINE)
    return [name for name in found if not name.endswith(".pb-c.h")]


def what_is_wrong(path, included):
    """None, or a sentence."""
    top, folder = folder_of(path)
    other_top, other = folder_of(included)
    if other_top == "shared" or included == FOR_ALL and top == "loader":
        return None
    if top != other_top:
        return f"{top}/ includes {other_top}/"
    if not pathlib.Path(included).exists():
        return "there is no such file"
    if folder == other:
        return None
    if folder in ALONE[top] or other in ALONE[top]:
        return f"{top}/{folder if folder in ALONE[top] else other} stands alone"
    order = ORDER[top]
    return "it comes later" if order.index(other) > order.index(folder) else None


def check_includes(wrong):
    for top in ("shared", *ORDER):
        for path in sources(top):
            for included in includes(path):
                if top == "shared" and not included.startswith("shared/"):
                    wrong.append(f"{path} includes {included}")
                    continue
                why = what_is_wrong(path, included)
                if why:
                    wrong.append(f"{path} includes {included}: {why}")


def check_folders(wrong):
    for top, order in ORDER.items():
        counts = collections.Counter(folder_of(path)[1] for path in sources(top))
        # A folder inside another one is counted by itself.
        sizes = collections.Counter(path.parent for path in sources(top))
        wrong += [f"{top}/{folder} is in no order" for folder in
                  sorted(set(counts) - set(order) - ALONE[top])]
        wrong += [f"{top}/{folder} is in the order, and holds nothing" for folder in order
                  if folder not in counts]
        wrong += [f"{folder} has {n} files, more than {MOST_FILES}" for folder, n in
                  sorted(sizes.items()) if n > MOST_FILES]


def check_binaries(build, wrong):
    for name in BINARIES:
        listed = subprocess.run(["readelf", "-d", build / name], capture_output=True, text=True,
                                check=True).stdout
        wrong += [f"{name} links a framework: {line.strip()}" for line in listed.splitlines()
                  if FRAMEWORK.search(line)]


def main():
    source, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    os.chdir(source)
    wrong = []
    check_includes(wrong)
    check_folders(wrong)
    check_binaries(build, wrong)
    for what in wrong:
        print(what)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
