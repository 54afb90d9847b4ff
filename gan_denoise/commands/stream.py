"""gan-denoise stream: denoise raw samples live, between pipes."""

from __future__ import annotations

import argparse
import sys

from gan_denoise.commands import arguments as options
from gan_denoise.commands.enhance import denoiser
from gan_denoise.errors import InputError
from gan_denoise.system.terminal import say


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "stream",
        help="remove noise live from raw samples between two pipes",
        description=(
            "Remove noise live from raw samples between two pipes. The samples are mono, signed, 16"
            " bits, little-endian (s16le). The output is later than the input: 32 ms at 16 kHz."
        ),
    )
    parser.add_argument(
        "--sample-rate",
        type=options.positive,
        metavar="HZ",
        help="sample rate of input and output (default: the model's, 16000 for live)",
    )
    parser.add_argument(
        "--high-band",
        choices=("model", "drop"),
        help=(
            "what to do with frequencies above half of the model's sample rate: lower their noise"
            " (model, default of the packaged model) or drop them (drop, default of others)"
        ),
    )
    options.add_limit(parser)
    options.add_model(parser, "live")
    parser.add_argument("-q", "--quiet", action="store_true", help=options.QUIET)
    for name in ("input", "output"):
        parser.add_argument(name, choices=("-",), help=f"standard {name}, always -")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None:
            raise InputError(f"standard {name} is closed", remedy="pipe raw s16le in and out")
        if stream.isatty():
            raise InputError(
                f"standard {name} is a terminal, not audio", remedy="pipe raw s16le in and out"
            )
    from gan_denoise.enhance import mix_for_limit
    from gan_denoise.live import live

    # A hop is too little to share
    model = denoiser(arguments.model, arguments.device, one_thread=True)
    return live(
        model,
        arguments.sample_rate or model.sample_rate,
        sys.stdin.fileno(),
        sys.stdout.fileno(),
        (lambda line: None) if arguments.quiet else say,
        mix=1.0 if arguments.atten_lim is None else mix_for_limit(arguments.atten_lim),
        high_band=arguments.high_band,
        strength=arguments.strength,
    )
