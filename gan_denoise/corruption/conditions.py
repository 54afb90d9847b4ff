"""Fresh noise: what corrupts a training utterance anew at every visit.

It is one procedure, or one of several, drawn by shares.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from gan_denoise.corruption.noise import Procedure
from gan_denoise.corruption.scenes import Scenes
from gan_denoise.system.files import digest


class Corruption(Protocol):
    """What turns clean into noisy speech: a Procedure, or several by shares."""

    def fingerprint(self, sample_rate: int) -> str: ...

    def apply(
        self, clean: np.ndarray, utt_id: str, sample_rate: int, *, split: str
    ) -> np.ndarray: ...


class Conditions:
    """Several procedures, of which each visit draws one (None: clean speech stays as it is)."""

    def __init__(self, procedures: Mapping[str, Procedure | None], shares: Mapping[str, float]):
        self._procedures, self._names = dict(procedures), list(procedures)
        total = sum(shares.values())
        self._shares = [shares[name] / total for name in self._names]

    def fingerprint(self, sample_rate: int) -> str:
        """12 hexadecimal digits for the procedures and their shares."""
        fingerprints = {
            name: procedure and procedure.fingerprint(sample_rate)
            for name, procedure in self._procedures.items()
        }
        return digest([fingerprints, self._shares])

    def apply(self, clean: np.ndarray, utt_id: str, sample_rate: int, *, split: str) -> np.ndarray:
        """As Procedure.apply; the procedure is drawn by `utt_id`, the visit's name."""
        which = np.random.default_rng(zlib.crc32(utt_id.encode())).choice(
            len(self._names), p=self._shares
        )
        procedure = self._procedures[self._names[which]]
        return procedure.apply(clean, utt_id, sample_rate, split=split) if procedure else clean


def fresh_noise(
    setting: bool | Mapping[str, float], record: Mapping, folder: Path, procedures: Path
) -> Corruption | None:
    """What an experiment's `fresh_noise` means for a data directory.

    record: the content of its noise.yaml. procedures: the folder of the files noise_NAME.yaml that
    the setting may name. Raises InputError.
    """
    if isinstance(setting, bool):
        return Procedure.of_data(record, folder) if setting else None
    special = {"data": lambda: Procedure.of_data(record, folder), "clean": lambda: None}
    files = {name: procedures / f"noise_{name}.yaml" for name in setting}
    chosen = {
        name: special[name]() if name in special else Procedure.load(path)
        for name, path in files.items()
    }
    return Conditions(chosen, setting)


def build_scenes(options: Mapping | None, record: Mapping, folder: Path) -> Scenes | None:
    """What an experiment's `scenes` means for a data directory.

    record: the content of its noise.yaml. Raises InputError.
    """
    if options is None:
        return None
    needs_procedure = any(options["shares"].get(name) for name in ("procedure", "both"))
    procedure = Procedure.of_data(record, folder) if needs_procedure else None
    return Scenes(options, source="scenes", sample_rate=record["sample_rate"], procedure=procedure)
