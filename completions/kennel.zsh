# Completion of commands, flags and values for zsh: source completions/kennel.zsh
_complete_kennel() {
    local -a found
    found=("${(@f)$($words[1] --complete -- "${(@)words[1,CURRENT-1]}" "${words[CURRENT]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( $#found )); then compadd -- "${(@)found}"; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _complete_kennel invoke inv
