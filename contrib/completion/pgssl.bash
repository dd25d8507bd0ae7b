# SPDX-License-Identifier: ISC
#
# Completion for bash. The options and the kinds of their values are those that pgssl --help prints.
_pgssl()
{
	local cur=$2 prev=$3 line kind= options= IFS=$' \t\n'
	# Bash makes the "=" of --option=value a word of its own.
	[[ $cur == = ]] && cur=
	[[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}
	while IFS= read -r line; do
		[[ $line =~ ^\ +((-.),\ )?\ *(--[a-z-]+)(\[?=([^] ]+))? ]] || continue
		options+=" ${BASH_REMATCH[2]} ${BASH_REMATCH[3]}"
		[[ ${BASH_REMATCH[4]} != =* ]] || options+="="
		[[ $prev == "${BASH_REMATCH[3]}" || $prev == "${BASH_REMATCH[2]}" ]] && kind=${BASH_REMATCH[5]}
	done < <("$1" --help 2>/dev/null)

	COMPREPLY=()
	case $kind in
		FILE | PATH) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		DIRECTORY) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		USER) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
		GROUP) mapfile -t COMPREPLY < <(compgen -g -- "$cur") ;;
		*'|'*) mapfile -t COMPREPLY < <(compgen -W "${kind//|/ }" -- "$cur") ;;
		'')
			mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
			[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
			;;
	esac
}
complete -F _pgssl pgssl
