#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/sanitize.sh build|unit|system|threads
#
# The address and undefined behaviour sanitizers over the unit tests, the corpora of the
# fuzzers, and some system tests: in build/asan, without the torch engine.
# MOULT_SANITIZE_SYSTEM names others, as a regular expression; those that judge what is
# answered rather than how fast or in how much memory are
# bad_input|beside|candidates|clients|death|golden|hold|http|last_good|poison|protocol|trial

# threads: what is shared between processes, with a thread for each, under ThreadSanitizer; in
# build/tsan. Exit 77: this kernel gives no program the addresses that it needs.

set -euo pipefail

# Those with two sides, and the loader's threads.
threads="ring lane lane_bells lane_violations lane_threads decoder"
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
threads)
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	# shellcheck disable=SC2086 # names
	if ! { cmake --preset tsan && ninja -C build/tsan $(printf 'test_%s ' $threads); } >"$log" 2>&1; then
		tail -n 60 "$log"
		exit 1
	fi
	# Its memory has places of its own, which too much randomness takes.
	if ! setarch -R true 2>/dev/null; then
		echo "SKIP: addresses are random here, whoever asks (setarch -R)"
		exit 77
	fi
	for name in $threads; do
		if ! setarch -R "build/tsan/test_$name" >"$log" 2>&1; then
			echo "test_$name:"
			tail -n 100 "$log"
			exit 1
		fi
	done
	;;
*)
	echo "usage: $0 build|unit|system|threads" >&2
	exit 2
	;;
esac
