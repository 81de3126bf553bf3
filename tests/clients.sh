#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The clients that moult must serve unchanged, and ONNX Runtime, in a virtual environment of their
# own.
# Where the package index cannot be reached the tests that need them skip and say so.
# usage: tests/clients.sh DIRECTORY
set -euo pipefail
venv=$1
packages=("tritonclient[http,grpc]" kserve prometheus-client kubernetes-validate h2 onnx onnxruntime)
# Of what it needs the clouds' libraries are many, and are loaded when they are used.
alone=(kserve-storage)
[ "$(cat "$venv/complete" 2>/dev/null)" = "${packages[*]} ${alone[*]}" ] && exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if /usr/bin/python3 -m venv "$venv" >"$log" 2>&1 &&
	timeout 300 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
		--retries 1 "${packages[@]}" >>"$log" 2>&1 &&
	timeout 300 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
		--retries 1 --no-deps "${alone[@]}" >>"$log" 2>&1; then
	echo "${packages[*]} ${alone[*]}" >"$venv/complete"
else
	echo "clients not installed (their tests will skip): $(tail -n 1 "$log")"
fi
