#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# README's apt line and .ci/install name the same packages, in the same order.
cd "$1" || exit 1
wanted=$(.ci/install demo --list) || exit 1
# The option before the first package ends in "\", and so does each line but the last.
told=$(sed -n '/^    .*apt-get install/,/[^\\]$/{s/.*--no-install-recommends//;s/\\$//;p}' README.md |
	xargs)
[ -n "$told" ] || { echo "README.md: no line with apt-get install"; exit 1; }
[ "$told" = "$wanted" ] && exit 0
echo "README.md:   $told"
echo ".ci/install: $wanted"
exit 1
