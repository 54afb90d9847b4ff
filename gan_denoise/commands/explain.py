"""gan-denoise explain: where a model came from, and what no longer matches."""

from __future__ import annotations

import argparse
from pathlib import Path

from gan_denoise.commands.arguments import model_folder
from gan_denoise.system.terminal import say, tell


def add(commands) -> None:
    parser = commands.add_parser(
        "explain",
        allow_abbrev=False,
        help="say where a model came from, and what no longer matches",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of train and dev (data, beside the model's exp)",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="model directory, or files or live of the package"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gan_denoise.provenance import origin

    tree = origin.explain(model_folder(arguments.model), arguments.data)
    tell(*origin.render(tree))
    if count := origin.broken(tree):
        say(f"note: {count} of these no longer match (✗)")
    return 0
