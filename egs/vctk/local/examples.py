#!/usr/bin/env python3
"""The committed examples: a few utterances clean and noisy, and a picture of their spectrograms.

examples.py DATADIR OUT UTT_ID...
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
import soundfile as sf
from PIL import Image

from gan_denoise import audio, datadir
from gan_denoise.errors import InputError
from gan_denoise.signal.numpy_stft import spectrogram_db
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import program

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DATADIR", help="data directory")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("utt_ids", nargs="+", metavar="UTT_ID", help="utterance to show")
    arguments = parser.parse_args()
    data = datadir.read(arguments.data, noisy=True)
    figure, axes = pyplot.subplots(
        2, len(arguments.utt_ids), figsize=(4 * len(arguments.utt_ids), 4), squeeze=False
    )
    for column, utt_id in enumerate(arguments.utt_ids):
        if utt_id not in data.wav:
            raise InputError(f"{arguments.data}: has no utterance {utt_id}")
        loudest_db = None
        for row, (kind, path) in enumerate(
            (("clean", data.wav[utt_id]), ("noisy", data.noisy[utt_id]))
        ):
            wave, sample_rate = audio.read_mono(path, dtype="float64")
            file = io.BytesIO()
            sf.write(
                file,
                audio.to_pcm16(wave / max(1.0, np.abs(wave).max() * 1.001)),
                sample_rate,
                format="FLAC",
            )
            write_atomically(arguments.out / f"{utt_id}_{kind}.flac", file.getvalue())
            picture = spectrogram_db(wave, sample_rate)
            loudest_db = picture.max() if loudest_db is None else loudest_db
            extent = (0, len(wave) / sample_rate, 0, sample_rate / 2000)
            limits = {"vmin": loudest_db - 80, "vmax": loudest_db}
            axis = axes[row][column]
            axis.imshow(
                picture, origin="lower", aspect="auto", extent=extent, cmap="magma", **limits
            )
            axis.set_title(f"{utt_id}, {kind}", fontsize=10)
            axis.set_xlabel("s") if row else axis.set_xticks([])
            axis.set_ylabel("kHz") if column == 0 else axis.set_yticks([])
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    small = io.BytesIO()
    Image.open(file).convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    write_atomically(arguments.out / "spectrograms.png", small.getvalue())


if __name__ == "__main__":
    main()
