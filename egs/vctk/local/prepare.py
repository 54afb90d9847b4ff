#!/usr/bin/env python3
"""Stage 0: from a corpus to Kaldi data directories DATA/train, DATA/dev and DATA/test.

    prepare.py --corpus DIR [--split FILE] [--subset N] [--sample-rate HZ] [--jobs N] [--part K/N]
               DATA

Each of the three has speakers of its own. Recordings that are already mono at the wanted rate are
used where they lie; others are converted into DATA/local. Bad recordings are reported, listed in
DATA/skipped and left out. DATA/corpus.yaml and, for every recording, DATA/local/prepared.made say
what was made from what: the same command again prepares what has changed.
"""

from __future__ import annotations

from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program
from kaldi.options import positive, sharing
from kaldi.preparation import Request, check, prepare
from kaldi.splits import read_split


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="the corpus")
    parser.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="YAML file with the speakers of dev and test; the others are train (default: a rule)",
    )
    parser.add_argument(
        "--subset",
        type=positive,
        metavar="N",
        help="most recordings of each speaker (default: all)",
    )
    parser.add_argument(
        "--sample-rate", type=positive, metavar="HZ", help="sample rate of the data"
    )
    sharing(parser)
    parser.add_argument(
        "--check", action="store_true", help="only check that DATA was made from what is named here"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder to write")
    arguments = parser.parse_args()
    split = read_split(arguments.split) if arguments.split else None
    request = Request(arguments.corpus, arguments.sample_rate, arguments.subset, split)
    if arguments.check:
        check(request, arguments.data)
    elif request.corpus is None or request.sample_rate is None:
        parser.error("--corpus and --sample-rate are needed to prepare data")
    else:
        prepare(request, arguments.data, jobs=arguments.jobs, part=arguments.part)


if __name__ == "__main__":
    main()
