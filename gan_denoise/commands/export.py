"""gan-denoise export: a model as ONNX."""

from __future__ import annotations

import argparse

from gan_denoise.commands.arguments import MODEL, model_folder, path
from gan_denoise.system.terminal import say


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model as ONNX",
        description=(
            "Write a model as ONNX, and check that onnxruntime computes the same as torch. A file"
            " that exists is an error unless --overwrite is given."
        ),
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing output files (default: refuse)"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=MODEL,
    )
    parser.add_argument(
        "output",
        type=path,
        metavar="OUT.onnx",
        help="the file for the graph of whole signals; a live model gets OUT.stream.onnx too",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gan_denoise.export import export

    folder = model_folder(arguments.model)
    for line in export(folder, arguments.output, overwrite=arguments.overwrite):
        say(line)
    return 0
