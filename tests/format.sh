#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every C file looks as .clang-format says. Debian 12's version: others differ in details.
cd "$1" || exit 1
command -v clang-format-14 >/dev/null || { echo "there is no clang-format-14"; exit 77; }
find supervisor loader shared tests \( -name '*.[ch]' -o -name '*.[ch]pp' \) -print0 |
	xargs -0 clang-format-14 --dry-run -Werror
