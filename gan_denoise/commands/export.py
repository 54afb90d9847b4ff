"""gan-denoise export: a model as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from gan_denoise.commands.arguments import model_folder
from gan_denoise.system.terminal import say


def add(commands) -> None:
    parser = commands.add_parser("export", allow_abbrev=False, help="write a model as ONNX")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="model directory, or files or live of the package",
    )
    parser.add_argument(
        "output",
        type=Path,
        metavar="OUT.onnx",
        help="graph of whole signals; a model that streams writes OUT.stream.onnx too",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gan_denoise.export import export

    folder = model_folder(arguments.model)
    for line in export(folder, arguments.output, overwrite=arguments.overwrite):
        say(line)
    return 0
