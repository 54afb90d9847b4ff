#!/usr/bin/env python3
"""Stage 4: EXPDIR/scores.csv, one row per utterance, from EXPDIR/enhanced.scp.

    score.py [--jobs N] [--part K/N] [--metrics NAMES] [--which last|best]
             DATADIR EXPDIR... [--then DATADIR EXPDIR...]...

An EXPDIR with a model is scored under its experiment's name and seed; others (noisy, oracle_mag)
under their own name. EXPDIR/noisy needs no enhanced.scp. scores.yaml says what the scores were made
from: as long as that is so, they are not made again. A DATADIR named test_NAME is a further
condition, with folders of its own: EXPDIR/conditions/NAME. Exit status 3: all was scored that could
be, and the columns <metric>_reason say why the rest was not.
"""

from __future__ import annotations

from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import datadir
from gan_denoise.metrics import OPTIONAL
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program
from kaldi.maker import WHICH
from kaldi.options import sharing
from kaldi.scores import ScoredSystem, further_metrics, score

INCOMPLETE = 3


@program
def main() -> int:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument(
        "--metrics",
        type=further_metrics,
        default=(),
        metavar="NAMES",
        help=f"further metrics, separated by commas (default none), of {', '.join(OPTIONAL)}",
    )
    parser.add_argument(
        "--which",
        choices=WHICH,
        default="last",
        help="the model of each run that is tested (default last)",
    )
    parser.add_argument("data", type=Path, metavar="DATADIR", help="data directory of the test")
    parser.add_argument(
        "exps", type=Path, nargs="+", metavar="EXPDIR", help="folder of a system to be scored"
    )
    parser.add_argument(
        "--then",
        type=Path,
        nargs="+",
        action="append",
        default=[],
        metavar=("DATADIR", "EXPDIR"),
        help="another data directory, and the systems to score on it",
    )
    arguments = parser.parse_args()
    if any(len(places) < 2 for places in arguments.then):
        parser.error("--then: every DATADIR needs an EXPDIR behind it")
    complete = True
    for folder, *exps in [[arguments.data, *arguments.exps], *arguments.then]:
        data = datadir.read(folder, noisy=True)
        for exp in exps:
            system = ScoredSystem(exp, folder, data, arguments.metrics, arguments.which)
            complete &= score(system, arguments.jobs, arguments.part)
    return 0 if complete else INCOMPLETE


if __name__ == "__main__":
    main()
