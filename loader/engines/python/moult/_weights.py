# SPDX-License-Identifier: Apache-2.0
"""The bytes of the section's model file: moult.weights()."""
import os

source = None  # a memoryview, or (descriptor, bytes) of a file
is_shared = False
taken = None


def begin(given, given_is_shared):
    """The loader lends them while the application is loaded; shared ones stay."""
    global source, is_shared
    source, is_shared = given, given_is_shared


def end():
    global source
    if not is_shared:
        source = None


def copy():
    if isinstance(source, memoryview):
        return memoryview(bytearray(source))
    descriptor, size = source
    view = memoryview(bytearray(size))
    at = 0
    while at < size:
        n = os.preadv(descriptor, [view[at:]], at)
        if n == 0:
            raise EOFError("the model file has become shorter")
        at += n
    return view


def get():
    global taken
    if taken is None:
        if source is None:
            raise RuntimeError("there are no weights: the section names no file in path, or they "
                               "were not asked for while the application was loaded")
        taken = source if is_shared else copy()
    return taken
