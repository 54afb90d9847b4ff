#!/usr/bin/env python3
"""Stage 3: the noisy recordings of data directories, enhanced by a model.

    enhance.py [--jobs N] [--part K/N] MODEL DATADIR OUT [DATADIR OUT]...

writes OUT/enhanced/ and OUT/enhanced.scp for each DATADIR.

OUT/enhanced.made says what every file was made from, and by which weights and code: the same
command again makes those anew whose noisy recording, or model, or code that enhances, has changed.
"""

from __future__ import annotations

import functools
from functools import partial
from pathlib import Path

from gan_denoise import datadir, origin, overlap, terminal, workers
from gan_denoise.errors import InputError
from gan_denoise.owner import owning
from gan_denoise.provenance import Provenance, file_digests, made_from
from gan_denoise.terminal import program, progress, say
from options import Part, sharing


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("places", type=Path, nargs="+", metavar="DATADIR OUT")
    arguments = parser.parse_args()
    if len(arguments.places) % 2:
        parser.error("every DATADIR needs an OUT behind it")
    maker = origin.maker(arguments.model)
    workers.preload("gan_denoise.enhance")
    for data, out in zip(arguments.places[::2], arguments.places[1::2], strict=True):
        with owning(out, shared=bool(arguments.part)):
            enhance(arguments.model, maker, data, out, arguments.jobs, arguments.part)


def enhance(
    model: Path, maker: origin.Maker, folder: Path, out: Path, jobs: int, part: Part
) -> None:
    """Raises InputError where a recording of this part fails, after doing the others."""
    data = datadir.read(folder, noisy=True)
    if met := overlap.met(model, data, jobs=jobs):
        say(f"stage 3: WARNING: {model} was trained on {met} of {folder}")
    target = (out / "enhanced").resolve()
    sources = {key: data.noisy[key] for key in part.of(data.utt_ids)}
    files = {key: target / f"{key}{path.suffix}" for key, path in sources.items()}
    known = Provenance(out / "enhanced.made", str(part))
    known_before = {key: made.more for key, made in known.made.items()}
    noisy = file_digests(sources, jobs=jobs)
    wanted = {key: made_from("enhanced", *maker, noisy[key]) for key in sources}
    due = known.due(wanted, file_digests(files, jobs=jobs))
    work = partial(enhance_one, model=model, weights=maker.weights, one_thread=jobs > 1)
    tasks = [(sources[key], files[key], key) for key in due]
    label, reasons = f"stage 3: {out}, {folder.name}", []
    outcomes = workers.each(work, tasks, jobs=jobs)
    for outcome in progress(outcomes, total=len(tasks), label=label):
        source, file, key = outcome.item
        if outcome.reason:
            reasons.append(
                outcome.reason if key in outcome.reason else f"{source}: {outcome.reason}"
            )
        else:
            known.add(key, wanted[key], file, *maker)
    if reasons:
        raise InputError(f"{label}: {len(reasons)} of {len(tasks)} failed, the first: {reasons[0]}")
    if due:
        others = sum(known_before[key] != maker for key in due if key in known_before)
        why = f", {others} of them made before by other weights or other code" if others else ""
        say(f"{label}: {len(due)} recordings{why}")
    if part:
        return
    if due or known.scattered:
        known.keep(files)
    scp = out / "enhanced.scp"
    if due or not scp.is_file() or datadir.read_scp(scp) != files:
        datadir.write_table(scp, files)


def enhance_one(
    task: tuple[Path, Path, str], *, model: Path, weights: str, one_thread: bool
) -> None:
    from gan_denoise.enhance import enhance_file  # with torch, by those who have something to do

    source, target, _ = task
    enhance_file(_denoiser(model, weights, one_thread), source, target)


@functools.cache
def _denoiser(model: Path, weights: str, one_thread: bool):
    """The model, loaded once in each process; weights: their digest, since they may change."""
    import torch

    from gan_denoise.enhance import Denoiser

    if one_thread:  # several jobs share the cores among themselves
        torch.set_num_threads(1)
    return Denoiser.load(model)


if __name__ == "__main__":
    main()
