#!/usr/bin/env python3
"""Stage 3: the noisy recordings of data directories, enhanced by a model.

    enhance.py [--jobs N] [--part K/N] MODEL DATADIR OUT [DATADIR OUT]...

writes OUT/enhanced/ and OUT/enhanced.scp for each DATADIR.

OUT/enhanced.made says what every file was made from, and by which weights and code: the same
command again makes those anew whose noisy recording, or model, or code that enhances, has changed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import datadir
from gan_denoise.provenance import overlap
from gan_denoise.system import terminal, workers
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from kaldi.enhanced import enhance_one
from kaldi.maker import Maker, maker_of
from kaldi.options import Part, sharing
from kaldi.stage import Making, list_files, make


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument("model", type=Path, metavar="MODEL", help="model directory")
    parser.add_argument(
        "places",
        type=Path,
        nargs="+",
        metavar="DATADIR OUT",
        help="data directory, and the folder for its enhanced files",
    )
    arguments = parser.parse_args()
    if len(arguments.places) % 2:
        parser.error("every DATADIR needs an OUT behind it")
    maker = maker_of(arguments.model)
    workers.preload("gan_denoise.enhance")
    for folder, out in zip(arguments.places[::2], arguments.places[1::2], strict=True):
        with owning(out, shared=bool(arguments.part)):
            enhance(arguments.model, maker, folder, out, arguments.jobs, arguments.part)


def enhance(model: Path, maker: Maker, folder: Path, out: Path, jobs: int, part: Part) -> None:
    """Raises InputError where a recording of this part fails, after doing the others."""
    data, target = datadir.read(folder, noisy=True), (out / "enhanced").resolve()
    if met := overlap.met(model, data, jobs=jobs):
        say(f"stage 3: WARNING: {model} was trained on {met} of {folder}")
    files = {key: target / f"{key}{data.noisy[key].suffix}" for key in data.utt_ids}
    rests_on, table = ("enhanced", *maker), out / "enhanced.made"
    making = Making(data, (data.noisy,), files, table, rests_on, tuple(maker))
    work = partial(enhance_one, model=model, weights=maker.weights, one_thread=jobs > 1)
    label = f"stage 3: {out}, {folder.name}"
    done = make(making, work, label=label, jobs=jobs, part=part)
    if done.utt_ids:
        why = f", {done.renewed} of them made before by other weights or other code"
        say(f"{label}: {len(done.utt_ids)} recordings{why if done.renewed else ''}")
    if not part:
        list_files(out / "enhanced.scp", files)


if __name__ == "__main__":
    main()
