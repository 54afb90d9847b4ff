#!/usr/bin/env python3
"""Stage 1: write noisy.scp and noise.yaml into data directories, by the fixed procedure.

    corrupt.py --noise FILE [--jobs N] [--part K/N] [--no-audit] DATADIR...

An audit shows what the procedure does to speech. A parallel corpus brings its own noise, and
`--noise` must not be given with one. DATADIR's name up to the first `_` (train, dev, test) says
which recordings a `mix` may use.
"""

from __future__ import annotations

from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import datadir, scoring
from gan_denoise.corruption.noise import load_once
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from kaldi.audit import audit
from kaldi.noisy import brings_noise, corrupt, noise_of
from kaldi.options import sharing

DEFAULT = Path(__file__).resolve().parents[1] / "conf/noise.yaml"


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--noise",
        type=Path,
        metavar="FILE",
        help="file that describes the noise (default conf/noise.yaml)",
    )
    sharing(parser)
    parser.add_argument(
        "--check", action="store_true", help="only check that the data have this noise"
    )
    parser.add_argument(
        "--no-audit", action="store_true", help="leave out audit.csv, the scores of the noisy files"
    )
    parser.add_argument(
        "datadirs",
        type=Path,
        nargs="*",
        metavar="DATADIR",
        help="data directory; without any, only FILE is checked",
    )
    arguments = parser.parse_args()
    noise, jobs, part = arguments.noise or DEFAULT, arguments.jobs, arguments.part
    if not arguments.datadirs:
        load_once(noise).fingerprint(16000)  # which reads the recordings of its `mix`
    if not (arguments.no_audit or part):  # whose workers score afterwards
        scoring.preload()
    for folder in arguments.datadirs:
        if brings_noise(folder) and arguments.noise:
            raise InputError(f"{folder}: this corpus brings its own noise: leave out --noise")
        data, audited = datadir.read(folder), folder / "audit.csv"
        record = noise_of(folder, data, noise)
        if arguments.check:
            if not (folder / "noise.yaml").is_file():
                raise InputError(f"{folder}: has no noise yet: run stage 1 first")
            continue
        with owning(folder, shared=bool(part)):
            if corrupt(folder, data, noise, record, jobs, part):
                audited.unlink(missing_ok=True)
            elif not part:
                say(f"stage 1: {folder} is up to date")
            if not (part or arguments.no_audit or audited.is_file()):
                audit(folder, jobs)


if __name__ == "__main__":
    main()
