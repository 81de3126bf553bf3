# SPDX-License-Identifier: Apache-2.0
"""Certificates that openssl(1) makes, their installation as operators do it, and clients of TLS."""
import os
import pathlib
import shutil
import socket
import ssl
import subprocess

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
RSA = ["-newkey", "rsa:2048"]


def openssl(*arguments):
    result = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Authority:
    def __init__(self, folder, name="authority"):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(parents=True)
        self.key, self.certificate = self.folder / "ca.key", self.folder / "ca.pem"
        self.n = 0
        openssl("req", "-x509", *CURVE, "-nodes", "-keyout", self.key, "-out", self.certificate,
                "-days", 30, "-subj", f"/CN={name}")

    def issue(self, days=30, usage="serverAuth", kind=CURVE):
        """Paths of a certificate and its key."""
        self.n += 1
        stem = self.folder / f"{self.n}"
        key, request, certificate = (stem.with_suffix(s) for s in (".key", ".csr", ".pem"))
        openssl("req", "-new", *kind, "-nodes", "-keyout", key, "-out", request,
                "-subj", f"/CN=localhost/serialNumber={self.n}")
        extensions = stem.with_suffix(".ext")
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                              f"extendedKeyUsage={usage}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-set_serial", self.n, "-days", days, "-extfile", extensions, "-out", certificate)
        return certificate, key

    def context(self, client=None):
        context = ssl.create_default_context(cafile=self.certificate)
        if client:
            context.load_cert_chain(*client)
        return context


def put(source, target):
    """By one rename, as tools that know how do it."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.copyfile(source, fresh)
    os.rename(fresh, target)


class Pair:
    """Where moultd looks."""

    def __init__(self, home, certificate, key):
        self.certificate, self.key = home / "server.pem", home / "server.key"
        self.install(certificate, key)

    def install(self, certificate, key):
        put(certificate, self.certificate)
        put(key, self.key)

    def keys(self, **more):
        return "".join(f"{key} = {value}\n" for key, value in
                       {"tls_certificate": self.certificate, "tls_key": self.key, **more}.items())


def serial(port, context):
    """Of the certificate that a new connection gets."""
    with socket.create_connection(("127.0.0.1", port), 60) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as client:
        return int(client.getpeercert()["serialNumber"], 16)


class Session:
    """A client that can end what it sends and read on, which the standard library's cannot."""

    def __init__(self, port, context):
        self.raw = socket.create_connection(("127.0.0.1", port), 60)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.do(self.tls.do_handshake)

    def flush(self):
        if self.outgoing.pending:
            self.raw.sendall(self.outgoing.read())

    def do(self, action):
        while True:
            try:
                result = action()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.raw.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def send(self, data):
        self.do(lambda: self.tls.write(data))

    def end(self):
        self.raw.shutdown(socket.SHUT_WR)

    def read(self):
        """All until the end."""
        data = b""
        while True:
            try:
                more = self.do(lambda: self.tls.read(65536))
            except (ssl.SSLEOFError, ConnectionError):
                return data
            if not more:
                return data
            data += more

    def close(self):
        self.raw.close()


def exchange(port, context, pieces):
    """Everything that is answered to @pieces until the connection ends."""
    session = Session(port, context)
    try:
        try:
            for piece in pieces:
                session.send(piece)
            session.end()
        except OSError:
            pass  # it has had enough
        return session.read()
    finally:
        session.close()
