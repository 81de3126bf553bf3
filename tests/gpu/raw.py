# SPDX-License-Identifier: Apache-2.0
"""What the card and its driver do by themselves: rows of moult-gpu-probe."""
import os
import pathlib
import signal
import socket
import subprocess
import time
import types

from card import MIB

UNWATCHED_S = 3
SLACK = 16 * MIB  # what may differ between two looks at the card


class Failed(Exception):
    pass


class Probe:
    """One process of the probe, up to where it waits."""

    running = []

    def __init__(self, place, *arguments, fds=()):
        self.process = subprocess.Popen(
            [place.build / "moult-gpu-probe", *map(str, arguments)], text=True,
            env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            pass_fds=fds)
        self.running.append(self.process)
        self.pid, self.said = self.process.pid, types.SimpleNamespace()
        for line in self.process.stdout:
            if line == "ready\n":
                return
            key, _, value = line.strip().partition(" ")
            if key == "failed":
                self.stop()
                raise Failed(value)
            setattr(self.said, key, value)
        self.code = self.process.wait()
        if arguments[0] != "write":
            raise Failed(f"the probe '{arguments[0]}' ended with {self.code}")

    def kill(self):
        """Milliseconds until it is reaped."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return 1e3 * (time.monotonic() - begun)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def shown(bytes_):
    return f"{bytes_ / MIB:.0f} MiB"


def name_fd(fd):
    return os.readlink(f"/proc/self/fd/{fd}")


def charge(card, pid):
    processes = card.processes()
    if pid not in processes:
        return "not listed"
    return "not told" if processes[pid] is None else shown(processes[pid])


def context(place, table):
    before = place.card.used()
    probe = Probe(place, "context")
    place.context = place.card.used() - before
    table.add("driver's start (dlopen, cuInit)", f"{float(probe.said.driver_ms):.0f} ms")
    table.add("context", f"{float(probe.said.context_ms):.0f} ms, {shown(place.context)}")
    probe.kill()
    ms = place.card.wait_used(before + place.context // 2)
    table.add("context back after kill -9", release(ms), ms is not None)


def release(ms):
    return "not within 60 s" if ms is None else f"{ms:.0f} ms"


def bandwidth(place, table):
    probe = Probe(place, "bandwidth", place.copy_mib)
    said = vars(probe.said)
    probe.stop()
    place.gb_s = float(said.get("pinned_gb_s", 0))
    for key, what in (("pinned_gb_s", "host to device, pinned"),
                      ("pageable_gb_s", "host to device, pageable"),
                      ("pin_gb_s", "pinning main memory"), ("unpin_gb_s", "unpinning")):
        if key in said:
            table.add(what, f"{said[key]} GB/s ({place.copy_mib} MiB)")
        else:
            table.miss(what, "the driver refuses to pin main memory")


def threads(place, table):
    """What more of them make of filling."""
    rates = {}
    for count in (1, 8):
        probe = Probe(place, "arena", place.copy_mib, -1, count)
        rates[count] = probe.said.fill_gb_s
        probe.stop()
    table.add("filling", "; ".join(f"{rate} GB/s with {count} thread{'s' * (count > 1)}"
                                   for count, rate in rates.items()))


def killed(place, table):
    """A process with weights nobody else has."""
    before = place.card.used()
    probe = Probe(place, "arena", place.mib, -1)
    held = place.card.used() - before
    reaped = probe.kill()
    ms = place.card.wait_used(before + SLACK)
    table.add("memory back after kill -9", f"{shown(held)}: reaped after {reaped:.0f} ms, "
              f"{release(ms)} more until NVML has it", ms is not None)


def share(place, table):
    before = place.card.used()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exporter = Probe(place, "arena", place.mib, theirs.fileno(), fds=(theirs.fileno(),))
        fds = socket.recv_fds(ours, 1, 64)[1]
    said = exporter.said
    table.add("weights placed", f"{place.mib} MiB in {len(fds)} chunks: created "
              f"{float(said.create_ms):.0f} ms, filled {float(said.fill_ms):.0f} ms "
              f"({said.fill_gb_s} GB/s), exported {float(said.export_ms):.1f} ms, sealed "
              f"{float(said.seal_ms):.1f} ms")
    table.add("node of a chunk's descriptor",
              ", ".join(sorted({name_fd(fd).split(" ")[0] for fd in fds})))
    shape = (said.bytes, said.chunk, said.mapped)
    try:
        follow(place, table, exporter, shape, fds)
    finally:
        exporter.kill()
        for fd in fds:
            os.close(fd)
    ms = place.card.wait_used(before + SLACK)
    table.add("memory back after the last descriptor is closed", release(ms), ms is not None)


def unwatched(place, table):
    """Nobody has the card open but by the descriptors of chunks: the driver may then put it to
    sleep, and what is in its memory with it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exporter = Probe(place, "arena", min(place.mib, 1024), theirs.fileno(),
                         fds=(theirs.fileno(),))
        fds = socket.recv_fds(ours, 1, 64)[1]
    said = exporter.said
    place.card.close()
    try:
        exporter.kill()
        others = openers(fds)
        time.sleep(UNWATCHED_S)
        again = Probe(place, "import", said.bytes, said.chunk, said.mapped, *fds, fds=fds)
        again.stop()
    finally:
        place.card.open()
        for fd in fds:
            os.close(fd)
    who = f"; open besides: {', '.join(others)}" if others else ""
    table.add("weights that only descriptors hold, with no NVML open",
              f"mapped again after {UNWATCHED_S} s in {float(again.said.import_ms):.1f} ms, "
              f"contents {'the same' if again.said.canary == said.canary else 'CHANGED'}{who}",
              again.said.canary == said.canary)


def openers(fds):
    """Of the driver's nodes, as far as one may look: nvidia-persistenced, say."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        try:
            name = os.readlink(path)
            pid = int(path.parts[2])
            if name.startswith("/dev/nvidia") and not (pid == os.getpid() and
                                                       int(path.name) in fds):
                found.add(f"{name} by {(path.parents[1] / 'comm').read_text().strip()}")
        except OSError:
            pass
    return sorted(found)


def follow(place, table, exporter, shape, fds):
    """Importers, beside the exporter and after it."""
    arguments = (*shape, *fds)
    canary = exporter.said.canary
    importer = Probe(place, "import", *arguments, fds=fds)
    table.add("import and map", f"{float(importer.said.import_ms):.1f} ms for {place.mib} MiB",
              importer.said.canary == canary)
    both = (charge(place.card, exporter.pid), charge(place.card, importer.pid))
    exporter.kill()
    table.add("charge of shared pages in NVML", f"exporter {both[0]}, importer {both[1]}; "
              f"importer alone {charge(place.card, importer.pid)}")
    importer.kill()
    used = place.card.used()
    again = Probe(place, "import", *arguments, fds=fds)
    table.add("weights that only descriptors hold", f"{shown(used)} in use without a process; "
              f"mapped again in {float(again.said.import_ms):.1f} ms, contents "
              f"{'the same' if again.said.canary == canary else 'CHANGED'}",
              again.said.canary == canary)
    again.stop()
    writer = Probe(place, "write", *arguments, fds=fds)
    if hasattr(writer.said, "write"):
        result, changed = writer.said.write, getattr(writer.said, "changed", None)
        has_failed = changed == "0" or (changed is None and result != "CUDA_SUCCESS")
        writer.kill()
    else:
        has_failed = writer.code != 0
        result = signal.Signals(-writer.code).name if writer.code < 0 else f"exit {writer.code}"
    last = Probe(place, "import", *arguments, fds=fds)
    table.add("write to sealed weights", f"{result}; contents "
              f"{'the same' if last.said.canary == canary else 'CHANGED'}",
              has_failed and last.said.canary == canary)
    last.stop()


def rows(place, table, wanted=(context, bandwidth, threads, killed, share, unwatched)):
    for row in wanted:
        try:
            row(place, table)
        except (Failed, AttributeError, OSError) as error:
            table.miss(row.__name__, str(error), is_error=True)
        while Probe.running:
            process = Probe.running.pop()
            process.kill()
            process.wait()
