#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/sanitize.sh build|unit|system
#
# The address and undefined behaviour sanitizers over the unit tests, the corpora of the
# fuzzers, and some system tests: in build/asan, without the torch engine.
# MOULT_SANITIZE_SYSTEM names others, as a regular expression; those that judge what is
# answered rather than how fast or in how much memory are
# bad_input|beside|candidates|clients|death|golden|hold|http|last_good|poison|protocol|trial

set -euo pipefail

system=${MOULT_SANITIZE_SYSTEM:-last_good|protocol|replicas|server|stop}
cd "$(dirname "$0")/.."
case "${1:-}" in
build)
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	if ! { cmake --preset asan && cmake --build --preset asan; } >"$log" 2>&1; then
		tail -n 60 "$log"
		exit 1
	fi
	;;
unit)
	# How the code and its pages look does not depend on how it is built.
	exec ctest --preset asan --parallel 3 -L '^(unit|fuzz)$' -E '^(layers|format|packages|presets|manual)$'
	;;
system)
	exec ctest --preset asan --parallel 3 -R "^system-($system)\$"
	;;
*)
	echo "usage: $0 build|unit|system" >&2
	exit 2
	;;
esac
