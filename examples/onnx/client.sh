#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How many of the images that no model has learned are read rightly.
cd "$(dirname "$0")" || exit 1
exec python3 - 127.0.0.1:8080 <<'END'
import json
import pathlib
import sys
import urllib.request

digits = pathlib.Path("../digits")
labels = json.loads((digits / "expected.json").read_text())["labels"][300:]
lines = (digits / "heldout.jsonl").read_text().splitlines()[300:]
pixels = [pixel for line in lines for pixel in json.loads(line)["inputs"][0]["data"]]
body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [len(lines), 64], "data": pixels}]}
request = urllib.request.Request(f"http://{sys.argv[1]}/v2/models/digits/infer",
                                 json.dumps(body).encode())
with urllib.request.urlopen(request) as response:
    scores = json.loads(response.read())["outputs"][0]["data"]
read = [max(range(10), key=scores[10 * i:10 * i + 10].__getitem__) for i in range(len(lines))]
print(f"{sum(a == b for a, b in zip(read, labels))} of {len(lines)}")
END
