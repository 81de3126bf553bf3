# SPDX-License-Identifier: Apache-2.0
"""Keeps a megabyte of each request, as caches without a bound do. No framework is needed."""
import resource

kept = []


def app(environ, start_response):
    kept.append(bytearray(b"x") * (1 << 20))
    start_response("200 OK", [("Content-Type", "text/plain")])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return [f"{len(kept)} requests are kept, in {most} MiB\n".encode()]
