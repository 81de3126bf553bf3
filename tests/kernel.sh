#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/kernel.sh BUILD_DIR ARGUMENT...    (of pytest)
#
# Runs system tests on another kernel, Debian's user-mode-linux, which is an ordinary program: its
# control groups of version 2 have all controllers, and it has no landlock. It sees this machine's
# files, and writes to memory alone. MOULT_UML names the program where it is not linux.uml.
# Exit 77: it is not installed. It is slow: each system call is two changes of processes.

set -euo pipefail

inside() { # as the first process there: SOURCE BUILD_DIR OUT ARGUMENT... ...
	local source=$1 build=$2 out=$3 arguments=()
	shift 3
	# The kernel adds words of its own.
	while [ "$1" != ... ]; do
		arguments+=("$1")
		shift
	done
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t cgroup2 cgroup /sys/fs/cgroup
	mkdir -p /dev/shm
	mount -t tmpfs -o mode=1777 shm /dev/shm
	mount -t tmpfs -o mode=1777 run /run
	mkdir /run/out
	mount -t hostfs -o "$out" out /run/out
	ip link set lo up
	export MOULT_TEST_DEADLINE_S=600 HOME=/run TMPDIR=/run MOULT_BUILD=$build PYTHONPATH=$source/tests/system
	cd "$source"
	local rc=0
	python3 -B -m pytest -q -rs -p no:cacheprovider --basetemp=/run/pytest "${arguments[@]}" \
		>/run/out/log 2>&1 || rc=$?
	echo "$rc" >/run/out/rc
	echo o >/proc/sysrq-trigger
	sleep 60
}

if [ $$ -eq 1 ]; then
	inside "$@"
	exit 0
fi

source=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:?a build directory}" && pwd)
shift
uml=${MOULT_UML:-linux.uml}
if ! command -v "$uml" >/dev/null; then
	echo "SKIP: no $uml here (Debian: apt-get install user-mode-linux)"
	exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# All that it starts ends with it. It keeps its memory in a file of $TMPDIR, or in /dev/shm.
TMPDIR=$out "$uml" root=/dev/root rootfstype=hostfs rootflags=/ ro mem=1G quiet con=null \
	con0=null,fd:1 init="$source/tests/kernel.sh" -- "$source" "$build" "$out" "$@" ... \
	</dev/null >"$out/console" 2>&1 || true
cat "$out/log" 2>/dev/null || tail -n 40 "$out/console"
exit "$(cat "$out/rc" 2>/dev/null || echo 1)"
