#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Has a text continued, word by word: client.sh [TEXT [COUNT]]. Needs curl.
cd "$(dirname "$0")" || exit
curl -sSN -H "X-Key: $(cat secrets/key)" -H "Content-Type: application/json" \
    -d "{\"prompt\": \"${1:-the animal}\", \"count\": ${2:-8}}" http://127.0.0.1:8080/continue
