"""gan-denoise is the library on the command line; each command is a module of commands/.

The commands and serve/ talk to people; the rest of the library does not. __main__.py starts this
program.
"""

from __future__ import annotations

import argparse
from typing import Any

from gan_denoise import __version__
from gan_denoise.commands import corrupt, enhance, explain, export, score, stream
from gan_denoise.errors import InputError
from gan_denoise.serve import command as serve
from gan_denoise.system.terminal import Command, Parser, tell

COMMANDS = (corrupt, enhance, stream, serve, export, explain, score)
SHELLS = ("bash", "zsh", "tcsh")


def main() -> int:
    arguments = parser().parse_args()
    return arguments.run(arguments)


def parser() -> Parser:
    """Of all commands; `run` of what it gives does the one that was asked for."""
    program = Parser(
        prog="gan-denoise",
        description="Remove noise from speech, add noise to speech, and score denoisers.",
        epilog=(
            "COMMAND --help lists the options of a command. The exit status is 0 if everything was"
            " done, 1 if something failed, 2 for wrong usage."
        ),
    )
    program.add_argument("--version", action="version", version=f"gan-denoise {__version__}")
    program.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=SHELLS,
        help="print a script that completes words in this shell (needs shtab), and exit",
    )
    commands = program.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Command
    )
    for command in COMMANDS:
        command.add(commands)
    return program


class _PrintCompletion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        shell: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            import shtab
        except ModuleNotFoundError as error:
            raise InputError(
                "--print-completion", f"needs one more package ({error.name})", "pip install shtab"
            ) from error
        tell(shtab.complete(parser, shell))
        parser.exit()
