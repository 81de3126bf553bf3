# SPDX-License-Identifier: Apache-2.0
"""TLS: the strict reader sees what was encrypted, certificates rotate under load without a failed
handshake or request, and what is of no use keeps the last good one, loudly."""
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from certificates import RSA, Authority, Pair, exchange, openssl, put, serial
from harness import BUILD, echo_body, echo_section, patience, wait_for
from http_cases import CASES, name_of
from test_rfc9112 import NEXT, check, cut

ROTATIONS = int(os.environ.get("MOULT_TEST_TLS_ROTATIONS", "10"))
INFER = (b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s")

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl(1)")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def served(start, authority, tmp_path):
    """A moultd with TLS, and where its certificate lies."""
    def make(pair=None, client=None, **keys):
        pair = pair or Pair(tmp_path, *authority.issue())
        moult = start(echo_section(max_body="8K"), supervisor=pair.keys(**keys),
                      context=authority.context(client))
        return moult, pair
    return make


def tls_of(moult):
    return moult.status()["supervisor"]["tls"]


def metric(moult, name):
    return next(float(line.split()[1]) for line in moult.get("/metrics")[1].decode().splitlines()
                if line.startswith(name + " "))


def client(moult, *arguments):
    """openssl s_client: its exit status, and all that it says."""
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{moult.port}", *map(str, arguments)],
        input="", capture_output=True, text=True, timeout=2 * patience())
    return result.returncode, result.stdout + result.stderr


def test_it_serves(served):
    moult, pair = served()
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    tls = tls_of(moult)
    assert tls["subject"].startswith("serialNumber=1,CN=localhost") or "localhost" in tls["subject"]
    assert tls["names"] == "localhost" and tls["path"] == str(pair.certificate)
    assert len(tls["chain"]) == 1 and tls["error"] is None and tls["late"] is None
    end = openssl("x509", "-in", pair.certificate, "-noout", "-enddate", "-dateopt", "iso_8601")
    assert end.strip().split("=")[1].replace(" ", "T") == tls["not_after"]
    assert metric(moult, "moult_tls_not_after_seconds") > 1.7e9
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"], text=True,
                          capture_output=True, timeout=120, check=True).stdout
    assert f"good until {tls['not_after']}" in text


def test_another_family_than_loopback_is_not_warned_of(start, authority, tmp_path):
    moult = start(echo_section(), supervisor=Pair(tmp_path, *authority.issue()).keys(),
                  context=authority.context(), listen="0.0.0.0")
    assert "endpoint_open" not in moult.log_text()
    assert moult.status()["supervisor"]["http"]["open"] is None


def test_the_strict_reader_sees_it_all(served):
    """Every case of http_cases.py, encrypted."""
    moult, _ = served()
    moult.note_fds()
    failed = []
    for case in CASES:
        data = case.request.encode("latin-1")
        for sizes in ([len(data) + len(NEXT)], [7, 2, 1]):
            if len(data) > 2000 and len(sizes) > 1:
                continue
            try:
                check(case, exchange(moult.port, moult.context, cut(data + NEXT, sizes)))
            except (AssertionError, KeyError, OSError) as error:
                failed.append(f"{name_of(case)} in pieces of {sizes}: {error!r}")
    assert not failed, "\n".join(failed)
    requests = moult.status("echo")["requests"]
    assert requests["held"] == requests["leased"] == 0


def test_large_bodies_both_ways(start, authority, tmp_path):
    """Records end in the middle of everything."""
    n = 200_000
    moult = start(echo_section(max_batch=1, max_body="8M", request_arena="64M",
                               response_arena="64M").replace("[-1,4]", f"[-1,{n}]"),
                  supervisor=Pair(tmp_path, *authority.issue()).keys(),
                  context=authority.context())
    values = [float(i % 997) for i in range(n)]
    status, _, body = moult.infer("echo", echo_body(values))
    assert status == 200 and body.count(b"996.0") == values.count(996.0)


def test_what_is_not_tls(served):
    """Neither plain HTTP nor a client that says nothing harms anybody."""
    moult, _ = served(header_timeout="300ms")
    silent = socket.create_connection(("127.0.0.1", moult.port), 60)
    with socket.create_connection(("127.0.0.1", moult.port), 60) as plain:
        plain.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        # The connection ends with whatever the client has sent unread, or before.
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_WR)
            while (more := plain.recv(4096)):
                answer += more
    assert b"HTTP" not in answer
    assert moult.get("/v2/health/live")[0] == 200
    assert silent.recv(1) == b""  # header_timeout
    silent.close()
    wait_for("both to be counted", lambda: metric(moult, "moult_tls_unfinished_total") == 2)


ALLOWED = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
           "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES256-GCM-SHA384",
           "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"]
ALL = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_no_old_version_and_no_weak_suite(served, authority, tmp_path, kind):
    moult, _ = served(Pair(tmp_path, *authority.issue(**({"kind": RSA} if kind == "RSA" else {}))))
    trust = ["-CAfile", authority.certificate, "-verify_return_error"]
    for version in ("-tls1", "-tls1_1"):
        assert client(moult, version, "-cipher", ALL, *trust)[0] != 0, version
    for version in ("-tls1_2", "-tls1_3"):
        status, said = client(moult, version, *trust)
        assert status == 0 and "Verify return code: 0 (ok)" in said, said
    for suite in ALLOWED:
        status, said = client(moult, "-tls1_2", "-cipher", suite, *trust)
        assert (status == 0) == (kind in suite), (suite, said)
    others = [name for name in openssl("ciphers", "-tls1_2", ALL).strip().split(":")
              if name not in ALLOWED and not name.startswith("TLS_")]
    assert len(others) > 50
    assert client(moult, "-tls1_2", "-cipher", ":".join(others) + ":@SECLEVEL=0", *trust)[0] != 0
    assert client(moult, "-tls1_3", "-ciphersuites",
                  "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256", *trust)[0] != 0
    assert client(moult, "-tls1_2", "-cipher", "ALL:@SECLEVEL=0", "-sigalgs", f"{kind}+SHA1",
                  *trust)[0] != 0
    _, said = client(moult, "-tls1_2", "-alpn", "h2,http/1.1", *trust)
    assert "ALPN protocol: http/1.1" in said and "Secure Renegotiation IS supported" in said
    assert "Compression: NONE" in said


def test_no_renegotiation(served, authority):
    """A client's wish for one ends the connection, and nothing else."""
    moult, _ = served()
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{moult.port}", "-tls1_2", "-CAfile",
         authority.certificate], input="R\n", capture_output=True, text=True,
        timeout=2 * patience())
    assert "RENEGOTIATING" in result.stdout + result.stderr
    assert moult.get("/v2/health/live")[0] == 200


class Clients:
    """Each makes a handshake for three requests; some stay for ever."""

    def __init__(self, moult, n=3, n_staying=2):
        self.moult, self.failed, self.handshakes, self.requests = moult, [], 0, 0
        self.serials = set()
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i >= n,), daemon=True)
                        for i in range(n + n_staying)]
        for thread in self.threads:
            thread.start()

    def ask(self, connection):
        connection.request("POST", "/v2/models/echo/infer", echo_body([1, 2, 3, 4]))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and b"[1.0,2.0,3.0,4.0]" in body, (answer.status, body)
        with self.lock:
            self.requests += 1

    def visit(self, is_staying):
        connection = self.moult.connect(60)
        connection.connect()
        with self.lock:
            self.handshakes += 1
            self.serials.add(connection.sock.getpeercert()["serialNumber"])
        for i in range(1 << 30 if is_staying else 3):
            if self.is_over.is_set():
                break
            self.ask(connection)
        connection.close()

    def run(self, is_staying):
        while not self.is_over.is_set():
            try:
                self.visit(is_staying)
            except Exception as error:  # whatever it is, it failed
                with self.lock:
                    self.failed.append(repr(error))

    def stop_and_check(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        print(f"{self.handshakes} handshakes, {self.requests} requests, "
              f"{len(self.serials)} certificates, {len(self.failed)} failed")
        assert not self.failed, self.failed[:5]


def test_rotated_under_load(served, authority):
    moult, pair = served()
    pairs = [authority.issue() for _ in range(min(ROTATIONS, 20))]
    clients = Clients(moult)
    for i in range(ROTATIONS):
        before = clients.handshakes
        pair.install(*pairs[i % len(pairs)])
        wanted = int(openssl("x509", "-in", pair.certificate, "-noout",
                             "-serial").strip().split("=")[1], 16)
        wait_for("the new certificate", lambda: serial(moult.port, moult.context) == wanted)
        wait_for("more handshakes", lambda: clients.handshakes >= before + 3 or clients.failed)
    clients.stop_and_check()
    assert len(clients.serials) > 1
    assert tls_of(moult)["rotations_total"] == ROTATIONS
    assert metric(moult, "moult_tls_rotations_total") == ROTATIONS


def cut_in_half(path):
    text = path.read_text()
    path.write_text(text[:len(text) // 2])


BROKEN = {
    "mismatched": (lambda pair, authority: put(authority.issue()[1], pair.key),
                   "is not the key of the certificate"),
    "half a certificate": (lambda pair, authority: cut_in_half(pair.certificate), "has no end"),
    "half a key": (lambda pair, authority: cut_in_half(pair.key), "has no end"),
    "empty": (lambda pair, authority: pair.certificate.write_text(""), "has no PEM block"),
    "gone": (lambda pair, authority: pair.key.unlink(), "No such file"),
    "expired": (lambda pair, authority: pair.install(*authority.issue(days=-1)), "ended at"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_no_use_keeps_the_last_good_one(served, authority, how):
    break_it, says = BROKEN[how]
    moult, pair = served()
    break_it(pair, authority)
    # A pair is two files: between two renames they do not belong together.
    wait_for("the refusal", lambda: says in (tls_of(moult)["error"] or ""))
    assert serial(moult.port, moult.context) == 1
    assert metric(moult, "moult_tls_stale") == 1
    lines = [line for line in moult.log_lines() if "event=tls_refused" in line]
    assert lines and says in lines[-1] and "level=err" in lines[-1]
    text = subprocess.run([BUILD / "moultctl", "-s", moult.socket, "status"], text=True,
                          capture_output=True, timeout=120, check=True).stdout
    assert "TLS certificate refused, the last good one is in use: " in text
    certificate, key = authority.issue()
    pair.install(certificate, key)
    wait_for("the new one", lambda: serial(moult.port, moult.context) == authority.n)
    wait_for("peace", lambda: tls_of(moult)["error"] is None)
    assert metric(moult, "moult_tls_stale") == 0


def test_back_to_what_is_in_use(served):
    moult, pair = served()
    text = pair.certificate.read_text()
    pair.certificate.write_text("no PEM")
    wait_for("the refusal", lambda: tls_of(moult)["error"])
    pair.certificate.write_text(text)
    wait_for("peace", lambda: tls_of(moult)["error"] is None)
    assert "event=tls_back" in moult.log_text()
    assert tls_of(moult)["rotations_total"] == 0


def test_a_late_one_is_all_there_is(start, authority, tmp_path):
    """A restart goes on with it, and says so; a good one takes its place."""
    pair = Pair(tmp_path, *authority.issue(days=-1))
    moult = start(echo_section(), supervisor=pair.keys(), ready=False)
    wait_for("the start", lambda: "event=started" in moult.log_text())
    assert "event=tls_late" in moult.log_text()
    assert "ended at" in tls_of(moult)["late"]
    pair.install(*authority.issue())
    wait_for("the new one", lambda: tls_of(moult)["late"] is None)
    assert serial(moult.port, authority.context()) == 2


def test_the_end_is_near(start, authority, tmp_path):
    moult = start(echo_section(), supervisor=Pair(tmp_path, *authority.issue(days=3)).keys(),
                  context=authority.context())
    assert len([line for line in moult.log_lines() if "event=tls_ends_soon" in line]) == 1


def test_clients_show_a_certificate(served, authority, tmp_path):
    strangers = Authority(tmp_path, "strangers")
    accepted = tmp_path / "clients.pem"
    put(authority.certificate, accepted)
    mine = authority.issue(usage="clientAuth")
    moult, pair = served(client=mine, tls_client_ca=accepted)
    assert moult.infer("echo", echo_body([1, 2, 3, 4]))[0] == 200
    assert tls_of(moult)["client_authorities"] == 1

    def is_served(client):
        context = authority.context(client)
        ask = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        try:
            return b" 200 OK" in exchange(moult.port, context, [ask])
        except (ssl.SSLError, OSError):
            return False

    foreign = strangers.issue(usage="clientAuth")
    assert is_served(mine)
    for refused in (None, foreign, authority.issue(usage="serverAuth"),
                    authority.issue(usage="clientAuth", days=-1)):
        assert not is_served(refused), refused
    # Another authority, without a restart.
    put(strangers.certificate, accepted)
    wait_for("the other authority", lambda: is_served(foreign))
    assert not is_served(mine)
    moult.context = authority.context(foreign)


def check_config(home, lines):
    config = home / "checked.conf"
    config.write_text("[supervisor]\nuser = root\n"
                      f"listen = 127.0.0.1:0\ncontrol = c.sock\nstate_dir = s\n"
                      f"{lines}" + echo_section())
    return subprocess.run([BUILD / "moultd", "-t", "-c", config], capture_output=True, text=True,
                          timeout=120)


def test_what_check_says(authority, tmp_path):
    certificate, key = authority.issue()
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked)
    der = tmp_path / "server.der"
    openssl("x509", "-in", certificate, "-outform", "DER", "-out", der)
    late = authority.issue(days=-1)
    cases = [
        ("tls_certificate = a\n", "its private key is missing: name the file with tls_key"),
        ("tls_key = a\n", "there is no TLS without a certificate"),
        ("tls_client_ca = a\n", "tls_client_ca: there is no TLS without a certificate"),
        ("tls_certificate =\n", "has no value"),
        (f"tls_certificate = {tmp_path}/none\ntls_key = {key}\n", "No such file"),
        (f"tls_certificate = {tmp_path}\ntls_key = {key}\n", "is no regular file"),
        (f"tls_certificate = {der}\ntls_key = {key}\n", "DER is converted with openssl x509"),
        (f"tls_certificate = {key}\ntls_key = {key}\n", "has no certificate"),
        (f"tls_certificate = {certificate}\ntls_key = {certificate}\n", "has no private key"),
        (f"tls_certificate = {certificate}\ntls_key = {locked}\n", "is encrypted"),
        (f"tls_certificate = {certificate}\ntls_key = {authority.key}\n", "is not the key of"),
        (f"tls_certificate = {late[0]}\ntls_key = {late[1]}\n", "ended at"),
        (f"tls_certificate = {certificate}\ntls_key = {key}\ntls_client_ca = {key}\n",
         "has no certificate of an authority"),
    ]
    for lines, says in cases:
        result = check_config(tmp_path, lines)
        assert result.returncode == 1 and says in result.stderr, (lines, result.stderr)
    good = check_config(tmp_path, f"tls_certificate = {certificate}\ntls_key = {key}\n"
                                  f"tls_client_ca = {authority.certificate}\n")
    assert good.returncode == 0, good.stderr


def test_changed_keys_need_a_restart(served):
    moult, _ = served()
    moult.config.write_text(moult.config.read_text().replace("server.key", "other.key"))
    moult.process.send_signal(signal.SIGHUP)
    wait_for("the warning", lambda: "event=restart_needed" in moult.log_text())
    assert moult.get("/v2/health/live")[0] == 200
