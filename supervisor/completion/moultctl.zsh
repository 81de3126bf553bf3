#compdef moultctl
# SPDX-License-Identifier: Apache-2.0
# Completion of moultctl(1) for zsh: moultctl itself knows what a line may become.
local -a offers
offers=(${(f)"$($words[1] --complete "${(@)words[2,CURRENT]}" 2>/dev/null; print -r -- ".$?")"})
[[ $offers[-1] == .4 ]] && _files && return
offers[-1]=()
compadd -a offers
