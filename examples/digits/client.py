#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sends one held-out digit: client.py [INDEX] [URL]"""
import json
import pathlib
import sys
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent


def main():
    index = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8080"
    bodies = (HERE / "heldout.jsonl").read_text().splitlines()
    if not 0 <= index < len(bodies):
        sys.exit(f"client: there are digits 0 to {len(bodies) - 1}, but no {index}")
    body = bodies[index]
    label = json.loads((HERE / "expected.json").read_text())["labels"][index]
    request = urllib.request.Request(f"{url}/v2/models/digits/infer", body.encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            scores = json.load(response)["outputs"][0]["data"]
            generation = response.headers["moult-generation"]
    except urllib.error.HTTPError as error:
        sys.exit(f"client: {url} says {error.code}: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"client: nothing answers at {url} ({error}); start moultd, see README.md")
    pixels = json.loads(body)["inputs"][0]["data"]
    for row in range(0, 64, 8):
        print("  " + "".join(" .:*#"[min(4, p * 5 // 17)] * 2 for p in pixels[row:row + 8]))
    print(f"  answer {scores.index(max(scores))}, truth {label}, "
          f"from generation {generation}")


if __name__ == "__main__":
    main()
