"""gan-denoise explain: where a model came from, and what no longer matches."""

from __future__ import annotations

import argparse

from gan_denoise.commands.arguments import MODEL, model_folder, path
from gan_denoise.system.terminal import say, tell

# What the line of the weights, which comes first, says about the model itself
WEIGHTS = {
    True: "; the weights are as they were saved, so the model is not damaged",
    False: "; the weights are not those that were saved",
    None: "",
}


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "explain",
        help="say what a model was trained on, and what has changed since",
        description=(
            "Say what a model was trained on, and what has changed since. A line with ✗ names"
            " something that is no longer as it was in the training, such as the code. It does not"
            " mean that the model is damaged, unless it is the line of the weights."
        ),
    )
    parser.add_argument(
        "--data",
        type=path,
        metavar="DIR",
        help="the folder of the training data (default: the folder data beside the model's exp)",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gan_denoise.provenance import origin

    tree = origin.explain(model_folder(arguments.model), arguments.data)
    tell(*origin.render(tree))
    if count := origin.broken(tree):
        say(f"note: {count} of these no longer match (✗){WEIGHTS[tree.children[0].holds]}")
    return 0
