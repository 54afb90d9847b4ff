#!/usr/bin/env python3
"""Stage 0 for several corpora: each one's data directory, and DATA/{train,dev,test} of all.

    combine.py --corpus DIR --corpus DIR [...] [as prepare.py] DATA

After Kaldi's combine_data.sh. Each corpus becomes DATA/corpora/NAME, by the speakers that the split
file names there. utt_ids and speakers are those of the single corpora, so the noise is the same;
where two corpora share one, all of them get the prefix `NAME-`. DATA/corpus.yaml says whose
speakers they are: tables then have a section for each corpus.
"""

from __future__ import annotations

from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise.datadir import SPLITS
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program
from kaldi.combination import combine, names_of, splits_of
from kaldi.options import positive, sharing
from kaldi.preparation import Request, check, prepare
from kaldi.splits import read_split


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--corpus",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="a corpus; once for each",
    )
    parser.add_argument(
        "--split", type=Path, metavar="FILE", help="YAML file with the speakers of dev and test"
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
        "--equal-names",
        choices=("one", "apart"),
        default="one",
        help=(
            "whether speakers of the same name in two corpora are one person (one, default) or two"
            " (apart)"
        ),
    )
    parser.add_argument(
        "--check", action="store_true", help="only check that DATA was made from what is named here"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder to write")
    arguments = parser.parse_args()
    data, part = arguments.data, arguments.part
    corpora = names_of(arguments.corpus, data)
    split = read_split(arguments.split) if arguments.split else None
    splits = splits_of(corpora, split) if split else {}
    for name, corpus in corpora.items():
        request = Request(corpus, arguments.sample_rate, arguments.subset, splits.get(name))
        if arguments.check:
            check(request, data / "corpora" / name)
        elif arguments.sample_rate is None:
            parser.error("--sample-rate is needed to prepare data")
        else:
            prepare(request, data / "corpora" / name, jobs=arguments.jobs, part=part)
    if not arguments.check and not part:
        with owning(data, *(data / name for name in SPLITS)):
            combine(data, list(corpora), split, arguments.equal_names == "one")


if __name__ == "__main__":
    main()
