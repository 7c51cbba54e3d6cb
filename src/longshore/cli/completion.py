"""``longshore completion``: the script that teaches a shell to complete."""

from __future__ import annotations

import sys

from longshore.cli.flags import TEXT, Command, Flag
from longshore.errors import LongshoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed

# All three ask the program itself: `longshore __complete WORD...` prints one candidate a line,
# followed by a tab and what it is. A last line ":file" or ":dir" asks for paths as well, which the
# shells look for themselves: each has its own idea of quotes, ~ and --flag=PATH.
_SCRIPTS = {
    "bash": r"""# bash completion for longshore
_longshore_complete() {
    local current=${COMP_WORDS[COMP_CWORD]} line kind=
    local -a words=() found=()
    local text=${COMP_LINE:0:COMP_POINT}
    read -r -a words <<<"$text"
    if [[ -z $text || $text == *[[:space:]] ]]; then words+=(""); fi
    local last=${words[${#words[@]}-1]}
    while IFS= read -r line; do
        case $line in
            :*) kind=${line#:} ;;
            *) found+=("${line%%$'\t'*}") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
    # bash has split "--flag=value" at the "="; what it replaces is the part after it
    local cut=${last%"$current"} i
    if [[ $current == "=" ]]; then cut=$last current=; fi
    COMPREPLY=()
    for i in "${found[@]}"; do
        COMPREPLY+=("${i#"$cut"}")
        if [[ $i == *= ]]; then compopt -o nospace; fi
    done
    case $kind in
        file) compopt -o default ;;
        dir) compopt -o dirnames ;;
    esac
}
complete -F _longshore_complete longshore
""",
    "zsh": r"""#compdef longshore
# zsh completion for longshore
_longshore() {
    local line kind= entry
    local -a found unfinished
    while IFS= read -r line; do
        entry="${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}"
        case $line in
            :*) kind=${line#:} ;;
            *=$'\t'*) unfinished+=("$entry") ;;
            *) found+=("$entry") ;;
        esac
    done < <("${words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( ${#found} )) && _describe 'longshore' found
    (( ${#unfinished} )) && _describe 'longshore' unfinished -S ''
    [[ -n $kind && $PREFIX == -*=* ]] && compset -P '*='
    case $kind in
        file) _files ;;
        dir) _files -/ ;;
    esac
}
if [ "$funcstack[1]" = "_longshore" ]; then
    _longshore "$@"
else
    compdef _longshore longshore
fi
""",
    "fish": r"""# fish completion for longshore
function __longshore_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    type -q $words[1]; or return
    for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':file' ':dir'
                set -l flag (string match -r -- '^-[^=/]*=' "$current")
                set -l value (string sub -s (math (string length -- "$flag") + 1) -- "$current")
                # fish's own search for paths, which is what a command that it does not know gets
                set -l paths (complete -C "'' $value")
                test $line = ':dir'; and set paths (string match -r '.*/(?:\t.*)?$' -- $paths)
                for path in $paths
                    echo -- "$flag$path"
                end
            case '*'
                echo -- $line
        end
    end
end
complete -c longshore -f -a '(__longshore_complete)'
""",
}


def run(_: App, parsed: Parsed) -> int:
    """Print a script, or write it to a file."""
    script = _SCRIPTS.get(parsed.args[0])
    if script is None:
        raise LongshoreError(
            f"there is no completion for {parsed.args[0]}", hint="it is bash, zsh or fish"
        )
    path = parsed.text("file")
    if not path:
        sys.stdout.write(script)
        return 0
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
    except OSError as err:
        raise LongshoreError(f"cannot write {path}: {err.strerror}") from err
    return 0


COMMAND = Command(
    run,
    usage="[options] {bash|zsh|fish}",
    about="Prints the script that teaches a shell to complete commands, flags and containers.",
    examples=(
        "completion bash > /etc/bash_completion.d/longshore",
        "completion zsh -f _longshore",
        "completion fish > ~/.config/fish/completions/longshore.fish",
    ),
    flags=(Flag("file", "f", TEXT, "Write to a file", metavar="FILE", completes="file"),),
    least=1,
    most=1,
    completes="shell",
)
