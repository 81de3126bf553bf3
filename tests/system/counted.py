# SPDX-License-Identifier: Apache-2.0
"""What moultd asks of the kernel and of the allocator: tests/fakes/counted.c, preloaded."""
import mmap
import re
import struct

import pytest

from harness import BUILD

NAMES = ("ours", "microhttpd", "others", "reads", "largest_read", "waits")

CACHE = BUILD / "CMakeCache.txt"
SANITIZED = CACHE.exists() and bool(re.search(r"(?m)^MOULT_SANITIZE:\w+=.", CACHE.read_text()))

unsanitized = pytest.mark.skipif(
    SANITIZED, reason="a sanitizer has an allocator and memory of its own")


class Counted:
    def __init__(self, folder):
        self.path = folder / "counted"
        self.environment = {"LD_PRELOAD": str(BUILD / "counted.so"), "COUNTED": str(self.path)}
        self.memory = None

    def open(self):
        """moultd runs."""
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8 * len(NAMES))
        return self

    def now(self):
        return dict(zip(NAMES, struct.unpack(f"{len(NAMES)}Q", self.memory[:])))

    def during(self, what):
        """The counts that @what() adds."""
        before = self.now()
        what()
        after = self.now()
        return {name: after[name] - before[name] for name in NAMES if name != "largest_read"}
