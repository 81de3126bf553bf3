#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# usage: build.sh SOURCE_DIR BUILD_DIR
#
# Makes Debian's packages of the tree that is built in BUILD_DIR, in BUILD_DIR/debian, and what a
# next version would be in BUILD_DIR/debian/next. lintian has no error and no warning.
# MOULT_DEBIAN_BUILD=yes builds the tree anew, as dpkg-buildpackage does elsewhere.
set -euo pipefail

source=$1
build=$2
place=$build/debian
rm -rf "$place"
for engine in torch python server; do
	[ -e "$build/moult-engine-$engine.so" ] || { echo "SKIP: no engine $engine here"; exit 77; }
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
	"$@" >"$log" 2>&1 || { tail -n 60 "$log"; echo "FAIL: $*"; exit 1; }
}

said=$(dpkg-parsechangelog -l "$source/debian/changelog" -S Version)
grep -q "^project(moult VERSION $said " "$source/CMakeLists.txt" || {
	echo "FAIL: debian/changelog is of version $said, and CMakeLists.txt is not"
	exit 1
}

mkdir -p "$place/tree" "$place/next"
cd "$source"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
	tar --null --ignore-failed-read -T - -c | tar -x -C "$place/tree"
cd "$place/tree"
[ "${MOULT_DEBIAN_BUILD:-}" ] || export BUILT=$build
export DEB_BUILD_OPTIONS=noautodbgsym
quietly dpkg-buildpackage --build=binary --unsigned-changes
cd "$place"
rm -rf tree

if ! lintian --allow-root --fail-on error,warning \
	./*.changes >"$log" 2>&1; then
	cat "$log"
	echo "FAIL: lintian has something to say"
	exit 1
fi

# The next version differs by its number.
export DPKG_DEB_COMPRESSOR_TYPE=none
for package in ./*.deb; do
	dpkg-deb --raw-extract "$package" tree
	sed -i "s/\\b$said\\b/$said+next/" tree/DEBIAN/control
	quietly dpkg-deb --root-owner-group --build tree next
	rm -rf tree
done
ls ./*.deb next/*.deb
