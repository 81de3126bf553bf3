#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Asks what the first held-out digit is: client.sh [KEY]. Needs curl and python3.
cd "$(dirname "$0")" || exit
KEY=${1:-$(cat secrets/key)}
head -n 1 ../digits/heldout.jsonl |
    python3 -c 'import json, sys; print(json.dumps({"pixels": json.load(sys.stdin)["inputs"][0]["data"]}))' |
    curl -sS -H "X-Key: $KEY" -H "Content-Type: application/json" -d @- http://127.0.0.1:8080/classify
