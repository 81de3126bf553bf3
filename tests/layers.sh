#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Dependencies point one way, and moultd links no framework.
source=$1
build=$2
fail() { echo "$1"; exit 1; }
cd "$source" || exit 1
if grep -n '#include "\(supervisor\|loader\)/' shared/*.[ch]; then
	fail "shared/ includes supervisor/ or loader/"
fi
grep -n '#include "loader/' supervisor/*.[ch] && fail "supervisor/ includes loader/"
grep -rn '#include "supervisor/' loader && fail "loader/ includes supervisor/"
for binary in moultd moult-loader moultctl moult-nvml moult-log; do
	if readelf -d "$build/$binary" | grep -E 'NEEDED.*(torch|c10|cuda|nvidia)'; then
		fail "$binary links a framework"
	fi
done
exit 0
