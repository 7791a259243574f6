"""One command for everything: its first word names a command, which gets the arguments that follow."""

import argparse
import difflib
import sys
from importlib import import_module
from typing import NamedTuple

from robustgap import __version__


class Verb(NamedTuple):
    """Where a command lives: `main(arguments, prog)` of a module; `group` is its place in the help."""

    group: str
    module: str
    help: str
    leading: tuple[str, ...] = ()

    def run(self, name: str, arguments: list[str]) -> int:
        prog = "robustgap" if self.leading else f"robustgap {name}"
        status: int = import_module(self.module).main([*self.leading, *arguments], prog)
        return status


VERBS = {
    "plan": Verb("a study", "robustgap.workflow.grid", "what a study trains, and what it costs"),
    "study": Verb("a study", "robustgap.workflow.run_study", "run a study with Snakemake, to its report"),
    "unlock": Verb("a study", "robustgap.workflow.unlock", "release the lock of a Snakemake that no longer runs"),
    "measures": Verb("measures", "robustgap.measures.__main__", "list, card, new, run"),
    **{
        name: Verb("a ledger, or a table of your own", "robustgap.analysis.__main__", text, (name,))
        for name, text in {
            "statistics": "every statistic, as tables",
            "claims": "a verdict on each measure",
            "correlate": "tau, psi and pi of a table",
            "figures": "every figure",
            "tables": "the tables of the report, as CSV and LaTeX",
            "report": "the report, one HTML file",
            "interim": "ledger and report of a study from its results so far",
            "ledger": "collect the results of a study into its ledger",
        }.items()
    },
}
EXAMPLES = """examples:
  robustgap plan digits                               what will be trained, and how long it takes
  robustgap study digits --cores 4                    train, measure and report
  robustgap measures card boundary_thickness          everything about one measure
  robustgap statistics digits --out DIR               every statistic of the ledger that ships
  robustgap claims models.csv --axes defense,batch_size --outcome gap --out DIR
  robustgap COMMAND --help                            options of a command
"""
COMPLETED = ("robustgap.workflow.grid", "robustgap.workflow.unlock", "robustgap.measures.__main__")  # need no torch


def parser(command: bool = True) -> argparse.ArgumentParser:
    groups: dict[str, list[str]] = {}
    for name, verb in VERBS.items():
        groups.setdefault(verb.group, []).append(f"  {name:12}{verb.help}")
    listed = "\n\n".join(f"{group}:\n" + "\n".join(lines) for group, lines in groups.items())
    top = argparse.ArgumentParser(
        prog="robustgap",
        description="Which measurable property of a network predicts its robust generalization gap?",
        epilog=f"{listed}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"robustgap {__version__}")
    shells = ("bash", "zsh", "tcsh")
    top.add_argument("--print-completion", choices=shells, help="print the completion script of a shell")
    if command:
        top.add_argument("command", nargs="?", metavar="COMMAND", help="one of those below")
    return top


def completion(shell: str) -> str:
    """The completion script of a shell, for all commands and their options."""
    import shtab

    from robustgap.analysis.__main__ import add_commands

    top = parser(command=False)
    commands = top.add_subparsers()
    add_commands(commands)
    for name, verb in VERBS.items():
        if verb.module in COMPLETED:
            options = import_module(verb.module).parser(f"robustgap {name}")
            commands.add_parser(name, parents=[options], add_help=False, help=verb.help)
    return shtab.complete(top, shell)


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in VERBS:
        return VERBS[arguments[0]].run(arguments[0], arguments[1:])
    top = parser()
    given, others = top.parse_known_args(arguments)
    if given.print_completion:
        print(completion(given.print_completion))
        return 0
    if others and given.command is None:
        top.error(f"found {others[0]}, wanted one of the commands, or an option of them after it")
    if given.command is None:
        top.print_help()
        return 0
    near = difflib.get_close_matches(given.command, VERBS, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    print(f"error: found command {given.command!r}, wanted one of {', '.join(VERBS)}{hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
