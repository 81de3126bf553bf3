#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mandoc has no warning about a manual page that is installed, and each page of ours that
# they refer to is installed too.
source=$1
build=$2
command -v mandoc >/dev/null || { echo "there is no mandoc"; exit 77; }
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM

DESTDIR=$stage cmake --install "$build" >/dev/null || exit 1
pages=$(find "$stage" -path '*/man/man[1-8]/*' -type f)
count=$(find "$source/supervisor" "$source/loader" -name '*.[1-8]' -o -name '*.[1-8].in' |
	wc -l)
if [ "$(echo "$pages" | wc -l)" -ne "$count" ]; then
	echo "the source has $count pages; these are installed:"
	echo "$pages"
	exit 1
fi
status=0
for page in $pages; do
	mandoc -Tlint -Wwarning "$page" || status=1
	# A macro that does not begin its line is text.
	if mandoc -Tutf8 "$page" | sed 's/.\x08//g' | grep -E '(^|[[:space:]])\.[A-Z][a-z]([[:space:]]|$)'
	then
		echo "$page has this macro within a line"
		status=1
	fi
	for other in $(sed -n 's/^\.Xr \(moult[a-z.-]*\) \([0-9]\).*/\1.\2/p' "$page" | sort -u)
	do
		echo "$pages" | grep -q "/$other\$" && continue
		echo "$page refers to $other, which is not installed"
		status=1
	done
done
exit $status
