#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Serves a model that make.py writes. ONNX Runtime goes into venv/, where it is not there.
set -e
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
[ -e venv ] || { python3 -m venv .new-venv && .new-venv/bin/pip install --quiet onnxruntime &&
	mv .new-venv venv; }
[ -e digits.onnx ] || python3 make.py
cd ../..
exec "${MOULTD:-build/release/moultd}" -c examples/onnx/moult.conf
