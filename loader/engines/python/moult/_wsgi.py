# SPDX-License-Identifier: Apache-2.0
"""Serves a WSGI application (PEP 3333) from threads."""
import io
import sys
import threading
import traceback
import urllib.parse
import wsgiref.util

from moult import _lane

LAST, FAULT = 1, 2
AGAIN, END, GONE = 1, 2, 3
LOG_WARNING = 4
# How long the end waits for requests that are being answered.
CLOSE_S = 3.0


def make_environ(request, is_threaded):
    _, method, target, fields, body, client = request
    path, _, query = target.partition("?")
    environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": target,
        "REQUEST_URI": target,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "moult",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": is_threaded,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": wsgiref.util.FileWrapper,
    }
    if client:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    add_fields(environ, fields)
    if body or "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def add_fields(environ, fields):
    for name, value in fields:
        # "a_b" would be the variable of "a-b"; PROXY is a variable that HTTP clients obey.
        if "_" in name or name == "proxy":
            continue
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        if key in environ:
            value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    host, colon, port = environ.get("HTTP_HOST", "").rpartition(":")
    if colon and port.isdigit():
        environ["SERVER_NAME"], environ["SERVER_PORT"] = host, port
    elif "HTTP_HOST" in environ:
        environ["SERVER_NAME"] = environ["HTTP_HOST"] or "localhost"


def read_fields(fields):
    """The fields as a list, and the length that they give the body, or None."""
    length = None
    if not isinstance(fields, (list, tuple)):
        raise TypeError(f"headers are a list of pairs of str, not {fields!r}")
    for field in fields:
        if not isinstance(field, (list, tuple)) or len(field) != 2:
            raise TypeError(f"headers are a list of pairs of str, and one is {field!r}")
        name, value = field
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"names and values of headers must be str, not {name!r}: {value!r}")
        if name.lower() == "content-length":
            if not value.isdecimal():
                raise ValueError(f"the header Content-Length must be a number, not {value!r}")
            length = int(value)
    return list(fields), length


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Answer:
    """The answer to one request, from start_response() to its last part."""

    def __init__(self, number, method):
        self.number = number
        self.is_head = method == "HEAD"
        self.status = None  # start_response() was not called
        self.fields = ()
        self.length = None  # of the body, where the application has said it
        self.sent = 0
        self.has_begun = False
        self.has_ended = False

    def start_response(self, status, fields, exc_info=None):
        if exc_info:
            try:
                if self.has_begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # no circle of references
        elif self.status is not None:
            raise AssertionError("start_response was called again, without an error that its "
                                 "second answer would be for (PEP 3333)")
        return self.begin(status, fields)

    def begin(self, status, fields):
        if not isinstance(status, str) or not status[:3].isdigit() or status[3:4] not in ("", " "):
            raise ValueError(f"the status must be as '200 OK', not {status!r}")
        self.fields, self.length = read_fields(fields)
        self.status = int(status[:3])
        return self.write

    def give(self, flags, status, fields, body):
        outcome = _lane.answer(self.number, flags, status, fields, body)
        self.has_begun = True
        self.has_ended = bool(flags & LAST)
        if outcome and not self.has_ended:
            raise Gone()

    def send(self, body, is_last=False):
        if self.status is None:
            raise AssertionError("start_response was not called before the application's answer")
        self.sent += len(body)
        is_last = is_last or self.sent == self.length
        if self.has_begun:
            self.give(LAST if is_last else 0, 0, (), body)
        else:
            # A framework that has caught what the application raised answers with 500.
            fault = FAULT if self.status == 500 else 0
            self.give(fault | (LAST if is_last else 0), self.status, self.fields, body)

    def write(self, body):
        if not isinstance(body, bytes):
            raise TypeError(f"WSGI takes bytes, and the application gave "
                            f"{type(body).__name__!r}: encode() it")
        if not body:
            return
        if self.length is not None and self.sent + len(body) > self.length:
            if not self.has_ended:
                self.send(body[:self.length - self.sent], True)
            raise ValueError(f"the answer is longer than its Content-Length of {self.length}")
        self.send(body)

    def finish(self):
        """The application has given all that it had."""
        if self.has_ended:
            return
        if self.length is not None and self.sent < self.length and not self.is_head and \
                self.status != 304:
            raise ValueError(f"the application gave {self.sent} bytes, and its Content-Length "
                             f"is {self.length}")
        self.send(b"", True)

    def break_off(self, what):
        """Ends the answer where the application failed. A client sees either a 500, or an answer
        that was cut: never one that looks whole."""
        if self.has_ended:
            return
        if self.has_begun:
            self.give(LAST | FAULT, 0, (), b"")
            return
        text = f"500 Internal Server Error: {what}; the log has more\n".encode()
        self.give(LAST | FAULT, 500, [("Content-Type", "text/plain; charset=utf-8")], text)

    def leave(self):
        if not self.has_ended:
            self.give(LAST, 0 if self.has_begun else 500, (), b"")


def send_all(answer, result):
    if isinstance(result, (list, tuple)):
        parts = [part for part in result]
        for part in parts:
            if not isinstance(part, bytes):
                answer.write(part)
        body = b"".join(parts)
        if not answer.has_begun and answer.length in (None, len(body)):
            answer.send(body, True)
            return
        answer.write(body)
    else:
        try:
            parts = iter(result)
        except TypeError:
            given = "None" if result is None else repr(type(result).__name__)
            raise TypeError(f"the application gave {given}: an application returns an iterable "
                            f"of bytes") from None
        for part in parts:
            answer.write(part)
    answer.finish()


class Server:
    def __init__(self, application, threads):
        self.application = application
        self.threads = [threading.Thread(target=self.run, name=f"moult-{i}", daemon=True)
                        for i in range(threads)]
        self.is_threaded = threads > 1

    def start(self):
        for thread in self.threads:
            thread.start()

    @staticmethod
    def take(waits):
        return _lane.take(waits, False)

    def run(self):
        while True:
            try:
                request = self.take(True)
            except MemoryError:
                traceback.print_exc()
                continue
            if request is False:
                return
            if request is not None:
                self.serve(request)

    def serve(self, request, application=None):
        """Answers with what @application makes of it, or else the server's own."""
        application = application or self.application
        answer = Answer(request[0], request[1])
        result = None
        try:
            environ = make_environ(request, self.is_threaded)
            result = application(environ, answer.start_response)
            send_all(answer, result)
        except Gone:
            pass
        except BaseException as error:
            traceback.print_exc()
            self.fail(answer, error)
        finally:
            self.close_result(result)
            try:
                answer.leave()
            except Gone:
                pass

    @staticmethod
    def fail(answer, error):
        what = "the application called sys.exit()" if isinstance(error, SystemExit) \
            else f"the application failed with {type(error).__name__}"
        try:
            answer.break_off(what)
        except Gone:
            pass

    @staticmethod
    def close_result(result):
        close = getattr(result, "close", None)
        if close is None:
            return
        try:
            close()
        except BaseException:
            traceback.print_exc()

    def close(self):
        for thread in self.threads:
            thread.join(CLOSE_S / len(self.threads))
