#!/usr/bin/env python3
"""Stage 3: limits to compare with, made with the clean STFT at hand (Hann, 512/128 at 16 kHz).

    oracle.py [--jobs N] [--part K/N] DATADIR MAGNITUDE MASK [DATADIR MAGNITUDE MASK]...

writes enhanced/ and enhanced.scp into the folders MAGNITUDE and MASK, for each DATADIR.

MAGNITUDE: clean magnitude, noisy phase. MASK: the best gain within [0, 1] on every noisy bin, as
mask-based denoisers apply.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_denoise import audio, datadir, terminal, workers
from gan_denoise.noise import istft, stft
from gan_denoise.owner import owning
from gan_denoise.provenance import Provenance, file_digests, made_from
from gan_denoise.terminal import program, progress
from options import Part, sharing

WINDOW_S, HOPS_PER_WINDOW = 0.032, 4
KINDS = ("magnitude", "mask")


def oracle(clean: np.ndarray, noisy: np.ndarray, sample_rate: int, kind: str) -> np.ndarray:
    """(T,), (T,) -> (T,): the STFT magnitude of the first at the phase of the second; mask: where
    that is no amplification.
    """
    hop_length = round(WINDOW_S * sample_rate / HOPS_PER_WINDOW)
    n_fft = hop_length * HOPS_PER_WINDOW
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    spectrum, magnitude = stft(noisy, window, hop_length), np.abs(stft(clean, window, hop_length))
    if kind == "mask":
        magnitude = np.minimum(magnitude, np.abs(spectrum))
    return istft(magnitude * np.exp(1j * np.angle(spectrum)), window, hop_length, len(clean))


def work(task: tuple[Path, Path, dict[str, Path]]) -> None:
    clean, sample_rate = audio.read_mono(task[0], dtype="float64")
    noisy, _ = audio.read_mono(task[1], dtype="float64")
    for kind, path in task[2].items():
        audio.write_wav(path, oracle(clean, noisy, sample_rate, kind), sample_rate)


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    sharing(parser)
    parser.add_argument("places", type=Path, nargs="+", metavar="DATADIR MAGNITUDE MASK")
    arguments = parser.parse_args()
    if len(arguments.places) % 3:
        parser.error("every DATADIR needs a MAGNITUDE and a MASK behind it")
    for data, *places in zip(*[iter(arguments.places)] * 3, strict=True):
        folders = dict(zip(KINDS, places, strict=True))
        with owning(*places, shared=bool(arguments.part)):
            write_oracles(data, folders, arguments.jobs, arguments.part)


def write_oracles(folder: Path, folders: dict[str, Path], jobs: int, part: Part) -> None:
    """Make what is missing of a part, or was made from other recordings. Raises InputError."""
    data = datadir.read(folder, noisy=True)
    utt_ids = part.of(data.utt_ids)
    sources = [
        file_digests({utt_id: files[utt_id] for utt_id in utt_ids}, jobs=jobs)
        for files in (data.wav, data.noisy)
    ]
    files, known, wanted, due = {}, {}, {}, set()
    for kind, out in folders.items():
        files[kind] = {utt_id: (out / f"enhanced/{utt_id}.wav").resolve() for utt_id in utt_ids}
        known[kind] = Provenance(out / "enhanced.made", str(part))
        wanted[kind] = {
            utt_id: made_from(
                "oracle", kind, WINDOW_S, HOPS_PER_WINDOW, *(own[utt_id] for own in sources)
            )
            for utt_id in utt_ids
        }
        due |= set(known[kind].due(wanted[kind], file_digests(files[kind], jobs=jobs)))
    tasks = [
        (data.wav[utt_id], data.noisy[utt_id], {kind: files[kind][utt_id] for kind in folders})
        for utt_id in utt_ids
        if utt_id in due
    ]
    outcomes = workers.each(work, tasks, jobs=jobs)
    for outcome in progress(outcomes, total=len(tasks), label=f"stage 3: oracles of {folder.name}"):
        outcome.value()
        for kind, file in outcome.item[2].items():
            known[kind].add(file.stem, wanted[kind][file.stem], file)
    if part:
        return
    for kind, out in folders.items():
        scp = out / "enhanced.scp"
        if (
            due
            or known[kind].scattered
            or not scp.is_file()
            or datadir.read_scp(scp) != files[kind]
        ):
            known[kind].keep(files[kind])
            datadir.write_table(scp, files[kind])


if __name__ == "__main__":
    main()
