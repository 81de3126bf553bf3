#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: verify.sh BUILD_DIR
#
# The installed units, as systemd itself reads them: "systemd-analyze verify" must have
# nothing to say (an unknown key is dropped with no more than a message, and the service
# then means something else), and the sandbox must stay as tight as it is.  Exit 77: no
# systemd-analyze here.

set -eu

build=$(cd "$1" && pwd)
if ! command -v systemd-analyze >/dev/null; then
	echo "SKIP: no systemd-analyze here (Debian: apt install systemd)"
	exit 77
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM

DESTDIR=$stage/root cmake --install "$build" >/dev/null
unit_dir=$(dirname "$(find "$stage/root" -name moultd.service)")

# The programs are looked up where the units say; here that is below the stage.
mkdir "$stage/units"
for unit in moultd.service moultd.socket; do
	sed -E "s,^(Exec[A-Za-z]+=)/,\\1$stage/root/," "$unit_dir/$unit" >"$stage/units/$unit"
done

said=$(cd "$stage/units" &&
	systemd-analyze verify --man=no ./moultd.service ./moultd.socket 2>&1) || {
	echo "$said"
	echo "FAIL: systemd-analyze verify refuses the units"
	exit 1
}
if [ -n "$said" ]; then
	echo "$said"
	echo "FAIL: systemd-analyze verify is not silent"
	exit 1
fi

if ! said=$(systemd-analyze security --offline=yes --threshold=18 --no-pager \
	"$stage/units/moultd.service" 2>&1); then
	echo "$said"
	echo "FAIL: moultd.service is more exposed than 1.8"
	exit 1
fi
echo "$said" | tail -n 1
