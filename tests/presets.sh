#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Preset release knows no test, check has them all, and one build folder goes from either
# to the other.
cd "$1" || exit 1
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
trap 'exit 1' HUP INT TERM

for preset in release check release check; do
	cmake --preset "$preset" -B "$build" -DMOULT_TORCH=OFF >"$build/said" 2>&1 || {
		cat "$build/said"
		exit 1
	}
	tests=$(ctest --test-dir "$build" -N | sed -n 's/^Total Tests: //p')
	targets=$(ninja -C "$build" -t targets all | grep -c '^tests/')
	case $preset in
	release) [ "$tests" -eq 0 ] && [ "$targets" -eq 0 ] ;;
	check) [ "$tests" -gt 0 ] && [ "$targets" -gt 0 ] ;;
	esac || {
		echo "preset $preset: $tests tests, $targets targets below tests/"
		exit 1
	}
done

# What is not built for want of libtorch is said last, or is an error where it was asked for.
configure() {
	rm -rf "$build/cache"
	cmake --preset release -B "$build/cache" -DCMAKE_DISABLE_FIND_PACKAGE_Torch=ON "$@" \
		>"$build/said" 2>&1
}
configure && tail -n 8 "$build/said" | grep -q 'NOT built: torch' &&
	grep -q 'apt-get install libtorch-dev' "$build/said" || {
	echo "without libtorch:"
	cat "$build/said"
	exit 1
}
if configure -DMOULT_TORCH=ON; then
	echo "-DMOULT_TORCH=ON is content without libtorch"
	exit 1
fi
grep -q 'no shared libtorch found' "$build/said" || {
	cat "$build/said"
	exit 1
}
