# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand, for what no library sends: frames, heads without compression, and messages of
gRPC. Of answers it reads frames, and no head: a call that was answered with a message is good."""
import socket
import struct
import threading

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
FLOATS = struct.pack("<4f", 1.0, -2.0, 0.5, 4.0)
MANY = 0x7fffffff


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + \
        struct.pack(">I", stream) + payload


def settings(**values):
    ids = {"table": 1, "streams": 3, "window": 4, "frame": 5, "heads": 6}
    return frame(SETTINGS, payload=b"".join(
        struct.pack(">HI", ids[name], value) for name, value in values.items()))


def window(stream, bytes_more):
    return frame(WINDOW, 0, stream, struct.pack(">I", bytes_more))


def reset(stream, code=8):
    return frame(RST, 0, stream, struct.pack(">I", code))


def ping(flags=0):
    return frame(PING, flags, 0, b"12345678")


def priority(stream, parent=0):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", parent, 15))


def number(value, most=127):
    """An integer of HPACK (RFC 7541, 5.1)."""
    if value < most:
        return bytes([value])
    out, value = bytes([most]), value - most
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def field(name, value, kind=b"\0"):
    """A literal; kind b"\\x40" puts it into the table."""
    name, value = name.encode(), value.encode()
    return kind + number(len(name)) + name + number(len(value)) + value


def fields(path=INFER, **more):
    pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
             "content-type": "application/grpc", "te": "trailers", **more}
    return b"".join(field(name, value) for name, value in pairs.items())


def head(stream, path=INFER, flags=END_HEADERS, **more):
    return frame(HEADERS, flags, stream, fields(path, **more))


def part(n, payload):
    return bytes([n << 3 | 2]) + number_of(len(payload)) + payload


def number_of(value):
    out = b""
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def message(model=b"echo", raw=FLOATS):
    tensor = part(1, b"x") + part(2, b"FP32") + part(3, b"\1" + number_of(len(raw) // 4))
    return part(1, model) + part(5, tensor) + part(7, raw)


def framed(payload, packed=0):
    """A message of gRPC."""
    return struct.pack(">BI", packed, len(payload)) + payload


def data(stream, payload, flags=END_STREAM):
    return frame(DATA, flags, stream, payload)


def call(stream, **more):
    return head(stream, **more) + data(stream, framed(message()))


class Client:
    """A connection whose answers are read by whoever asks for them."""

    def __init__(self, port, greet=True, room=0, **values):
        self.sock = socket.socket()
        if room:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.sock.settimeout(120)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.sock.makefile("rb")
        if greet:
            self.send(PREFACE + settings(**values))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stream.close()
        self.sock.close()

    def shut(self):
        """Wakes who reads and who sends."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the server was first

    def send(self, raw):
        self.sock.sendall(raw)
        return self

    def try_send(self, raw):
        """False: the server has ended the connection."""
        try:
            self.sock.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read(self):
        """(kind, flags, stream, payload), or None at the end."""
        try:
            start = self.stream.read(9)
            if len(start) < 9:
                return None
            payload = self.stream.read(int.from_bytes(start[:3], "big"))
        except ConnectionResetError:
            return None
        return start[3], start[4], int.from_bytes(start[5:], "big") & MANY, payload

    def frames(self):
        """All until the server ends the connection."""
        return list(iter(self.read, None))

    def until(self, *kinds, stream=None):
        """The next frame of @kinds, or None at the end."""
        while (got := self.read()) is not None:
            if got[0] in kinds and stream in (None, got[2]):
                return got
        return None

    def answer(self, stream):
        """The message that answers a call; b"": it was refused; None: there is no answer."""
        body = b""
        while (got := self.until(DATA, HEADERS, RST, GOAWAY)) is not None:
            kind, flags, which, payload = got
            if kind == GOAWAY or which == stream and kind == RST:
                return None
            if which != stream:
                continue
            if kind == DATA:
                body += payload
                self.send(window(0, len(payload)) if payload else b"")
            if flags & END_STREAM:
                return body
        return None


class Others:
    """Clients that do no harm: one call after the other, each on a connection that stays."""

    def __init__(self, port, clients=2):
        self.answered, self.lost = 0, []
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(port,), daemon=True)
                        for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, port):
        with Client(port) as client:
            stream = 1
            while not self.is_over.is_set():
                try:
                    body = client.send(call(stream)).answer(stream)
                except OSError as error:
                    body = repr(error).encode()
                if not body or FLOATS not in body:
                    self.lost.append((stream, body))
                    return
                self.answered += 1
                stream += 2

    def stop_and_check(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        print(f"others: {self.answered} calls answered, {len(self.lost)} lost")
        assert not self.lost and self.answered > 0, self.lost[:5]
