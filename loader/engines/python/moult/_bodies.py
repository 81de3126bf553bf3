# SPDX-License-Identifier: Apache-2.0
"""The bodies of requests and answers of classes that take requests of HTTP, and the exceptions that
stand for an answer."""
import email.parser
import email.utils
import json
import re
import typing
import urllib.parse

import moult

URLENCODED = "application/x-www-form-urlencoded"
# What is nested more deeply neither this package nor a class could walk through.
DEPTH_MAX = 200
# Python itself takes no longer ones from a text.
DIGITS_MAX = 4300
# Makes of a body what is left of its lists and objects: "[" and "]".
SHAPE = bytes.maketrans(b"{}", b"[]")
NO_SHAPE = bytes(set(range(256)) - set(b"[]{}"))
# Makes the digits of a body alike, and the signs of an exponent.
NUMBERS = bytes.maketrans(b"123456789E", b"000000000e")
LARGE = (b"e000", b"0" * 300)
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Failure(Exception):
    """An answer that says what is wrong with the request."""

    def __init__(self, status, answer):
        super().__init__(status, answer)
        self.status = status
        self.answer = answer


# Exceptions that stand for an answer, by the package and the name of the class: the attributes
# that have the status and the text, and the text's name in the answer.
ANSWERS = {
    ("fastapi", "HTTPException"): ("status_code", "detail", "detail"),
    ("starlette", "HTTPException"): ("status_code", "detail", "detail"),
    ("ts", "PredictionException"): ("error_code", "message", "error"),
}


def to_failure(error):
    """The answer that an exception stands for; None: it is an error of the model's. Others that
    happen to have a status are errors, too: that of a client of another service is about the
    model's request, and its text may have the model's key in it."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, moult.BadRequest):
        return Failure(400, {"error": str(error)})
    for base in type(error).__mro__:
        found = ANSWERS.get((base.__module__.partition(".")[0], base.__name__))
        code = getattr(error, found[0], None) if found else None
        if isinstance(code, int) and 400 <= code <= 599:
            return Failure(code, {found[2]: getattr(error, found[1], str(error))})
    return None


def to_plain(value):
    """For JSON: arrays and tensors as lists, models of pydantic as dicts."""
    for name in ("tolist", "model_dump"):
        function = getattr(value, name, None)
        if callable(function):
            return function()
    raise TypeError(f"the answer has {type(value).__name__!r} in it, which JSON has no form for: "
                    f"return str, bytes, numbers, lists and dicts")


WRITE = json.JSONEncoder(default=to_plain, allow_nan=False).encode


def write_json(value):
    try:
        return WRITE(value)
    except ValueError:
        json.dumps(value, default=to_plain)  # raises what else is wrong
        raise Failure(500, {"error": "the answer has NaN or Infinity in it, which JSON has no form "
                                     "for: the model must return None or text instead"}) from None


def encode(value):
    """The body, and its type."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    return write_json(value).encode(), "application/json"


def chain(first, parts):
    yield first
    yield from parts


def encode_parts(parts):
    """As bytes. The first one is made at once: what it raises can still be answered."""
    parts = (encode(part)[0] for part in parts)
    return chain(next(parts, b""), parts)


def wrong(why):
    return Failure(400, {"error": f"the body is no JSON: {why}"})


def is_deep(body):
    """Whether more than DEPTH_MAX lists and objects lie in one another."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return False
    outside = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    left = b"".join(outside).translate(SHAPE, NO_SHAPE)
    for _ in range(DEPTH_MAX):
        if b"[" * (DEPTH_MAX + 1) in left:
            return True
        fewer = left.replace(b"[]", b"")
        if len(fewer) == len(left):
            return False  # nothing is left, or it is no JSON
        left = fewer
    return bool(left)


def to_object(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Failure(400, {"error": f"an object of the body has the name {twice!r} twice"})
    return found


def to_constant(text):
    raise wrong(f"it has {text} in it, which JSON has no form for")


def to_int(text):
    if len(text) > DIGITS_MAX:
        raise Failure(400, {"error": f"the body has an integer of {len(text)} digits, and "
                                     f"{DIGITS_MAX} are taken at most"})
    return int(text)


def to_float(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Failure(400, {"error": f"the body has a number that no float holds: {text[:40]}"})
    return value


# One for bodies that have numbers which no float may hold, or that take long to read.
READ = json.JSONDecoder(object_pairs_hook=to_object, parse_constant=to_constant).decode
READ_LARGE = json.JSONDecoder(object_pairs_hook=to_object, parse_constant=to_constant,
                              parse_int=to_int, parse_float=to_float).decode


def read_json(body):
    """What JSON has two readings of, or none, is refused: a class need not look."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(f"byte {error.start} is no UTF-8") from None
    deep = Failure(400, {"error": f"the body has more than {DEPTH_MAX} lists and objects in one "
                                  f"another"})
    if is_deep(body):
        raise deep
    numbers = body.translate(NUMBERS, b"+")
    try:
        value = READ_LARGE(text) if any(one in numbers for one in LARGE) else READ(text)
        if SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:  # on a thread that is deep in calls already
        raise deep from None
    except UnicodeEncodeError as error:
        raise Failure(400, {"error": f"a text of the body has half a character in it: "
                                     f"\\u{ord(error.object[error.start]):04x} alone"}) from None
    except ValueError as error:
        raise wrong(error) from None
    return value


def read_multipart(content_type, body):
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    try:
        message = email.parser.BytesParser().parsebytes(head + body)
    except RecursionError:
        message = None
    if message is None or not message.is_multipart():
        raise Failure(400, {"error": "the form cannot be read"})
    fields = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        if name and part.is_multipart():
            raise Failure(400, {"error": f"the form's field {name!r} is a form of its own"})
        if name:
            fields[email.utils.collapse_rfc2231_value(name)] = part.get_payload(decode=True)
    return fields


def hints_of(function):
    """The types that the parameters of @function are annotated with."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that is there for type checkers alone
        return {}


# What an argument that is annotated with a plain type may be. An integer is a number, too; true and
# false are none.
PLAIN = {int: int, float: (int, float), bool: bool, str: str, list: list, dict: dict}


def check_plain(name, kind, default, value):
    """Refuses @value for the argument @name, if its type is a plain one and @value is not of it."""
    try:
        wanted = PLAIN.get(kind)
    except TypeError:  # a type that has no hash
        return
    if wanted is None or default is None and value is None:
        return
    if not isinstance(value, wanted) or isinstance(value, bool) and kind is not bool:
        raise Failure(400, {"error": f"the argument {name!r} must be {kind.__name__}, not "
                                     f"{'null' if value is None else type(value).__name__}"})


def shape(kind, value):
    """@value as @kind, if that is a model of pydantic's; else as it is."""
    validate = getattr(kind, "model_validate", None)
    if not callable(validate):
        return value
    try:
        return validate(value)
    except ValueError as error:
        text = error.json() if callable(getattr(error, "json", None)) else json.dumps(str(error))
        # What was wrong may be NaN, which the answer cannot have.
        raise Failure(422, {"detail": json.loads(text, parse_constant=str)}) from None


class Request:
    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        self.path = environ["PATH_INFO"]
        self.content_type = environ.get("CONTENT_TYPE", "")
        self.media = self.content_type.partition(";")[0].strip().lower()
        self.body = environ["wsgi.input"].read()
        self.environ = environ

    def headers(self):
        found = {name[5:].replace("_", "-").title(): value
                 for name, value in self.environ.items() if name.startswith("HTTP_")}
        if self.content_type:
            found["Content-Type"] = self.content_type
        return found

    def has_json(self):
        """Also application/problem+json, and others of that kind: RFC 6839."""
        return self.media in ("", "application/json") or \
            self.media.startswith("application/") and self.media.endswith("+json")

    def has_form(self):
        return self.media in ("multipart/form-data", URLENCODED)

    def read_form(self):
        """The fields of a form, as bytes."""
        if self.media == URLENCODED:
            return {name: value.encode("latin-1") for name, value in urllib.parse.parse_qsl(
                self.body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")}
        return read_multipart(self.content_type, self.body)

    def arguments(self):
        """The object that the body is. Such a one in the place of a form is taken, too: curl's -d
        calls whatever it sends a form."""
        found = None
        if self.has_json():
            found = self.json()
        elif self.media == URLENCODED:
            try:
                found = read_json(self.body)
            except Failure:
                if self.body[:1] == b"{":
                    raise
        if isinstance(found, dict):
            return found
        if self.has_json():
            raise Failure(400, {"error": "the body must be an object that has the arguments by "
                                         "their names"})
        raise Failure(415, {"error": f"'{self.content_type}' is not taken here: send "
                                     f"application/json"})

    def json(self):
        return read_json(self.body)
