# Completion of commands, flags and values for bash: source completions/kennel.bash
_complete_kennel() {
    local IFS=$'\n'
    COMPREPLY=($("$1" --complete -- "${COMP_WORDS[@]:0:COMP_CWORD}" "$2" 2>/dev/null))
}
complete -o default -F _complete_kennel invoke inv
