# SPDX-License-Identifier: Apache-2.0
"""WSGI applications that say what they were asked, for test_python.c."""
import inspect
import multiprocessing
import os
import sys
from wsgiref.validate import validator

import moult

closed = []


class Parts:
    """Three parts, and what became of the last answer of this kind."""

    def __init__(self, fails):
        self.fails = fails

    def __iter__(self):
        yield b"one,"
        yield b"two,"
        if self.fails:
            raise RuntimeError("amid the answer")
        yield b"three"

    def close(self):
        closed.append(self.fails)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    fields = [("Content-Type", "text/plain")]
    if path == "/exit":
        sys.exit(3)
    if path == "/raise":
        raise KeyError("before the answer")
    if path == "/never":
        return [b"x"]
    if path == "/text":
        start_response("200 OK", fields)
        return ["text"]
    if path == "/own":
        start_response("500 Mine", fields)
        return [b"my own words"]
    if path == "/late":
        start_response("200 OK", fields)
        try:
            raise ValueError("first")
        except ValueError:
            start_response("503 Busy", fields, sys.exc_info())
        return [b"late"]
    if path == "/short":
        start_response("200 OK", fields + [("Content-Length", "9")])
        return iter([b"12345"])
    if path in ("/parts", "/broken"):
        start_response("200 OK", fields)
        return Parts(path == "/broken")
    if path == "/main":
        start_response("200 OK", fields)
        return [inspect.getfile(sys.modules["__main__"]).encode()]
    if path == "/spawn":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            length = pool.apply(len, ("four",))
        start_response("200 OK", fields)
        return [b"spawned %d" % length]
    if path == "/closed":
        start_response("200 OK", fields)
        return [repr(closed).encode()]
    if path == "/write":
        write = start_response("200 OK", fields)
        write(b"written,")
        return [b"returned"]
    if path == "/fork":
        child = os.fork()
        if child == 0:
            held = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
            os._exit(len(held) - 1)  # that of listdir()
        start_response("200 OK", fields)
        return [str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()]
    return tell(environ, start_response)


def tell(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    lines = [f"{name}={environ[name]}" for name in sorted(environ)
             if name.startswith(("HTTP_", "CONTENT_", "SERVER_", "PATH_", "QUERY_", "SCRIPT_",
                                 "REQUEST_M", "REMOTE_", "wsgi.m", "wsgi.r", "wsgi.u"))]
    lines += [f"secret={moult.secrets.get('TOKEN')}", f"env={os.environ.get('TOKEN')}",
              f"cwd={os.getcwd()}", f"body={body.decode('latin-1')}"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Twice", "a"),
                              ("X-Twice", "b")])
    return [line.encode("latin-1") + b"\n" for line in lines]


validated = validator(tell)


def factory():
    return application


def exits():
    sys.exit("no")


def fails():
    raise OSError("no such luck")


def makes_none():
    return None


def takes_one(one):
    return one


number = 5
