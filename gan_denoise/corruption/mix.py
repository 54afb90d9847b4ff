"""Background noise, recorded or synthetic, which `mix:` adds after the inverse STFT."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.config import check_interval, check_keys, check_number
from gan_denoise.corruption.synthetic import SAMPLE_RATE, check_kind, synthesise
from gan_denoise.datadir import SPLITS
from gan_denoise.errors import InputError


class BackgroundNoise:
    """The `mix` part of a procedure: one random noise excerpt for each utterance.

    options: recordings and synthetic kinds for each split, and an SNR range in dB. Raises
    InputError.
    """

    def __init__(self, options: Mapping, *, source: str, folder: Path):
        check_keys(options, ("noise", "snr_db"), source)
        self._source, self._folder = source, folder
        self._loaded: dict[str, list[tuple[np.ndarray, int]]] = {}
        self._resampled: dict[tuple[str, int, int], np.ndarray] = {}
        self._snr_db = check_interval(
            options.get("snr_db"), f"{source}: snr_db", low=-100.0, high=100.0
        )
        check_keys(options.get("noise"), SPLITS, f"{source}: noise")
        self._pieces = {
            split: list(self._parse(split, entries)) for split, entries in options["noise"].items()
        }

    def _parse(self, split: str, entries: Any) -> Iterator[tuple[Path | str, float, float | None]]:
        """The entries as (file, start, end), those of a synthetic kind as (kind, 0, None)."""
        where = f"{self._source}: noise: {split}"
        if not isinstance(entries, list) or not entries:
            raise InputError(
                f"{where}: expected a list, each a path, {{file:, start:, end:}} in seconds, or"
                " {synthetic: kind}"
            )
        for entry in entries:
            if isinstance(entry, Mapping) and "synthetic" in entry:
                check_keys(entry, ("synthetic",), where)
                yield check_kind(entry["synthetic"], where), 0.0, None
                continue
            entry = {"file": entry} if isinstance(entry, str) else entry
            check_keys(entry, ("file", "start", "end"), where)
            name = os.path.expandvars(str(entry.get("file")))
            if "$" in name:
                variable = name[name.index("$") :].split("/")[0]
                raise InputError(
                    f"{where}: {variable} is not set: export it as the folder of your noise"
                    " recordings"
                )
            start, end = entry.get("start", 0), entry.get("end")
            check_number(start, f"{where}: {name}: start (seconds)", low=0.0)
            if end is not None:
                check_number(end, f"{where}: {name}: end (seconds)", low=start)
            yield self._folder / name, start, end

    def _recordings(self, split: str) -> list[tuple[np.ndarray, int]]:
        """The split's excerpts at their own rates, read once: a list of (samples (T,), rate)."""
        if split not in self._pieces:
            raise InputError(f"{self._source}: noise: no recordings for the split {split}")
        if split not in self._loaded:
            loaded = []
            for path, start, end in self._pieces[split]:
                if isinstance(path, str):
                    loaded.append((synthesise(path), SAMPLE_RATE))
                    continue
                samples, rate = audio.read_mono(path, dtype="float64")
                samples = samples[round(start * rate) : None if end is None else round(end * rate)]
                if not samples.any():
                    raise InputError(
                        f"{path}: from {start} to {end or 'its end'} s there is no sound: choose"
                        " another part"
                    )
                loaded.append((samples, rate))
            self._loaded[split] = loaded
        return self._loaded[split]

    def identity(self) -> dict:
        """What the fingerprint covers: the samples themselves, not where they lie."""
        return {
            "snr_db": self._snr_db,
            **{
                split: [
                    [hashlib.sha256(samples.tobytes()).hexdigest(), rate]
                    for samples, rate in self._recordings(split)
                ]
                for split in self._pieces
            },
        }

    def excerpt(
        self, clean: np.ndarray, draws: np.ndarray, utt_id: str, sample_rate: int, split: str
    ) -> np.ndarray:
        """A noise excerpt as long as `clean` (T,), scaled to an SNR within the range: (T,).

        Short recordings are repeated. draws: three numbers in [0, 1), which choose the recording,
        the place in it and the SNR.
        """
        which, offset, level = draws
        index = int(which * len(self._recordings(split)))
        samples = self._at_rate(split, index, sample_rate)
        start = int(offset * max(1, len(samples) - len(clean) + 1))
        excerpt = np.resize(samples[start:], len(clean))
        power = np.mean(excerpt**2)
        if power == 0.0:
            raise InputError(
                f"{self._source}: {split}: the excerpt drawn for {utt_id} is silent: cut the"
                " silence out"
            )
        low, high = self._snr_db
        snr_db = low + level * (high - low)
        return excerpt * np.sqrt(np.mean(clean**2) / power * 10.0 ** (-snr_db / 10.0))

    def _at_rate(self, split: str, index: int, sample_rate: int) -> np.ndarray:
        samples, rate = self._recordings(split)[index]
        key = (split, index, sample_rate)
        if key not in self._resampled:
            self._resampled[key] = audio.resample(samples, rate, sample_rate)
        return self._resampled[key]
