#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: tests/torch2.sh BUILD_DIR [PREFIX]
#
# The torch engine with a libtorch 2.x, in a build folder of its own: builds it, shows that
# it opens that libtorch and no other, runs its tests and the bundled model's. PREFIX (or
# MOULT_TORCH2_PREFIX) becomes CMAKE_PREFIX_PATH: the folder of an unpacked libtorch, or
# what torch.utils.cmake_prefix_path is in a Python with torch. Exit 77: no PREFIX.

set -euo pipefail

tests='^(loader-torch-models|loader-torch|system-(digits|share_torch|working_memory|gpu_arena))$'
build=$1
prefix=${2:-${MOULT_TORCH2_PREFIX:-}}
source=$(cd "$(dirname "$0")/.." && pwd)

if [ -z "$prefix" ]; then
	echo "SKIP: which libtorch 2.x? Set MOULT_TORCH2_PREFIX to its CMAKE_PREFIX_PATH"
	exit 77
fi
if [ ! -d "$prefix" ]; then
	echo "FAIL: MOULT_TORCH2_PREFIX: $prefix is no folder"
	exit 1
fi
prefix=$(realpath "$prefix")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

quietly() {
	if ! "$@" >"$log" 2>&1; then
		tail -n 60 "$log"
		echo "FAIL: $*"
		exit 1
	fi
}

# Forgets the libtorch of the run before: it may have been another.
quietly cmake -G Ninja -S "$source" -B "$build" -U 'Torch_*' -U 'TORCH_*' -U 'Caffe2_*' \
	-U 'C10_*' -U c10_LIBRARY -DCMAKE_PREFIX_PATH="$prefix" -DMOULT_WERROR=ON \
	-DCMAKE_BUILD_TYPE=RelWithDebInfo -DMOULT_TORCH=ON
found=$(sed -n 's/^-- libtorch \([^:]*\): \(.*\)/\1 \2/p' "$log")
version=${found%% *}
root=${found#* }
case "$version" in
2.*) ;;
*)
	echo "FAIL: libtorch '$version' is what CMake finds with $prefix, and not a 2.x"
	exit 1
	;;
esac
quietly cmake --build "$build" --parallel 2

engine=$build/moult-engine-torch.so
missing=$(ldd "$engine" | grep 'not found' || true)
if [ -n "$missing" ]; then
	echo "$missing"
	echo "FAIL: libtorch $version needs these: install the wheel together with all that" \
		"it depends on"
	exit 1
fi
opened=$(ldd "$engine" | sed -n 's/.*libtorch_cpu\.so[^ ]* => \([^ ]*\) .*/\1/p')
if ! [ "$opened" -ef "$root/lib/libtorch_cpu.so" ]; then
	echo "FAIL: built for libtorch $version, the engine opens '$opened'"
	exit 1
fi
echo "libtorch $version"

# Output as it comes, and kept: a skipped test is no passed test here.
ctest --test-dir "$build" --no-tests=error --output-on-failure -R "$tests" | tee "$log"
if grep -q 'Skipped' "$log"; then
	echo "FAIL: a test above was skipped (Debian: python3-torch writes the models)"
	exit 1
fi
