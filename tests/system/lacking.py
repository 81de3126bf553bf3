#!/usr/bin/python3 -B
# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a kernel that lacks a layer of the walls: its calls fail as they do there.

usage: lacking.py landlock|seccomp|both PROGRAM [ARGUMENT ...]
"""
import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_SECCOMP = 38, 21, 22
LANDLOCK_CREATE_RULESET = 444
PRCTL = {"x86_64": 157, "aarch64": 167}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
ENOSYS, EINVAL = 38, 22
NUMBER, FIRST_ARGUMENT = 0, 16


def program(lacks):
    steps = []
    if lacks in ("landlock", "both"):
        steps += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 1, LANDLOCK_CREATE_RULESET),
                  (RETURN, 0, 0, ERRNO | ENOSYS)]
    if lacks in ("seccomp", "both"):
        steps += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, 3, PRCTL), (LOAD, 0, 0, FIRST_ARGUMENT),
                  (EQUAL, 0, 1, PR_GET_SECCOMP), (RETURN, 0, 0, ERRNO | EINVAL)]
    return steps + [(RETURN, 0, 0, ALLOW)]


def lack(what):
    libc = ctypes.CDLL(None, use_errno=True)
    steps = program(what)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(filter_))):
        sys.exit(os.strerror(ctypes.get_errno()))


lack(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
