"""The command `dpsynth`: lists what there is, or runs one of them as `python -m experiments.NAME` would."""

from __future__ import annotations

import ast
import runpy
import sys

from dpsynth import __version__
from dpsynth.errors import nearest
from dpsynth.places import COMMANDS, COMMANDS_PACKAGE

# In the order in which one meets them.
NAMES = ("schema", "plan", "train", "sample", "verify", "evaluate", "audit", "report", "benchmark")

# Hydra completes settings, given a line without the command's name; "=" must not break words for that.
_COMPLETION = """_dpsynth() {
  local choices="%s"
  if (( COMP_CWORD > 1 )); then
    choices=$(COMP_LINE="dpsynth ${COMP_LINE#*${COMP_WORDS[1]} }" dpsynth "${COMP_WORDS[1]}" -sc query=bash)
  fi
  COMPREPLY=($(compgen -W "$choices" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _dpsynth dpsynth"""


def summary(name: str) -> str:
    """Returns the first sentence about a command, which its module opens with; imports nothing."""
    text = (COMMANDS / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].partition(":")[0].rstrip(".") + "."


def listing() -> str:
    """Returns what `dpsynth` alone prints."""
    lines = [f"  {name:<10} {summary(name)}" for name in NAMES]
    help_lines = [
        "dpsynth COMMAND --help says what can be set; dpsynth --version which version this is.",
        'eval "$(dpsynth completion)" completes words in bash (zsh: after bashcompinit).',
    ]
    return "\n".join(["dpsynth COMMAND [SETTING=VALUE ...]", "", *lines, "", *help_lines])


def main() -> None:
    """Runs the command that the first word names, with the other words; exit code 2 if there is none such."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if word in ("-h", "--help", "help"):
        print(listing())
    elif word == "--version":
        print(f"dpsynth {__version__}")
    elif word == "completion":
        print(_COMPLETION % " ".join(NAMES))
    elif word not in NAMES:
        print(f"dpsynth: {word!r} is not a command. {nearest(word, NAMES)}", file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv = sys.argv[1:]
        runpy.run_module(f"{COMMANDS_PACKAGE}.{word}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
