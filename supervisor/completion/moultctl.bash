# SPDX-License-Identifier: Apache-2.0
# Completion of moultctl(1) for bash: moultctl itself knows what a line may become.
_moultctl()
{
	local offers
	COMPREPLY=()
	offers=$("$1" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
	[ $? -eq 4 ] && compopt -o default
	[ -z "$offers" ] || mapfile -t COMPREPLY <<<"$offers"
}
complete -F _moultctl moultctl
